//! What systemd gives a service: directories and credentials of its own.
//!
//! Source: systemd.exec(5), "Environment variables in spawned processes".

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the credential that holds an AWS credentials file.
const CREDENTIAL: &str = "aws";

/// `StateDirectory=` of the unit.
pub fn state_dir() -> Option<PathBuf> {
    first_directory(std::env::var_os("STATE_DIRECTORY").as_deref())
}

/// `CacheDirectory=` of the unit.
pub fn cache_dir() -> Option<PathBuf> {
    first_directory(std::env::var_os("CACHE_DIRECTORY").as_deref())
}

/// `LoadCredential=aws:FILE` of the unit, unless it names no profile: so a unit
/// names a file that need not be there, with a comment for a credential in its place.
pub fn credentials_file() -> Option<PathBuf> {
    credential_in(Path::new(&std::env::var_os("CREDENTIALS_DIRECTORY")?))
}

fn credential_in(dir: &Path) -> Option<PathBuf> {
    let file = dir.join(CREDENTIAL);
    let text = fs::read_to_string(&file).ok()?;
    text.lines()
        .any(|line| line.trim_start().starts_with('['))
        .then_some(file)
}

/// A unit may have several, with colons between.
fn first_directory(value: Option<&OsStr>) -> Option<PathBuf> {
    let first = value?.to_str()?.split(':').next()?;
    let path = Path::new(first);
    path.is_absolute().then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_directory_of_a_unit_is_taken() {
        let first = |text: &str| first_directory(Some(OsStr::new(text)));
        assert_eq!(first("/a:/b"), Some("/a".into()));
        assert_eq!(first("/a"), Some("/a".into()));
        assert_eq!(first(""), None);
        assert_eq!(first_directory(None), None);
    }

    #[test]
    fn a_credential_without_a_profile_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(credential_in(dir.path()), None);
        let file = dir.path().join(CREDENTIAL);
        fs::write(&file, "#none").unwrap();
        assert_eq!(credential_in(dir.path()), None);
        fs::write(&file, "[default]\n").unwrap();
        assert_eq!(credential_in(dir.path()), Some(file));
    }
}
