//! Messages of the Container Storage Interface, version 1, as far as a driver without a
//! controller has them. A request or an answer without fields is `()`.
//!
//! Source: container-storage-interface/spec, `csi.proto`, package `csi.v1`.

use std::collections::BTreeMap;
use std::fmt;

use prost::{Enumeration, Message, Oneof};

#[derive(Clone, PartialEq, Eq, Message)]
pub struct GetPluginInfoResponse {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub vendor_version: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ProbeResponse {
    #[prost(message, optional, tag = "1")]
    pub ready: Option<bool>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct VolumeCapability {
    #[prost(oneof = "AccessType", tags = "1, 2")]
    pub access_type: Option<AccessType>,
    #[prost(message, optional, tag = "3")]
    pub access_mode: Option<AccessMode>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum AccessType {
    #[prost(message, tag = "1")]
    Block(()),
    #[prost(message, tag = "2")]
    Mount(MountVolume),
}

#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub struct MountVolume {
    #[prost(string, tag = "1")]
    pub fs_type: String,
    #[prost(string, repeated, tag = "2")]
    pub mount_flags: Vec<String>,
    #[prost(string, tag = "3")]
    pub volume_mount_group: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct AccessMode {
    #[prost(enumeration = "Mode", tag = "1")]
    pub mode: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum Mode {
    Unknown = 0,
    SingleNodeWriter = 1,
    SingleNodeReaderOnly = 2,
    MultiNodeReaderOnly = 3,
    MultiNodeSingleWriter = 4,
    MultiNodeMultiWriter = 5,
    SingleNodeSingleWriter = 6,
    SingleNodeMultiWriter = 7,
}

#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub struct NodePublishVolumeRequest {
    #[prost(string, tag = "1")]
    pub volume_id: String,
    #[prost(string, tag = "4")]
    pub target_path: String,
    #[prost(message, optional, tag = "5")]
    pub volume_capability: Option<VolumeCapability>,
    #[prost(bool, tag = "6")]
    pub readonly: bool,
    #[prost(btree_map = "string, string", tag = "7")]
    pub secrets: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "8")]
    pub volume_context: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct NodeUnpublishVolumeRequest {
    #[prost(string, tag = "1")]
    pub volume_id: String,
    #[prost(string, tag = "2")]
    pub target_path: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct NodeGetCapabilitiesResponse {
    #[prost(message, repeated, tag = "1")]
    pub capabilities: Vec<NodeServiceCapability>,
}

/// The only kind there is.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NodeServiceCapability {
    #[prost(message, optional, tag = "1")]
    pub rpc: Option<Rpc>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Rpc {
    #[prost(enumeration = "RpcType", tag = "1")]
    pub r#type: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum RpcType {
    Unknown = 0,
    SingleNodeMultiWriter = 5,
    VolumeMountGroup = 6,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct NodeGetInfoResponse {
    #[prost(string, tag = "1")]
    pub node_id: String,
}

/// Mount flags may be secret, says the specification.
impl fmt::Debug for MountVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountVolume")
            .field("fs_type", &self.fs_type)
            .field("mount_flags", &self.mount_flags.len())
            .field("volume_mount_group", &self.volume_mount_group)
            .finish()
    }
}

/// Neither secrets, nor what somebody wrote among the attributes by mistake.
impl fmt::Debug for NodePublishVolumeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
        f.debug_struct("NodePublishVolumeRequest")
            .field("volume_id", &self.volume_id)
            .field("target_path", &self.target_path)
            .field("volume_capability", &self.volume_capability)
            .field("readonly", &self.readonly)
            .field("secrets", &names(&self.secrets))
            .field("volume_context", &names(&self.volume_context))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as another implementation writes them, field by field.
    #[test]
    fn a_request_is_read_by_the_numbers_of_the_specification() {
        let mut bytes = b"\x0a\x01v\x1a\x02/s\x22\x02/t".to_vec();
        // volume_capability: mount with one flag and a group, access mode 5.
        bytes.extend(b"\x2a\x0e\x12\x08\x12\x02ro\x1a\x021k\x1a\x02\x08\x05");
        bytes.extend(b"\x30\x01\x3a\x06\x0a\x01k\x12\x01s\x42\x06\x0a\x01a\x12\x01b");
        let request = NodePublishVolumeRequest::decode(bytes.as_slice()).unwrap();
        let mount = MountVolume {
            fs_type: String::new(),
            mount_flags: vec!["ro".to_owned()],
            volume_mount_group: "1k".to_owned(),
        };
        let capability = request.volume_capability.clone().unwrap();
        assert_eq!(capability.access_type, Some(AccessType::Mount(mount)));
        let mode = capability.access_mode.unwrap().mode();
        assert_eq!(mode, Mode::MultiNodeMultiWriter);
        assert_eq!((request.volume_id.as_str(), request.readonly), ("v", true));
        assert_eq!(request.target_path, "/t");
        assert_eq!(request.secrets["k"], "s");
        assert_eq!(request.volume_context["a"], "b");
    }

    #[test]
    fn no_secret_is_shown() {
        let request = NodePublishVolumeRequest {
            secrets: [("key".to_owned(), "hunter2".to_owned())].into(),
            volume_context: [("proxy".to_owned(), "hunter2".to_owned())].into(),
            volume_capability: Some(VolumeCapability {
                access_type: Some(AccessType::Mount(MountVolume {
                    mount_flags: vec!["hunter2".to_owned()],
                    ..MountVolume::default()
                })),
                access_mode: None,
            }),
            ..NodePublishVolumeRequest::default()
        };
        let shown = format!("{request:?}");
        assert!(shown.contains("key") && shown.contains("proxy"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
