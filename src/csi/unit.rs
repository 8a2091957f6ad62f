//! The unit of systemd that each volume is an instance of: that of `mediafs@NAME`, with
//! other places, and without what starts it at boot.

use std::path::Path;

const TEMPLATE: &str = include_str!("../../systemd/mediafs@.service");
/// Where a runtime unit lies; gone after a boot, as the mounts are.
/// Source: systemd.unit(5), "Unit File Load Path".
pub const FILE: &str = "/run/systemd/system/mediafs-csi@.service";
/// What differs. A kubelet waits for two minutes, and then asks again.
const CHANGES: [(&str, &str); 6] = [
    (
        "# One mount, as /etc/mediafs/NAME.toml says: systemctl enable --now mediafs@NAME\n\
         #\n\
         # Read `systemctl status mediafs@NAME` for what waits for S3. What differs on one\n\
         # machine goes into a drop-in: systemctl edit mediafs@NAME\n",
        "# One volume of Kubernetes, as its config.toml says. Written by mediafs csi, which starts it.\n",
    ),
    (
        "/etc/mediafs/%i.toml",
        "/var/lib/mediafs/csi/%i/config.toml",
    ),
    ("Directory=mediafs/%i", "Directory=mediafs/csi/%i"),
    (
        "# An AWS credentials file; where there is none, the comment in its place names no profile,\n\
         # and the rest of the AWS chain is asked: web identity, or the role of the machine.\n\
         SetCredential=aws:#none\n\
         LoadCredential=aws:/etc/mediafs/%i.credentials\n",
        "",
    ),
    ("TimeoutStartSec=120s", "TimeoutStartSec=90s"),
    ("TimeoutStopSec=180s", "TimeoutStopSec=90s"),
];
const PROGRAM: &str = "/usr/local/bin/mediafs";
const INSTALL: &str = "\n[Install]\n";

/// The text of the unit, for a program of the host.
pub fn text(program: &Path) -> String {
    let whole = TEMPLATE.replace(PROGRAM, &program.display().to_string());
    let text = CHANGES
        .iter()
        .fold(whole, |text, (from, to)| text.replace(from, to));
    let end = text.find(INSTALL).unwrap_or(text.len());
    text.get(..end).unwrap_or_default().to_owned()
}

/// The unit of a volume.
pub fn of(volume: &str) -> String {
    format!("mediafs-csi@{volume}.service")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_has_something_to_change() {
        for from in CHANGES
            .map(|(from, _)| from)
            .iter()
            .chain(&[PROGRAM, INSTALL])
        {
            assert!(TEMPLATE.contains(from), "{from}");
        }
        let text = text(Path::new("/opt/x/mediafs"));
        assert!(text.contains("ExecStart=/opt/x/mediafs mount --foreground --config /var/lib/mediafs/csi/%i/config.toml\n"));
        assert!(text.contains("StateDirectory=mediafs/csi/%i\n"));
        for gone in [
            "mediafs@",
            "/etc/mediafs",
            "Credential",
            "[Install]",
            "WantedBy",
        ] {
            assert!(!text.contains(gone), "{gone}");
        }
    }
}
