//! An overlay, in words.

use super::shown::{counted, line, size, span};
use crate::session::control::answers::OverlayStatus;

/// What the bucket does not have yet; none once the overlay has ended.
pub fn overlay_left(overlay: &OverlayStatus) -> Option<String> {
    let import = &overlay.import;
    match (import.is_ended, import.is_counted) {
        (true, _) => None,
        (false, false) => Some("being counted".to_owned()),
        (false, true) => {
            let files = usize::try_from(import.files_left).unwrap_or(usize::MAX);
            let files = counted(files, "file");
            Some(format!("{files}, {} left", size(import.bytes_left)))
        }
    }
}

pub fn of_overlay(text: &mut String, overlay: &OverlayStatus) {
    let (dir, import) = (&overlay.dir, &overlay.import);
    let mut shown = match overlay_left(overlay) {
        None => format!("{dir} is not needed any more: every object was verified"),
        Some(left) => format!("{dir}: {left}"),
    };
    if import.bytes_per_second > 0 && !import.is_ended {
        shown += &format!(", {} a second", size(import.bytes_per_second));
        shown += &overlay
            .eta_seconds
            .map_or_else(String::new, |left| format!(", about {}", span(left)));
    }
    line(text, "overlay", &shown);
    for place in &import.waits_for {
        let shown = format!("the import waits: the old directory is still seen by {place}");
        line(text, "", &shown);
    }
    for failed in &import.failures {
        line(
            text,
            "  failed",
            &format!("{}: {}", failed.path, failed.why),
        );
    }
    let told = [
        (import.odd, &import.odd_names, "not files, not sent"),
        (
            import.open,
            &import.open_names,
            "open for writing, and sent once closed",
        ),
        (
            import.changed,
            &import.changed_names,
            "changed after they were sent",
        ),
        (
            import.outside_changes,
            &import.outside_names,
            "changed there by others",
        ),
    ];
    for (count, names, what) in told.into_iter().filter(|(count, ..)| *count > 0) {
        line(text, "", &format!("{count} {what}: {}", names.join(", ")));
    }
}
