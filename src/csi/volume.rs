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
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tonic::Status;

use super::request::{CredentialsFile, Publish, Users};
use super::settings::Settings;
use super::{host, retention, unit};
use crate::config::settings_of_file;
use crate::ops::Access;
use crate::private;
use crate::session::{
    Answer, FS_TYPE, MountEntry, Unmounted, ask, bind, mount_at, mounts_of, unbind,
};
use crate::vocabulary::hex;

/// Of a volume's identifier, in the name of its folder; a hash makes it one of its own.
const NAME_LIMIT: usize = 40;
const HASH_DIGITS: usize = 16;
/// Mounts that lie one over the other at a target, at most.
const STACKED_LIMIT: usize = 16;

/// What a volume has on this node, or would have.
#[derive(Debug)]
pub struct Paths {
    folder: PathBuf,
    /// Where the daemon mounts.
    pub mountpoint: PathBuf,
    pub credentials_file: PathBuf,
    config_file: PathBuf,
}

impl Paths {
    pub fn of(id: &str) -> Self {
        let folder = host::folder_of(&name_of(id));
        Self {
            mountpoint: folder.join("mount"),
            credentials_file: folder.join("credentials"),
            config_file: folder.join("config.toml"),
            folder,
        }
    }
}

/// Locked until it is dropped.
#[derive(Debug)]
pub struct Volume {
    /// Of its folders.
    name: String,
    unit: String,
    paths: Paths,
    _lock: File,
}

impl Volume {
    /// Locks a volume, and makes its folder. Errors: ABORTED, another call has it.
    pub fn make(id: &str) -> Result<Self, Status> {
        let paths = Paths::of(id);
        let made = private::directory(&paths.folder).map_err(io::Error::from);
        made.map_err(|error| internal(&paths.folder, &error))?;
        let locked = lock(&paths.folder)?;
        let locked = locked.ok_or_else(|| Status::aborted("the volume's folder was removed"))?;
        Ok(Self::locked(id, paths, locked))
    }

    /// Locks a volume that this node has had; none where it never was here. Errors: as `make`.
    pub fn find(id: &str) -> Result<Option<Self>, Status> {
        let paths = Paths::of(id);
        Ok(lock(&paths.folder)?.map(|it| Self::locked(id, paths, it)))
    }

    fn locked(id: &str, paths: Paths, lock: File) -> Self {
        Self {
            name: name_of(id),
            unit: unit::of(&name_of(id)),
            paths,
            _lock: lock,
        }
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
                .and_then(|()| bind(&self.paths.mountpoint, &asked.target, asked.access))
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
        let written = private::replace(&self.paths.config_file, text.as_bytes());
        written.map_err(|error| internal(&self.paths.config_file, &error))?;
        let renewed = self.write_credentials(credentials);
        let renewed = renewed.map_err(|error| internal(&self.paths.credentials_file, &error))?;
        if self.mounted()?.is_none() {
            let made = private::directory(&self.paths.mountpoint).map_err(io::Error::from);
            made.map_err(|error| internal(&self.paths.mountpoint, &error))?;
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
        let path = &self.paths.credentials_file;
        let before = private::read(path).ok();
        let now = credentials.map(CredentialsFile::as_bytes);
        if before.as_deref() == now {
            return Ok(false);
        }
        match now {
            Some(bytes) => private::replace(path, bytes)?,
            None => fs::remove_file(path)?,
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
            let taken = unbind(&self.paths.mountpoint);
            if taken.map_err(|error| internal(&self.paths.mountpoint, &error))? == Unmounted::Busy {
                return Err(busy(&self.paths.mountpoint));
            }
        }
        let removals = [
            fs::remove_file(&self.paths.credentials_file),
            fs::remove_file(&self.paths.config_file),
            fs::remove_dir(&self.paths.mountpoint),
        ];
        for removed in removals {
            if let Err(error) = removed
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(internal(&self.paths.folder, &error));
            }
        }
        retention::forget(&self.name, &self.paths.folder);
        Ok(())
    }

    /// What the daemon has mounted.
    fn mounted(&self) -> Result<Option<MountEntry>, Status> {
        let entry = mount_at(&self.paths.mountpoint);
        let entry = entry.map_err(|error| internal(&self.paths.mountpoint, &error))?;
        Ok(entry.filter(|entry| entry.fs_type == FS_TYPE))
    }

    /// The mount at a target. A mediafs mount whose daemon has ended for good is unmounted first.
    fn at_target(&self, target: &Path) -> Result<Option<MountEntry>, Status> {
        for _ in 0..STACKED_LIMIT {
            let entry = mount_at(target).map_err(|error| internal(target, &error))?;
            let Some(entry) = entry else { return Ok(None) };
            if entry.fs_type != FS_TYPE || is_served(&entry)? || !is_dead(&entry)? {
                return Ok(Some(entry));
            }
            tracing::warn!(target = %target.display(), "unmounting a mount that has no daemon");
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
        let entries =
            mounts_of("self").map_err(|error| internal(&self.paths.mountpoint, &error))?;
        let ours = entries.into_iter().filter(|it| it.device == mounted.device);
        let places = ours.map(|entry| entry.mountpoint);
        Ok(places
            .filter(|place| *place != self.paths.mountpoint)
            .collect())
    }

    /// Names of the settings that the daemon was started with otherwise, if any.
    fn differences(&self, settings: &Settings) -> Option<String> {
        let before = settings_of_file(&self.paths.config_file).unwrap_or_default();
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

/// Takes every mount of a volume away from a target, and the target itself.
///
/// Errors: NOT_FOUND, a mount that is there is of no volume; INTERNAL, it is in use.
pub fn unpublish_target(target: &Path) -> Result<(), Status> {
    for _ in 0..STACKED_LIMIT {
        let entry = mount_at(target).map_err(|error| internal(target, &error))?;
        let Some(entry) = entry else { break };
        let is_ours = entry.fs_type == FS_TYPE && (is_served(&entry)? || is_dead(&entry)?);
        if !is_ours {
            return Err(Status::not_found(format!(
                "{} has a mount of no volume: {} ({})",
                target.display(),
                entry.source,
                entry.fs_type
            )));
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

/// Whether its daemon has ended for good.
fn is_dead(entry: &MountEntry) -> Result<bool, Status> {
    let path = &entry.mountpoint;
    let answer = ask(path).map_err(|error| internal(path, &error))?;
    Ok(answer == Answer::Dead)
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
    let hash = hex(&Sha256::digest(id.as_bytes()));
    let hash = hash.get(..HASH_DIGITS).unwrap_or_default();
    format!("{}-{hash}", plain.collect::<String>())
}

/// None where there is no such folder. Errors: ABORTED, somebody else has it locked.
fn lock(folder: &Path) -> Result<Option<File>, Status> {
    let file = match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| internal(folder, &error))?,
    };
    let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
    match locked.map_err(io::Error::from) {
        Ok(()) => {
            // The one who had it may have removed it, and another made it anew.
            let ino = |metadata: io::Result<fs::Metadata>| metadata.map(|it| it.ino()).ok();
            Ok((ino(fs::metadata(folder)) == ino(file.metadata())).then_some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Status::aborted(
            "an operation on this volume is in progress",
        )),
        Err(error) => Err(internal(folder, &error)),
    }
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
    fn a_volume_that_another_call_has_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        assert!(held.is_some());
        let refused = lock(folder.path()).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Aborted);
        drop(held);
        assert!(lock(folder.path()).unwrap().is_some());
        assert!(lock(&folder.path().join("none")).unwrap().is_none());
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
