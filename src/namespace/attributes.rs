//! Attributes that are stored with an object, in the names of s3fs and rclone.
//!
//! Sources: s3fs-fuse, "FUSE metadata" (`mode`, `uid`, `gid`, `mtime`, `atime`
//! in decimal, `xattr` as percent-encoded JSON of base64 values); rclone, "S3
//! metadata" (`mtime` in decimal seconds with a fraction, `atime` in RFC 3339, `mode` in octal).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::FsError;
use crate::store::{ObjectHeaders, ObjectMeta, UserMetadata};
use crate::vocabulary::{Kind, Xattrs};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Most bytes of user metadata, names and values together. Source: S3 User Guide,
/// "Working with object metadata".
const METADATA_LIMIT_BYTES: usize = 2048;

/// File type bits of a mode. Source: inode(7).
const TYPE_BITS: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
const FIFO: u32 = 0o010_000;
const SOCKET: u32 = 0o140_000;
const CHAR_DEVICE: u32 = 0o020_000;
const BLOCK_DEVICE: u32 = 0o060_000;
/// What every symlink's mode is in Linux.
const SYMLINK_MODE: u32 = SYMLINK | 0o777;

/// What is known of one object version besides its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// What kind of file the object is: a symlink's bytes are the target, the others
    /// but files have none. Never a directory.
    pub kind: Kind,
    /// Permission bits.
    pub mode: Option<u16>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<SystemTime>,
    pub atime: Option<SystemTime>,
    /// Of a device. s3fs keeps none: this name is ours.
    pub rdev: Option<u32>,
    pub xattrs: Xattrs,
    /// All of what the store has, also what means nothing to us.
    pub headers: ObjectHeaders,
}

/// What the store said of the attributes of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub attributes: Arc<Attributes>,
    /// Every object with the same ETag and Last-Modified has them. Until it is old
    /// enough for that, each question needs an answer of its own.
    pub settled: bool,
}

impl From<ObjectMeta> for Described {
    fn from(meta: ObjectMeta) -> Self {
        Self {
            settled: meta.is_settled(),
            attributes: Arc::new(Attributes::decode(meta.headers)),
        }
    }
}

impl Attributes {
    /// What does not parse counts as absent.
    pub fn decode(headers: ObjectHeaders) -> Self {
        let metadata = &headers.user_metadata;
        let text = |name: &str| metadata.get(name).map(String::as_str);
        let mode = text("mode").and_then(parse_mode);
        Self {
            kind: mode.map(kind_of).unwrap_or_default(),
            mode: mode.map(|mode| (mode & 0o7777) as u16),
            uid: text("uid").and_then(parse_id),
            gid: text("gid").and_then(parse_id),
            mtime: text("mtime").and_then(parse_time),
            atime: text("atime").and_then(parse_time),
            rdev: text("rdev").and_then(|rdev| rdev.parse().ok()),
            xattrs: text("xattr").map(parse_xattrs).unwrap_or_default(),
            headers,
        }
    }

    /// Headers that carry these attributes, and whatever else was stored.
    ///
    /// Errors: `NoSpace` when they do not fit the object's metadata.
    pub fn encode(&self, kind: Kind) -> Result<ObjectHeaders, FsError> {
        let mut headers = self.headers.clone();
        let metadata = &mut headers.user_metadata;
        let type_bits = match kind {
            Kind::File => REGULAR,
            Kind::Directory => DIRECTORY,
            Kind::Symlink => SYMLINK,
            Kind::Fifo => FIFO,
            Kind::Socket => SOCKET,
            Kind::CharDevice => CHAR_DEVICE,
            Kind::BlockDevice => BLOCK_DEVICE,
        };
        let mode = self.mode.map(|mode| type_bits | u32::from(mode));
        let texts = [
            ("mode", mode.map(|mode| mode.to_string())),
            ("uid", self.uid.map(|id| id.to_string())),
            ("gid", self.gid.map(|id| id.to_string())),
            ("mtime", self.mtime.map(format_time)),
            ("atime", self.atime.map(format_time)),
            ("rdev", self.rdev.map(|rdev| rdev.to_string())),
            ("xattr", format_xattrs(&self.xattrs)),
        ];
        for (name, text) in texts {
            match text {
                Some(text) => metadata.insert(name.to_owned(), text),
                None => metadata.remove(name),
            };
        }
        if size(metadata) > METADATA_LIMIT_BYTES {
            return Err(FsError::NoSpace);
        }
        Ok(headers)
    }

    /// Whether a file looks the same with other attributes, whatever else is stored.
    pub fn shows_as(&self, other: &Self) -> bool {
        let shown = |it: &Self| Self {
            headers: ObjectHeaders::default(),
            ..it.clone()
        };
        shown(self) == shown(other)
    }

    /// Whether the object says anything of a file's attributes.
    pub fn says_something(&self) -> bool {
        self.mode.is_some()
            || self.uid.is_some()
            || self.gid.is_some()
            || self.mtime.is_some()
            || !self.xattrs.is_empty()
    }
}

fn size(metadata: &UserMetadata) -> usize {
    metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum()
}

/// What kind of file a mode is of; a directory's is an object's like any other.
fn kind_of(mode: u32) -> Kind {
    match mode & TYPE_BITS {
        SYMLINK => Kind::Symlink,
        FIFO => Kind::Fifo,
        SOCKET => Kind::Socket,
        CHAR_DEVICE => Kind::CharDevice,
        BLOCK_DEVICE => Kind::BlockDevice,
        _ => Kind::File,
    }
}

/// A mode with its file type: decimal (s3fs), or octal where only that makes sense (rclone).
fn parse_mode(text: &str) -> Option<u32> {
    let makes_sense = |mode: &u32| match mode & TYPE_BITS {
        0 => *mode <= 0o7777,
        REGULAR | DIRECTORY | FIFO | SOCKET | CHAR_DEVICE | BLOCK_DEVICE => *mode <= 0o177_777,
        SYMLINK => *mode == SYMLINK_MODE,
        _ => false,
    };
    let octal = || u32::from_str_radix(text, 8).ok().filter(makes_sense);
    if text.len() > 1 && text.starts_with('0') {
        return octal();
    }
    text.parse().ok().filter(makes_sense).or_else(octal)
}

/// A user's or group's number; none for what stands for nobody. Source: chown(2).
fn parse_id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// Seconds since 1970, perhaps negative, perhaps with a decimal fraction.
/// Or RFC 3339, as rclone writes every time but mtime.
fn parse_time(text: &str) -> Option<SystemTime> {
    parse_seconds(text).or_else(|| Some(OffsetDateTime::parse(text, &Rfc3339).ok()?.into()))
}

fn parse_seconds(text: &str) -> Option<SystemTime> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let seconds: u64 = seconds.parse().ok().filter(|_| !seconds.starts_with('+'))?;
    let nanoseconds: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let distance = Duration::new(seconds, nanoseconds);
    if sign < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    }
}

/// Nine digits behind the point, or none: s3fs reads the fraction as a count of nanoseconds.
fn format_time(time: SystemTime) -> String {
    let (sign, distance) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => ("", after),
        Err(before) => ("-", before.duration()),
    };
    match distance.subsec_nanos() {
        0 => format!("{sign}{}", distance.as_secs()),
        nanoseconds => format!("{sign}{}.{nanoseconds:09}", distance.as_secs()),
    }
}

fn parse_xattrs(text: &str) -> Xattrs {
    let Ok(json) = percent_decode_str(text).decode_utf8() else {
        return Xattrs::new();
    };
    let values: BTreeMap<String, String> = serde_json::from_str(&json).unwrap_or_default();
    values
        .into_iter()
        .filter_map(|(name, value)| Some((name, BASE64.decode(value).ok()?)))
        .collect()
}

fn format_xattrs(xattrs: &Xattrs) -> Option<String> {
    if xattrs.is_empty() {
        return None;
    }
    let values: BTreeMap<&String, String> = xattrs
        .iter()
        .map(|(name, value)| (name, BASE64.encode(value)))
        .collect();
    let json = serde_json::to_string(&values).ok()?;
    Some(utf8_percent_encode(&json, NON_ALPHANUMERIC).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(pairs: &[(&str, &str)]) -> Attributes {
        let pairs = pairs.iter();
        let user_metadata = pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Attributes::decode(ObjectHeaders {
            user_metadata,
            ..ObjectHeaders::default()
        })
    }

    #[test]
    fn modes_are_read_as_s3fs_and_as_rclone_write_them() {
        for (text, mode, kind) in [
            ("33188", Some(0o644), Kind::File),
            ("100644", Some(0o644), Kind::File),
            ("0100600", Some(0o600), Kind::File),
            ("16877", Some(0o755), Kind::File),
            ("40755", Some(0o755), Kind::File),
            ("41471", Some(0o777), Kind::Symlink),
            ("120777", Some(0o777), Kind::Symlink),
            ("420", Some(0o644), Kind::File),
            ("4516", Some(0o644), Kind::Fifo),
            ("49645", Some(0o755), Kind::Socket),
            ("8576", Some(0o600), Kind::CharDevice),
            ("24960", Some(0o600), Kind::BlockDevice),
            ("garbage", None, Kind::File),
            ("", None, Kind::File),
            ("4294967296", None, Kind::File),
            ("-1", None, Kind::File),
        ] {
            let read = decoded(&[("mode", text)]);
            assert_eq!((read.mode, read.kind), (mode, kind), "{text}");
        }
    }

    #[test]
    fn times_keep_their_nanoseconds_also_before_1970() {
        let second = Duration::from_secs(1);
        for (text, time) in [
            ("0", UNIX_EPOCH),
            ("1.5", UNIX_EPOCH + second * 3 / 2),
            ("1.000000001", UNIX_EPOCH + second + Duration::from_nanos(1)),
            ("-1.5", UNIX_EPOCH - second * 3 / 2),
            ("-86400", UNIX_EPOCH - second * 86_400),
        ] {
            let read = decoded(&[("mtime", text)]).mtime.unwrap();
            assert_eq!(read, time, "{text}");
            let written = format_time(time);
            assert_eq!(parse_time(&written), Some(time), "{written}");
        }
        assert_eq!(format_time(UNIX_EPOCH + second * 3 / 2), "1.500000000");
        let rclone = "1970-01-01T01:00:01.5+01:00";
        assert_eq!(parse_time(rclone), Some(UNIX_EPOCH + second * 3 / 2));
        let far = u64::MAX.to_string();
        for text in ["", "-", ".", "1e9", "NaN", "+1", "1.-5", far.as_str()] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn attributes_survive_their_encoding_beside_what_others_stored() {
        let mut attributes = decoded(&[("owner-app", "x"), ("mode", "33188"), ("uid", "7")]);
        attributes.mode = Some(0o4711);
        attributes.mtime = Some(UNIX_EPOCH - Duration::from_nanos(1));
        let value = b"\0\xff value".to_vec();
        attributes.xattrs.insert("user.a\"b".to_owned(), value);
        let headers = attributes.encode(Kind::File).unwrap();
        assert_eq!(headers.user_metadata["owner-app"], "x");
        assert!(headers.user_metadata.values().all(|value| value.is_ascii()));
        let read = Attributes::decode(headers.clone());
        attributes.headers = headers;
        assert_eq!(read, attributes);
    }

    #[test]
    fn extended_attributes_are_read_as_s3fs_writes_them() {
        let read = decoded(&[("xattr", "%7B%22user.k%22%3A%22dmFsdWU%3D%22%7D")]);
        assert_eq!(read.xattrs["user.k"], b"value");
        assert!(decoded(&[("xattr", "%7B%22user.k%22")]).xattrs.is_empty());
    }

    #[test]
    fn what_does_not_fit_the_metadata_is_no_space() {
        let mut attributes = Attributes::default();
        let value = vec![b'x'; METADATA_LIMIT_BYTES];
        attributes.xattrs.insert("user.long".to_owned(), value);
        let encoded = attributes.encode(Kind::File);
        assert!(matches!(encoded, Err(FsError::NoSpace)));
    }
}
