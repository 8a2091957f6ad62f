//! File names.

use std::ffi::OsStr;
use std::fmt;
use std::sync::Arc;

use crate::error::FsError;

/// Longest file name in bytes. Source: limits.h, `NAME_MAX`.
pub const NAME_LIMIT_BYTES: usize = 255;

/// One path component that can also be a segment of a key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// A segment of a key, if it can be a file name: not empty, `.` or `..`,
    /// without `/` and NUL, at most `NAME_LIMIT_BYTES`.
    pub fn from_segment(segment: &str) -> Option<Self> {
        Self::is_possible(segment).then(|| Self(segment.into()))
    }

    /// The same without a copy of it.
    pub fn from_shared(segment: Arc<str>) -> Option<Self> {
        Self::is_possible(&segment).then_some(Self(segment))
    }

    /// The text, which is not copied.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }

    fn is_possible(segment: &str) -> bool {
        Self::why_impossible(segment).is_none()
    }

    /// Why a segment cannot be a file name, if it cannot.
    pub fn why_impossible(segment: &str) -> Option<&'static str> {
        match segment {
            "" => Some("it has an empty part"),
            "." => Some("it has the part '.'"),
            ".." => Some("it has the part '..'"),
            long if long.len() > NAME_LIMIT_BYTES => Some("it has a part of more than 255 bytes"),
            odd if odd.contains('/') => Some("it has a part with a '/'"),
            odd if odd.contains('\0') => Some("it has a NUL byte"),
            _ => None,
        }
    }

    /// A name as the kernel sends it.
    ///
    /// Errors: `NameTooLong`; `IllegalName` when it is not UTF-8; `InvalidArgument`
    /// for what no path component can be.
    pub fn from_os(name: &OsStr) -> Result<Self, FsError> {
        if name.len() > NAME_LIMIT_BYTES {
            return Err(FsError::NameTooLong);
        }
        let text = name.to_str().ok_or(FsError::IllegalName)?;
        Self::from_segment(text).ok_or(FsError::InvalidArgument)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn segments_that_cannot_be_file_names_are_refused() {
        for bad in ["", ".", "..", "a/b", "nul\0", &"x".repeat(256)] {
            assert!(Name::from_segment(bad).is_none(), "{bad:?}");
        }
        for good in [
            "a",
            "...",
            "with space",
            "ü",
            "new\nline",
            "%2F",
            &"x".repeat(255),
        ] {
            assert!(Name::from_segment(good).is_some(), "{good:?}");
        }
    }

    #[test]
    fn a_name_that_is_not_utf8_is_illegal() {
        let name = OsStr::from_bytes(b"\xff\xfe");
        assert!(matches!(Name::from_os(name), Err(FsError::IllegalName)));
        let long = "x".repeat(256);
        assert!(matches!(
            Name::from_os(OsStr::new(&long)),
            Err(FsError::NameTooLong)
        ));
    }
}
