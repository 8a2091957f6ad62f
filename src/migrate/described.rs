//! Owner, mode, time and extended attributes, which `--attributes=stored` keeps with objects.

use std::fs::File;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::XattrFlags;

use super::entry::{Stat, Timestamp};
use super::plan_counts::Work;
use crate::namespace::Attributes;
use crate::vocabulary::{Kind, Xattrs};

/// Permission bits of a mode.
const ALL_BITS: u16 = 0o7777;
/// What a stored mode may grant a file of an export: none of it lends privileges.
pub const GRANTED_BITS: u16 = 0o777;
/// Of all namespaces, the one that applications may use. Source: xattr(7).
const USER: &str = "user.";
/// What a mount tells of a file by itself.
const OWN: &str = "user.mediafs.";
/// Source: limits.h, `XATTR_SIZE_MAX` and `XATTR_LIST_MAX`.
const XATTR_LIMIT_BYTES: usize = 1 << 16;

/// How a file differs from what its object stores; None if it does not.
pub fn difference(work: Work, here: &Stat, xattrs: &Xattrs, there: &Attributes) -> Option<String> {
    if there.kind != Kind::File {
        return Some("what is stored is no file".to_owned());
    }
    if !there.says_something() {
        return None;
    }
    let bits = match work {
        Work::Export => GRANTED_BITS,
        Work::Import | Work::Verify(_) => ALL_BITS,
    };
    let own = (here.mode & u32::from(bits)) as u16;
    let mut found = Vec::new();
    if let Some(mode) = there.mode.map(|mode| mode & bits).filter(|it| *it != own) {
        found.push(format!("mode {own:04o} here, {mode:04o} there"));
    }
    for (what, here, there) in [
        ("owner", here.uid, there.uid),
        ("group", here.gid, there.gid),
    ] {
        if let Some(there) = there.filter(|there| *there != here) {
            found.push(format!("{what} {here} here, {there} there"));
        }
    }
    if there
        .mtime
        .is_some_and(|there| !is_same_time(here.mtime, there))
    {
        found.push("another time of change".to_owned());
    }
    if *xattrs != there.xattrs {
        found.push("other extended attributes".to_owned());
    }
    (!found.is_empty()).then(|| found.join(", "))
}

/// Whether a file's time is the one that is stored, perhaps in whole seconds alone.
pub fn is_same_time(here: Timestamp, stored: SystemTime) -> bool {
    let (seconds, nanoseconds) = match stored.duration_since(UNIX_EPOCH) {
        Ok(after) => (i128::from(after.as_secs()), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let whole = -i128::from(before.as_secs());
            match before.subsec_nanos() {
                0 => (whole, 0),
                part => (whole - 1, 1_000_000_000 - part),
            }
        }
    };
    let is_whole = nanoseconds == 0 || here.1 == 0;
    i128::from(here.0) == seconds && (is_whole || here.1 == i64::from(nanoseconds))
}

/// Extended attributes of a file that a mount would keep with its object. Errors: the disk's.
pub fn xattrs(file: &File) -> io::Result<Xattrs> {
    let mut names = vec![0; XATTR_LIMIT_BYTES];
    let listed = match rustix::fs::flistxattr(file, names.as_mut_slice()) {
        Ok(listed) => listed,
        Err(error) => match io::Error::from(error) {
            // Its file system has none.
            error if error.kind() == io::ErrorKind::Unsupported => return Ok(Xattrs::new()),
            error => return Err(error),
        },
    };
    names.truncate(listed);
    let mut found = Xattrs::new();
    for name in names.split(|byte| *byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else {
            let why = "the name of an extended attribute is not UTF-8";
            return Err(io::Error::other(why));
        };
        if !name.starts_with(USER) || name.starts_with(OWN) {
            continue;
        }
        let mut value = vec![0; XATTR_LIMIT_BYTES];
        let read = rustix::fs::fgetxattr(file, name, value.as_mut_slice())?;
        value.truncate(read);
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}

/// Gives a file those of its object that an application may set.
///
/// Errors: the disk's; its file system has none.
pub fn set_xattrs(file: &File, xattrs: &Xattrs) -> io::Result<()> {
    let ours = xattrs
        .iter()
        .filter(|(name, _)| name.starts_with(USER) && !name.starts_with(OWN));
    for (name, value) in ours {
        let set = rustix::fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty());
        set.map_err(|error| {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("extended attribute {name}: {error}"))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_an_object_tells_of_a_file_is_compared_and_nothing_else() {
        let here = Stat {
            mode: 0o104_755,
            uid: 7,
            gid: 8,
            mtime: (1000, 500),
            ..crate::migrate::tests::some_stat()
        };
        let told = Attributes {
            mode: Some(0o4755),
            uid: Some(7),
            gid: Some(8),
            mtime: Some(UNIX_EPOCH + Duration::new(1000, 500)),
            ..Attributes::default()
        };
        let verify = Work::Verify(crate::migrate::Sides::Both);
        let differ = |there: Attributes| difference(verify, &here, &Xattrs::new(), &there);
        assert_eq!(differ(told.clone()), None);
        assert_eq!(differ(Attributes::default()), None);
        let xattrs = Xattrs::from([("user.k".to_owned(), b"v".to_vec())]);
        for (other, word) in [
            (
                Attributes {
                    mode: Some(0o755),
                    ..told.clone()
                },
                "mode 4755 here, 0755 there",
            ),
            (
                Attributes {
                    uid: Some(1),
                    ..told.clone()
                },
                "owner 7 here, 1 there",
            ),
            (
                Attributes {
                    gid: Some(1),
                    ..told.clone()
                },
                "group 8 here, 1 there",
            ),
            (
                Attributes {
                    mtime: Some(UNIX_EPOCH),
                    ..told.clone()
                },
                "time",
            ),
            (
                Attributes {
                    xattrs: xattrs.clone(),
                    ..told.clone()
                },
                "extended",
            ),
            (
                Attributes {
                    kind: Kind::Symlink,
                    ..told.clone()
                },
                "no file",
            ),
        ] {
            let found = differ(other).unwrap();
            assert!(found.contains(word), "{found}");
        }
        assert!(difference(verify, &here, &xattrs, &told).is_some());
        // An export gives no bits that lend privileges.
        let exported = Stat {
            mode: 0o100_755,
            ..here
        };
        let found = difference(Work::Export, &exported, &Xattrs::new(), &told);
        assert_eq!(found, None);
    }

    #[test]
    fn times_are_the_same_in_whole_seconds_where_one_has_no_more() {
        let at = |seconds: u64, nanoseconds| UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        let before = UNIX_EPOCH - Duration::new(1, 500);
        for (here, stored, same) in [
            ((5, 7), at(5, 7), true),
            ((5, 7), at(5, 0), true),
            ((5, 0), at(5, 7), true),
            ((5, 7), at(5, 8), false),
            ((5, 999), at(6, 0), false),
            ((-2, 999_999_500), before, true),
            ((-1, 999_999_500), before, false),
        ] {
            assert_eq!(is_same_time(here, stored), same, "{here:?} {stored:?}");
        }
    }

    #[test]
    fn extended_attributes_of_applications_are_read_and_set_and_no_others() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let wanted = Xattrs::from([
            ("user.empty".to_owned(), Vec::new()),
            ("user.k".to_owned(), b"v\0".to_vec()),
        ]);
        let mut all = wanted.clone();
        for name in ["user.mediafs.key", "security.capability", "trusted.k"] {
            all.insert(name.to_owned(), b"x".to_vec());
        }
        set_xattrs(&file, &all).unwrap();
        assert_eq!(xattrs(&file).unwrap(), wanted);
    }
}
