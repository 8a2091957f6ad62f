//! One volume on this node: a daemon of its own, mounted once, and a bind mount of that
//! for each pod.
//!
//! Two daemons of one volume would each have a spool, and see each other's files only
//! after `ttl`; one daemon makes the pods of a node a single client. What is published
//! where is read from mountinfo and nowhere else: a driver that was killed, or replaced,
//! knows as much as the one before. The settings are compared with those that the daemon
//! was started with, in its `config.toml`.
//!
//! Lock: the volume's folder, for the whole of a call; of all drivers on the node.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tonic::Status;

use super::request::{CredentialsFile, Publish, Users};
use super::settings::Settings;
use super::{host, unit};
use crate::config::settings_of_file;
use crate::ops::Access;
use crate::private;
use crate::session::{FS_TYPE, MountEntry, Unmounted, bind, mount_at, mounts_of, unbind};

/// Of a volume's identifier, in the name of its folder; a hash makes it one of its own.
const NAME_LIMIT: usize = 40;
const HASH_DIGITS: usize = 16;
/// Mounts that lie one over the other at a target, at most.
const STACKED_LIMIT: usize = 16;

/// Locked until it is dropped.
#[derive(Debug)]
pub struct Volume {
    unit: String,
    folder: PathBuf,
    /// Where the daemon mounts.
    mountpoint: PathBuf,
    _lock: File,
}

impl Volume {
    /// Locks a volume, and makes its folder.
    pub fn make(id: &str) -> Result<Self, Status> {
        let folder = host::folder_of(&name_of(id));
        let made = private::directory(&folder).map_err(io::Error::from);
        made.and_then(|()| Self::lock(id))
            .map_err(|error| internal(&folder, &error))
    }

    /// Locks a volume that this node has had; none where it never was here.
    pub fn find(id: &str) -> Result<Option<Self>, Status> {
        match Self::lock(id) {
            Ok(volume) => Ok(Some(volume)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(internal(&host::folder_of(&name_of(id)), &error)),
        }
    }

    fn lock(id: &str) -> io::Result<Self> {
        let name = name_of(id);
        let folder = host::folder_of(&name);
        let lock = File::open(&folder)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Self {
            unit: unit::of(&name),
            mountpoint: folder.join("mount"),
            folder,
            _lock: lock,
        })
    }

    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    pub fn credentials_file(&self) -> PathBuf {
        self.folder.join("credentials")
    }

    fn config_file(&self) -> PathBuf {
        self.folder.join("config.toml")
    }

    /// Shows the volume at a target; again with the same arguments, nothing is done.
    ///
    /// Errors: ALREADY_EXISTS, another volume or other arguments at the target;
    /// FAILED_PRECONDITION, other pods use the volume in a way that excludes this one;
    /// INTERNAL, the daemon does not start, in its words.
    pub fn publish(&self, asked: &Publish, settings: &Settings) -> Result<(), Status> {
        let mounted = self.mounted()?;
        if let Some(there) = self.at_target(&asked.target)? {
            let ours = mounted.as_ref().filter(|it| it.device == there.device);
            let Some(ours) = ours else {
                return Err(Status::already_exists(format!(
                    "{} has another mount: {}",
                    asked.target.display(),
                    there.source
                )));
            };
            if is_read_only(&there) != (asked.access == Access::ReadOnly || is_read_only(ours)) {
                let why = "published at this target with another readonly flag";
                return Err(Status::already_exists(why));
            }
            if let Some(names) = self.differences(settings) {
                let why = format!("published at this target with other settings: {names}");
                return Err(Status::already_exists(why));
            }
            return self.serve(asked.credentials.as_ref(), settings);
        }
        let users = self.users(mounted.as_ref())?;
        if let Some(other) = users.first() {
            if asked.users == Users::One {
                return Err(Status::failed_precondition(format!(
                    "access mode SINGLE_NODE_SINGLE_WRITER (ReadWriteOncePod), and another pod has the volume at {}",
                    other.display()
                )));
            }
            if let Some(names) = self.differences(settings) {
                return Err(Status::failed_precondition(format!(
                    "another pod of this node has the volume with other settings ({names}): give both pods the same fsGroup, or set gid, file-mode and dir-mode in volumeAttributes"
                )));
            }
        } else if mounted.is_some() && self.differences(settings).is_some() {
            host::stop(&self.unit).map_err(Status::internal)?;
        }
        let published = self.serve(asked.credentials.as_ref(), settings);
        let published = published.and_then(|()| {
            fs::create_dir_all(&asked.target)
                .and_then(|()| bind(&self.mountpoint, &asked.target, asked.access))
                .map_err(|error| internal(&asked.target, &error))
        });
        if published.is_err() {
            // Why it was not published is what counts.
            let left = unpublish_target(&asked.target).and_then(|()| self.release());
            if let Err(error) = left {
                tracing::warn!(
                    volume = self.unit,
                    error = error.message(),
                    "not cleaned up"
                );
            }
        }
        published
    }

    /// Has the daemon of the volume serve, with these credentials.
    fn serve(
        &self,
        credentials: Option<&CredentialsFile>,
        settings: &Settings,
    ) -> Result<(), Status> {
        let text: String = settings
            .iter()
            // A string, a number or a list of JSON is one of TOML.
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect();
        let written = private::replace(&self.config_file(), text.as_bytes());
        written.map_err(|error| internal(&self.config_file(), &error))?;
        let renewed = self.write_credentials(credentials);
        let renewed = renewed.map_err(|error| internal(&self.credentials_file(), &error))?;
        if self.mounted()?.is_none() {
            let made = private::directory(&self.mountpoint).map_err(io::Error::from);
            made.map_err(|error| internal(&self.mountpoint, &error))?;
        } else if renewed && host::is_active(&self.unit).unwrap_or(false) {
            host::reload(&self.unit).map_err(Status::internal)?;
        }
        host::start(&self.unit).map_err(|why| {
            Status::internal(format!("the volume's daemon does not serve: {why}"))
        })?;
        match self.mounted()? {
            Some(_) => Ok(()),
            None => Err(Status::internal("the volume's daemon has not mounted")),
        }
    }

    /// Whether they are other ones than before.
    fn write_credentials(&self, credentials: Option<&CredentialsFile>) -> io::Result<bool> {
        let path = self.credentials_file();
        let before = private::read(&path).ok();
        let now = credentials.map(CredentialsFile::as_bytes);
        if before.as_deref() == now {
            return Ok(false);
        }
        match now {
            Some(bytes) => private::replace(&path, bytes)?,
            None => fs::remove_file(&path)?,
        }
        Ok(true)
    }

    /// Takes the volume away from a target; where it is not there, nothing is done.
    ///
    /// Errors: NOT_FOUND, another volume is there; INTERNAL, it is in use.
    pub fn unpublish(&self, target: &Path) -> Result<(), Status> {
        if let Some(there) = self.at_target(target)?
            && self.mounted()?.is_none_or(|it| it.device != there.device)
        {
            return Err(Status::not_found(format!(
                "{} has another mount: {}",
                target.display(),
                there.source
            )));
        }
        unpublish_target(target)?;
        self.release()
    }

    /// Ends the daemon once no pod has the volume; its bytes are in S3 then, or wait in
    /// the spool for the next pod.
    fn release(&self) -> Result<(), Status> {
        let mounted = self.mounted()?;
        if !self.users(mounted.as_ref())?.is_empty() {
            return Ok(());
        }
        host::stop(&self.unit).map_err(Status::internal)?;
        while let Some(left) = self.mounted()? {
            // A daemon that was killed while it stopped leaves a dead mount.
            tracing::warn!(
                volume = self.unit,
                device = left.device,
                "unmounting what is left"
            );
            let taken = unbind(&self.mountpoint);
            if taken.map_err(|error| internal(&self.mountpoint, &error))? == Unmounted::Busy {
                return Err(busy(&self.mountpoint));
            }
        }
        let removals = [
            fs::remove_file(self.credentials_file()),
            fs::remove_file(self.config_file()),
            fs::remove_dir(&self.mountpoint),
        ];
        for removed in removals {
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(internal(&self.folder, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What the daemon has mounted.
    fn mounted(&self) -> Result<Option<MountEntry>, Status> {
        let entry = mount_at(&self.mountpoint);
        let entry = entry.map_err(|error| internal(&self.mountpoint, &error))?;
        Ok(entry.filter(|entry| entry.fs_type == FS_TYPE))
    }

    /// What is mounted at a target. A mount of ours whose daemon is gone for good, for
    /// example of before a volume was published anew, is taken away.
    fn at_target(&self, target: &Path) -> Result<Option<MountEntry>, Status> {
        for _ in 0..STACKED_LIMIT {
            let entry = mount_at(target).map_err(|error| internal(target, &error))?;
            let Some(entry) = entry else { return Ok(None) };
            if entry.fs_type != FS_TYPE || is_served(&entry)? {
                return Ok(Some(entry));
            }
            tracing::warn!(target = %target.display(), "a mount without a daemon is taken away");
            if unbind(target).map_err(|error| internal(target, &error))? == Unmounted::Busy {
                return Err(busy(target));
            }
        }
        Err(busy(target))
    }

    /// Where pods have the volume.
    fn users(&self, mounted: Option<&MountEntry>) -> Result<Vec<PathBuf>, Status> {
        let Some(mounted) = mounted else {
            return Ok(Vec::new());
        };
        let entries = mounts_of("self").map_err(|error| internal(&self.mountpoint, &error))?;
        let ours = entries.into_iter().filter(|it| it.device == mounted.device);
        let places = ours.map(|entry| entry.mountpoint);
        Ok(places.filter(|place| *place != self.mountpoint).collect())
    }

    /// Names of the settings that the daemon was started with otherwise, if any.
    fn differences(&self, settings: &Settings) -> Option<String> {
        let before = settings_of_file(&self.config_file()).unwrap_or_default();
        let names = differing(&before, settings);
        (!names.is_empty()).then(|| names.join(", "))
    }
}

fn differing<'a>(
    before: &'a BTreeMap<String, Value>,
    now: &'a BTreeMap<String, Value>,
) -> Vec<&'a str> {
    let added = now.keys().filter(|name| !before.contains_key(*name));
    let names = before.keys().chain(added);
    let names = names.filter(|name| before.get(*name) != now.get(*name));
    names.map(String::as_str).collect()
}

/// Takes every mount away from a target, and the target itself.
pub fn unpublish_target(target: &Path) -> Result<(), Status> {
    for _ in 0..STACKED_LIMIT {
        let entry = mount_at(target).map_err(|error| internal(target, &error))?;
        match entry {
            None => break,
            Some(entry) if entry.fs_type != FS_TYPE => {
                return Err(Status::not_found(format!(
                    "{} has a mount of another file system: {}",
                    target.display(),
                    entry.fs_type
                )));
            }
            Some(_) => {}
        }
        if unbind(target).map_err(|error| internal(target, &error))? == Unmounted::Busy {
            return Err(busy(target));
        }
    }
    match fs::remove_dir(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(internal(target, &error)),
        _ => Ok(()),
    }
}

/// Whether the mount of some volume's daemon is the same file system.
fn is_served(entry: &MountEntry) -> Result<bool, Status> {
    let state = Path::new(host::STATE);
    let entries = mounts_of("self").map_err(|error| internal(state, &error))?;
    let mut others = entries.iter().filter(|it| it.device == entry.device);
    Ok(others.any(|it| it.mountpoint.starts_with(state)))
}

fn is_read_only(entry: &MountEntry) -> bool {
    entry.options.iter().any(|option| option == "ro")
}

/// The name of a volume's folder and unit, whatever its identifier is.
fn name_of(id: &str) -> String {
    let plain = id.chars().take(NAME_LIMIT).map(|it| {
        let is_plain = it.is_ascii_alphanumeric() || it == '-' || it == '_';
        if is_plain { it } else { '_' }
    });
    let hash = Sha256::digest(id.as_bytes());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let hash = hash.get(..HASH_DIGITS).unwrap_or_default();
    format!("{}-{hash}", plain.collect::<String>())
}

fn internal(path: &Path, error: &io::Error) -> Status {
    Status::internal(format!("{}: {error}", path.display()))
}

fn busy(path: &Path) -> Status {
    let path = path.display();
    Status::internal(format!(
        "{path} is busy: a process has it open; 'fuser -vm {path}' names it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_identifier_has_a_name_of_its_own_that_leads_nowhere_else() {
        let ids = [
            "media",
            "media/",
            "../../etc",
            "",
            "ü",
            "a%i",
            &"x".repeat(300),
        ];
        let names = ids.map(name_of);
        for (at, name) in names.iter().enumerate() {
            let is_plain = |it: char| it.is_ascii_alphanumeric() || it == '-' || it == '_';
            assert!(name.len() <= 60 && name.chars().all(is_plain), "{name}");
            assert!(!names.iter().skip(at + 1).any(|other| other == name));
        }
        assert!(names[0].starts_with("media-"));
        assert_eq!(names[0], name_of("media"));
    }

    #[test]
    fn settings_that_differ_are_named() {
        let of = |text: &str| -> BTreeMap<String, Value> { serde_json::from_str(text).unwrap() };
        let before = of(r#"{"ttl": "5s", "uid": 1000, "region": "a"}"#);
        let now = of(r#"{"ttl": "6s", "uid": 1000, "gid": 7}"#);
        assert_eq!(differing(&before, &now), ["region", "ttl", "gid"]);
        assert!(differing(&now, &now).is_empty());
    }
}
