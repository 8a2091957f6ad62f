//! What a request to publish a volume asks for, checked.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use tonic::Status;

use super::messages::{AccessType, Mode, MountVolume, NodePublishVolumeRequest, VolumeCapability};
use crate::ops::Access;

/// File system types that a PersistentVolume may name for ours.
const FS_TYPES: [&str; 4] = ["", "mediafs", "fuse", "fuse.mediafs"];
/// What a secret may be called, without `_` and `-`, in small letters.
const ACCESS_KEY: [&str; 2] = ["awsaccesskeyid", "accesskeyid"];
const SECRET_KEY: [&str; 2] = ["awssecretaccesskey", "secretaccesskey"];
const SESSION_TOKEN: [&str; 2] = ["awssessiontoken", "sessiontoken"];
/// Attributes of Kubernetes have a domain before a slash.
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";
/// Who is in a pod's group writes as well. Options of the volume count more.
const MODES_OF_GROUP: [&str; 2] = ["file-mode=0664", "dir-mode=0775"];

/// A volume as one pod wants it.
#[derive(Debug)]
pub struct Publish {
    pub volume_id: String,
    /// Absolute, of the host.
    pub target: PathBuf,
    pub access: Access,
    pub users: Users,
    /// `BUCKET/PREFIX`
    pub place: String,
    /// As `-o` of mount(8) has them; of two that are the same the later one counts.
    pub options: Vec<String>,
    pub credentials: Option<CredentialsFile>,
}

/// How many pods of a node may have a volume at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    Many,
    One,
}

/// The text of an AWS credentials file.
#[derive(Clone, PartialEq, Eq)]
pub struct CredentialsFile(String);

impl CredentialsFile {
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for CredentialsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsFile")
    }
}

impl Publish {
    /// Errors: INVALID_ARGUMENT, with what is wrong and no value that may be secret.
    pub fn parse(request: NodePublishVolumeRequest) -> Result<Self, Status> {
        check_volume_id(&request.volume_id)?;
        let target = target(&request.target_path)?;
        let capability = request.volume_capability;
        let capability = capability.ok_or_else(|| wrong("volume_capability is missing"))?;
        let (access, users) = access(&capability)?;
        let mount = mount_volume(capability)?;
        let (mut bucket, mut prefix) = (None, None);
        let mut options = options_of_group(&mount.volume_mount_group)?;
        for (name, value) in request.volume_context {
            match name.as_str() {
                EPHEMERAL if value == "true" => {
                    let why = "an ephemeral inline volume would let whoever makes a pod choose settings of the node: use a PersistentVolume";
                    return Err(wrong(why));
                }
                _ if name.contains('/') => {}
                "bucket" => bucket = Some(value),
                "prefix" => prefix = Some(value),
                _ => options.push(format!("{name}={value}")),
            }
        }
        let bucket = bucket.unwrap_or_default();
        if bucket.is_empty() || bucket.starts_with('-') {
            return Err(wrong(
                "volumeAttributes: bucket is missing, or begins with '-'",
            ));
        }
        let place = match prefix.as_deref().map(|it| it.trim_matches('/')) {
            None | Some("") => bucket,
            Some(prefix) => format!("{bucket}/{prefix}"),
        };
        options.extend(mount.mount_flags);
        Ok(Self {
            volume_id: request.volume_id,
            target,
            access: if request.readonly {
                Access::ReadOnly
            } else {
                access
            },
            users,
            place,
            options,
            credentials: credentials(request.secrets)?,
        })
    }
}

pub fn check_volume_id(id: &str) -> Result<(), Status> {
    match id {
        "" => Err(wrong("volume_id is missing")),
        _ if id.contains(char::is_control) => Err(wrong("volume_id has a control character")),
        _ => Ok(()),
    }
}

/// A path of the host that leads where it says.
pub fn target(path: &str) -> Result<PathBuf, Status> {
    if path.is_empty() {
        return Err(wrong("target_path is missing"));
    }
    let mut parts = Path::new(path).components();
    let is_rooted = parts.next() == Some(Component::RootDir);
    let is_below = parts.clone().next().is_some();
    let is_plain = parts.all(|part| matches!(part, Component::Normal(_)));
    if !is_rooted || !is_below || !is_plain || path.contains('\0') {
        let why = format!("target_path {path:?} is not an absolute path without '..'");
        return Err(wrong(&why));
    }
    // Without a slash at its end: as mountinfo has it.
    Ok(Path::new(path).components().collect())
}

fn access(capability: &VolumeCapability) -> Result<(Access, Users), Status> {
    let mode = capability.access_mode.as_ref();
    let mode = mode.ok_or_else(|| wrong("volume_capability: access_mode is missing"))?;
    match Mode::try_from(mode.mode) {
        Ok(Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly) => {
            Ok((Access::ReadOnly, Users::Many))
        }
        Ok(Mode::SingleNodeWriter | Mode::SingleNodeMultiWriter | Mode::MultiNodeMultiWriter) => {
            Ok((Access::ReadWrite, Users::Many))
        }
        Ok(Mode::SingleNodeSingleWriter) => Ok((Access::ReadWrite, Users::One)),
        Ok(Mode::MultiNodeSingleWriter) => Err(wrong(
            "access mode MULTI_NODE_SINGLE_WRITER: no node knows which one is the writer; use MULTI_NODE_MULTI_WRITER (ReadWriteMany), where the last close wins",
        )),
        Ok(Mode::Unknown) | Err(_) => Err(wrong("access mode unknown")),
    }
}

fn mount_volume(capability: VolumeCapability) -> Result<MountVolume, Status> {
    let mount = match capability.access_type {
        Some(AccessType::Mount(mount)) => mount,
        Some(AccessType::Block(())) => {
            let why = "a bucket is no block device: use volumeMode Filesystem";
            return Err(wrong(why));
        }
        None => return Err(wrong("volume_capability: access_type is missing")),
    };
    if !FS_TYPES.contains(&mount.fs_type.as_str()) {
        let why = format!(
            "fsType {:?}: leave it out, a bucket is not formatted",
            mount.fs_type
        );
        return Err(wrong(&why));
    }
    Ok(mount)
}

fn options_of_group(group: &str) -> Result<Vec<String>, Status> {
    if group.is_empty() {
        return Ok(Vec::new());
    }
    let gid: u32 = group.parse().map_err(|_| {
        let why = format!("volume_mount_group {group:?} is not the number of a group");
        wrong(&why)
    })?;
    let modes = MODES_OF_GROUP.map(str::to_owned);
    Ok(std::iter::once(format!("gid={gid}")).chain(modes).collect())
}

fn credentials(
    secrets: impl IntoIterator<Item = (String, String)>,
) -> Result<Option<CredentialsFile>, Status> {
    let (mut access_key, mut secret_key, mut token) = (None, None, None);
    for (name, value) in secrets {
        if value.is_empty() || value.contains(|it: char| it.is_control() || it == ' ') {
            let why = format!("secret {name:?} is empty, or has a space or a line end");
            return Err(wrong(&why));
        }
        let plain = name.replace(['_', '-'], "").to_lowercase();
        let plain = plain.as_str();
        if ACCESS_KEY.contains(&plain) {
            access_key = Some(value);
        } else if SECRET_KEY.contains(&plain) {
            secret_key = Some(value);
        } else if SESSION_TOKEN.contains(&plain) {
            token = Some(value);
        } else {
            let why = format!(
                "secret {name:?} is unknown: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN are read"
            );
            return Err(wrong(&why));
        }
    }
    match (access_key, secret_key, token) {
        (None, None, None) => Ok(None),
        (Some(access_key), Some(secret_key), token) => {
            let mut text = format!(
                "[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"
            );
            if let Some(token) = token {
                text.push_str(&format!("aws_session_token = {token}\n"));
            }
            Ok(Some(CredentialsFile(text)))
        }
        (None, ..) => Err(wrong("secret AWS_ACCESS_KEY_ID is missing")),
        (Some(_), None, _) => Err(wrong("secret AWS_SECRET_ACCESS_KEY is missing")),
    }
}

fn wrong(why: &str) -> Status {
    Status::invalid_argument(why)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::csi::messages::AccessMode;

    fn request(change: impl FnOnce(&mut NodePublishVolumeRequest)) -> Result<Publish, Status> {
        let mut request = NodePublishVolumeRequest {
            volume_id: "v".to_owned(),
            target_path: "/pods/1/mount/".to_owned(),
            volume_capability: Some(VolumeCapability {
                access_type: Some(AccessType::Mount(MountVolume::default())),
                access_mode: Some(AccessMode {
                    mode: Mode::MultiNodeMultiWriter.into(),
                }),
            }),
            volume_context: [("bucket".to_owned(), "b".to_owned())].into(),
            ..NodePublishVolumeRequest::default()
        };
        change(&mut request);
        Publish::parse(request)
    }

    fn mount(request: &mut NodePublishVolumeRequest) -> &mut MountVolume {
        match &mut request.volume_capability.as_mut().unwrap().access_type {
            Some(AccessType::Mount(mount)) => mount,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn attributes_flags_and_the_group_become_options_in_their_order() {
        let asked = request(|it| {
            for (name, value) in [
                ("prefix", "/media/"),
                ("ttl", "5s"),
                ("csi.storage.k8s.io/pod.name", "p"),
            ] {
                it.volume_context.insert(name.to_owned(), value.to_owned());
            }
            mount(it).mount_flags = vec!["umask=077".to_owned()];
            mount(it).volume_mount_group = "1234".to_owned();
        });
        let asked = asked.unwrap();
        assert_eq!(asked.place, "b/media");
        assert_eq!(asked.target, Path::new("/pods/1/mount"));
        assert_eq!(
            asked.options,
            [
                "gid=1234",
                "file-mode=0664",
                "dir-mode=0775",
                "ttl=5s",
                "umask=077"
            ]
        );
        assert_eq!(
            (asked.access, asked.users),
            (Access::ReadWrite, Users::Many)
        );
        assert!(asked.credentials.is_none());
    }

    #[test]
    fn a_mode_that_only_reads_is_read_only() {
        let of = |mode: Mode| {
            request(|it| {
                let capability = it.volume_capability.as_mut().unwrap();
                capability.access_mode = Some(AccessMode { mode: mode.into() });
            })
            .map(|it| (it.access, it.users))
        };
        let reads = (Access::ReadOnly, Users::Many);
        assert_eq!(of(Mode::MultiNodeReaderOnly).unwrap(), reads);
        assert_eq!(of(Mode::SingleNodeReaderOnly).unwrap(), reads);
        let writes = (Access::ReadWrite, Users::One);
        assert_eq!(of(Mode::SingleNodeSingleWriter).unwrap(), writes);
        for mode in [Mode::Unknown, Mode::MultiNodeSingleWriter] {
            assert_eq!(of(mode).unwrap_err().code(), Code::InvalidArgument);
        }
    }

    #[test]
    fn secrets_become_a_credentials_file_and_never_a_message() {
        let of = |secrets: &[(&str, &str)]| {
            let secrets = secrets
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            request(|it| it.secrets = secrets.collect())
        };
        let asked = of(&[
            ("accessKeyId", "K"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("session-token", "T"),
        ]);
        let asked = asked.unwrap();
        assert!(!format!("{asked:?}").contains("hunter2"));
        assert_eq!(
            asked.credentials.unwrap().0,
            "[default]\naws_access_key_id = K\naws_secret_access_key = hunter2\naws_session_token = T\n"
        );
        for secrets in [
            &[("AWS_SECRET_ACCESS_KEY", "hunter2")][..],
            &[("AWS_ACCESS_KEY_ID", "hunter2")],
            &[("password", "hunter2")],
            &[
                ("AWS_ACCESS_KEY_ID", "K"),
                ("AWS_SECRET_ACCESS_KEY", "hunter2\n[x]"),
            ],
        ] {
            let refused = of(secrets).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert!(!format!("{refused:?}").contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_and_named() {
        let refused = |change: fn(&mut NodePublishVolumeRequest)| {
            let refused = request(change).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            refused.message().to_owned()
        };
        assert!(refused(|it| it.volume_id.clear()).contains("volume_id"));
        assert!(refused(|it| it.target_path.clear()).contains("target_path"));
        assert!(refused(|it| it.target_path = "/a/../b".to_owned()).contains("'..'"));
        assert!(refused(|it| it.target_path = "a/b".to_owned()).contains("absolute"));
        assert!(refused(|it| it.volume_capability = None).contains("volume_capability"));
        assert!(refused(|it| it.volume_context.clear()).contains("bucket"));
        for bucket in ["", "-b", "--from-authentik=/any/file"] {
            let refused = request(|it| {
                it.volume_context
                    .insert("bucket".to_owned(), bucket.to_owned());
            });
            assert!(refused.unwrap_err().message().contains("bucket"));
        }
        assert!(refused(|it| mount(it).fs_type = "ext4".to_owned()).contains("fsType"));
        let group = refused(|it| mount(it).volume_mount_group = "wheel".to_owned());
        assert!(group.contains("wheel"), "{group}");
        let block = refused(|it| {
            let capability = it.volume_capability.as_mut().unwrap();
            capability.access_type = Some(AccessType::Block(()));
        });
        assert!(block.contains("block device"), "{block}");
        let ephemeral = refused(|it| {
            it.volume_context
                .insert(EPHEMERAL.to_owned(), "true".to_owned());
        });
        assert!(ephemeral.contains("PersistentVolume"), "{ephemeral}");
    }
}
