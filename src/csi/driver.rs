//! What each call of the interface does.

use tokio_util::task::TaskTracker;
use tonic::Status;

use super::messages::{
    GetPluginInfoResponse, NodeGetCapabilitiesResponse, NodeGetInfoResponse,
    NodePublishVolumeRequest, NodeServiceCapability, NodeUnpublishVolumeRequest, ProbeResponse,
    Rpc, RpcType,
};
use super::request::{self, Publish};
use super::settings::{ReadOptions, Settings};
use super::volume::{self, Volume};

/// Settings that are the driver's, or name files and addresses of the node.
const REFUSED: [&str; 19] = [
    "allow-non-empty",
    "cache",
    "config",
    "control-socket",
    "credentials-file",
    "data-root",
    "foreground",
    "from-authentik",
    "fsname",
    "hardening",
    "log-file",
    "log-file-count",
    "log-file-size",
    "mountpoint",
    "overlay",
    "profile",
    "spool",
    "spool-moved-from",
    "usage",
];

/// Answers calls; a call blocks.
#[derive(Debug)]
pub struct Driver {
    pub name: String,
    pub node_id: String,
    pub read_options: ReadOptions,
    /// Calls that are under way.
    pub calls: TaskTracker,
}

impl Driver {
    pub fn info(&self, (): ()) -> Result<GetPluginInfoResponse, Status> {
        Ok(GetPluginInfoResponse {
            name: self.name.clone(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// None: no controller, and no topology.
    pub fn plugin_capabilities(&self, (): ()) -> Result<(), Status> {
        Ok(())
    }

    /// It serves only once it has entered the host.
    pub fn probe(&self, (): ()) -> Result<ProbeResponse, Status> {
        Ok(ProbeResponse { ready: Some(true) })
    }

    /// Not among them is NodeGetVolumeStats: a bucket has no size that could be told.
    pub fn capabilities(&self, (): ()) -> Result<NodeGetCapabilitiesResponse, Status> {
        let types = [RpcType::SingleNodeMultiWriter, RpcType::VolumeMountGroup];
        let capabilities = types.map(|it| NodeServiceCapability {
            rpc: Some(Rpc { r#type: it.into() }),
        });
        Ok(NodeGetCapabilitiesResponse {
            capabilities: capabilities.to_vec(),
        })
    }

    pub fn node(&self, (): ()) -> Result<NodeGetInfoResponse, Status> {
        Ok(NodeGetInfoResponse {
            node_id: self.node_id.clone(),
        })
    }

    pub fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), Status> {
        let asked = Publish::parse(request)?;
        check_names(&asked.options)?;
        let volume = Volume::make(&asked.volume_id)?;
        let settings = self.settings(&asked, &volume)?;
        volume.publish(&asked, &settings)?;
        let (id, target) = (&asked.volume_id, asked.target.display());
        tracing::info!(volume = id, %target, bucket = asked.place, "published");
        Ok(())
    }

    pub fn unpublish(&self, request: NodeUnpublishVolumeRequest) -> Result<(), Status> {
        request::check_volume_id(&request.volume_id)?;
        let target = request::target(&request.target_path)?;
        match Volume::find(&request.volume_id)? {
            Some(volume) => volume.unpublish(&target)?,
            None => volume::unpublish_target(&target)?,
        }
        let id = request.volume_id;
        tracing::info!(volume = id, target = %target.display(), "unpublished");
        Ok(())
    }

    /// What the daemon of a volume is configured with.
    fn settings(&self, asked: &Publish, volume: &Volume) -> Result<Settings, Status> {
        let read = (self.read_options)(&asked.place, volume.mountpoint(), &asked.options);
        let mut settings = read.map_err(Status::invalid_argument)?;
        // Pods run as any user.
        settings.insert("allow-other".to_owned(), true.into());
        if asked.credentials.is_some() {
            let file = volume.credentials_file().display().to_string();
            settings.insert("credentials-file".to_owned(), file.into());
        }
        Ok(settings)
    }
}

/// Errors: INVALID_ARGUMENT, an option is not a volume's to choose.
fn check_names(options: &[String]) -> Result<(), Status> {
    let names = options.iter().filter_map(|it| it.split('=').next());
    for name in names {
        let name = name.replace('_', "-");
        if REFUSED.contains(&name.as_str()) {
            return Err(Status::invalid_argument(format!(
                "{name} is not for a volume to choose: the driver sets it, or it is of the node"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_nodes_is_no_option_of_a_volume() {
        let check = |option: &str| check_names(&[option.to_owned()]);
        for option in [
            "spool=/tmp",
            "credentials_file=/etc/shadow",
            "config=/x",
            "foreground",
        ] {
            assert!(check(option).is_err(), "{option}");
        }
        for option in ["ttl=5s", "ro", "umask=077", "cache-size=1GiB"] {
            assert!(check(option).is_ok(), "{option}");
        }
    }
}
