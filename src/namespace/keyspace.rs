//! Between paths of the mount and keys of the bucket.

use super::Name;
use crate::error::FsError;
use crate::store::Key;

/// The part of a bucket that is mounted: key = prefix + path.
#[derive(Debug, Clone)]
pub struct KeySpace {
    /// Empty, or ends in `/`.
    prefix: String,
}

/// Path of a directory relative to the mount: empty for the root, else ends in `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct DirPath(String);

impl DirPath {
    pub fn root() -> Self {
        Self::default()
    }

    pub fn join(&self, name: &Name) -> Self {
        Self(format!("{}{}/", self.0, name.as_str()))
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory that it lies in; none for the root.
    pub fn parent(&self) -> Option<Self> {
        let path = self.0.strip_suffix('/')?;
        let end = path.rfind('/').map_or(0, |at| at + 1);
        Some(Self(path.get(..end)?.to_owned()))
    }

    /// Whether it is `above` or lies under it.
    pub fn is_within(&self, above: &Self) -> bool {
        self.0.starts_with(&above.0)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl KeySpace {
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// What every key below `dir` begins with; also the key of its marker.
    pub fn dir_prefix(&self, dir: &DirPath) -> String {
        format!("{}{}", self.prefix, dir.0)
    }

    /// Key of the file `name` in `dir`. Errors: `NameTooLong`.
    pub fn file_key(&self, dir: &DirPath, name: &Name) -> Result<Key, FsError> {
        Self::checked(format!("{}{}{}", self.prefix, dir.0, name.as_str()))
    }

    /// Key of the marker object that makes an empty directory persist. Errors: `NameTooLong`.
    pub fn marker_key(&self, dir: &DirPath) -> Result<Key, FsError> {
        Self::checked(self.dir_prefix(dir))
    }

    /// Names from the root down to the file of a key; none for what is not a file of this mount.
    pub fn path_of(&self, key: &Key) -> Option<Vec<Name>> {
        let path = key.as_str().strip_prefix(&self.prefix)?;
        path.split('/').map(Name::from_segment).collect()
    }

    fn checked(key: String) -> Result<Key, FsError> {
        let key = Key::new(key);
        if key.is_too_long() {
            Err(FsError::NameTooLong)
        } else {
            Ok(key)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_prefix_plus_path() {
        let keys = KeySpace::new("media/");
        let dir = DirPath::root().join(&Name::from_segment("public").unwrap());
        let name = Name::from_segment("x.png").unwrap();
        assert_eq!(
            keys.file_key(&dir, &name).unwrap().as_str(),
            "media/public/x.png"
        );
        assert_eq!(keys.marker_key(&dir).unwrap().as_str(), "media/public/");
        let names = keys.path_of(&Key::new("media/public/x.png")).unwrap();
        let names: Vec<_> = names.iter().map(Name::as_str).collect();
        assert_eq!(names, ["public", "x.png"]);
        for elsewhere in ["other/x", "media/", "media/public/", "media/../x"] {
            assert!(keys.path_of(&Key::new(elsewhere)).is_none(), "{elsewhere}");
        }
    }

    #[test]
    fn a_key_over_1024_bytes_is_too_long() {
        let keys = KeySpace::new("p/".repeat(511));
        let fits = Name::from_segment("ab").unwrap();
        let over = Name::from_segment("abc").unwrap();
        assert!(keys.file_key(&DirPath::root(), &fits).is_ok());
        assert!(matches!(
            keys.file_key(&DirPath::root(), &over),
            Err(FsError::NameTooLong)
        ));
    }
}
