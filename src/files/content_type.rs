//! Content-Type of files.

use crate::namespace::Name;

/// Content-Type of a file by the extension of its name.
pub fn content_type(name: &Name) -> Option<String> {
    mime_guess::from_path(name.as_str())
        .first_raw()
        .map(str::to_owned)
}

/// The content type that a rename changes, if it does: by the extension alone.
pub fn renamed_content_type(from: &Name, to: &Name) -> Option<String> {
    let new = content_type(to);
    if content_type(from) == new { None } else { new }
}
