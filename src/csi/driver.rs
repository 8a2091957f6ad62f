//! What each call of the interface does.

use tokio_util::task::TaskTracker;
use tonic::Status;

use super::messages::{
    GetPluginInfoResponse, NodeGetCapabilitiesResponse, NodeGetInfoResponse,
    NodePublishVolumeRequest, NodeServiceCapability, NodeUnpublishVolumeRequest, ProbeResponse,
    Rpc, RpcType,
};
use super::request::{self, Publish};
use super::settings::{self, ReadOptions, Settings};
use super::volume::{self, Paths, Volume};

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
        // What is refused leaves nothing behind.
        let settings = self.settings(&asked)?;
        let volume = Volume::make(&asked.volume_id)?;
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
    fn settings(&self, asked: &Publish) -> Result<Settings, Status> {
        let paths = Paths::of(&asked.volume_id);
        let read = (self.read_options)(&asked.place, &paths.mountpoint, &asked.options);
        let resolve = |flags| settings::resolve(&asked.place, paths.mountpoint, flags);
        let settings = read.and_then(resolve);
        let mut settings = settings.map_err(Status::invalid_argument)?;
        // Pods run as any user.
        settings.insert("allow-other".to_owned(), true.into());
        if asked.credentials.is_some() {
            let file = paths.credentials_file.display().to_string();
            settings.insert("credentials-file".to_owned(), file.into());
        }
        Ok(settings)
    }
}
