//! A CSI driver as kubelet has it: in a pod of a machine, asked by gRPC that shares no
//! code with the driver but the messages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::header::{HeaderMap, HeaderValue};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mediafs::csi::messages::{
    AccessMode, AccessType, Mode, MountVolume, NodePublishVolumeRequest,
    NodeUnpublishVolumeRequest, VolumeCapability,
};
use percent_encoding::percent_decode_str;
use prost::Message;
use tokio::net::UnixStream;
use tonic::Code;

use super::client::Client;
use super::machine::Machine;
use super::programs::wait_until;
use super::servers::{Credentials, Server};

const SOON: Duration = Duration::from_secs(60);
/// Of one message: not compressed, then its length. Source: gRPC over HTTP2.
const HEAD_BYTES: usize = 5;

/// The code of a refusal, and its words.
pub type Refused = (Code, String);

/// A pod with the driver. Dropped, it is killed; what it has published stays.
#[derive(Debug)]
pub struct DriverPod<'m> {
    machine: &'m Machine,
    unit: String,
    socket: PathBuf,
}

impl<'m> DriverPod<'m> {
    /// Starts one that serves.
    #[track_caller]
    pub fn start(machine: &'m Machine) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // A node has one driver, which puts its program there alone.
        static STARTING: Mutex<()> = Mutex::new(());
        let _alone = STARTING.lock();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let unit = format!("csi-driver-{number}.service");
        let socket = format!("/run/{unit}.sock");
        // Its own mounts and control group, the host's processes: `hostPID: true`. A Service
        // named mediafs gives it a variable that is no setting.
        machine.says(&format!(
            "systemd-run --quiet --collect --unit={unit} -p PrivateMounts=yes -p PrivateTmp=yes \
             --setenv=MEDIAFS_PORT=tcp://192.0.2.1:9750 \
             /opt/mediafs csi --endpoint unix://{socket} --node-id node-1"
        ));
        let pod = Self {
            socket: machine.path(&socket),
            machine,
            unit,
        };
        wait_until(SOON, "the driver's first answer", || {
            let probed: Result<(), Refused> = pod.call("Identity/Probe", &());
            probed.is_ok()
        });
        pod
    }

    /// As the end of a container, without warning: everything in its control group.
    #[track_caller]
    pub fn kill(&self) {
        let unit = &self.unit;
        self.machine.says(&format!("systemctl kill -s KILL {unit}"));
        wait_until(SOON, "the driver's end", || {
            !self.machine.tries(&format!("systemctl is-active {unit}")).0
        });
    }

    /// Calls `csi.v1.METHOD`.
    pub fn call<Q: Message, A: Message + Default>(
        &self,
        method: &str,
        request: &Q,
    ) -> Result<A, Refused> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let called = ask(&self.socket, method, request.encode_to_vec());
        let unavailable = |error: String| (Code::Unavailable, error);
        let within = async { tokio::time::timeout(2 * SOON, called).await };
        let answered = runtime.block_on(within).unwrap();
        let (body, status) = answered.map_err(|error| unavailable(error.to_string()))?;
        let code = status.get("grpc-status").and_then(|it| it.to_str().ok());
        let code = Code::from(code.unwrap_or("2").parse::<i32>().unwrap());
        if code != Code::Ok {
            let message = status.get("grpc-message").map(HeaderValue::as_bytes);
            let message = String::from_utf8_lossy(message.unwrap_or_default());
            let message = percent_decode_str(&message).decode_utf8_lossy();
            return Err((code, message.into_owned()));
        }
        Ok(A::decode(body.slice(HEAD_BYTES..)).unwrap())
    }

    pub fn publish(&self, request: &NodePublishVolumeRequest) -> Result<(), Refused> {
        self.call("Node/NodePublishVolume", request)
    }

    pub fn unpublish(&self, volume_id: &str, target_path: &str) -> Result<(), Refused> {
        let request = NodeUnpublishVolumeRequest {
            volume_id: volume_id.to_owned(),
            target_path: target_path.to_owned(),
        };
        self.call("Node/NodeUnpublishVolume", &request)
    }
}

impl Drop for DriverPod<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.machine.journal());
        }
        let unit = &self.unit;
        self.machine
            .tries(&format!("systemctl kill -s KILL {unit}"));
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Body and trailers of a call; where there was no answer, the status is among the headers.
async fn ask(
    socket: &Path,
    method: &str,
    message: Vec<u8>,
) -> Result<(Bytes, HeaderMap), AnyError> {
    let stream = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
    tokio::spawn(connection);
    let mut body = vec![0];
    body.extend(u32::try_from(message.len())?.to_be_bytes());
    body.extend(message);
    let request = Request::post(format!("http://localhost/csi.v1.{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let headers = response.headers().clone();
    let collected = response.into_body().collect().await?;
    let status = collected.trailers().cloned().unwrap_or(headers);
    Ok((collected.to_bytes(), status))
}

/// A PersistentVolume: a bucket of its own, below `media/`.
#[derive(Debug)]
pub struct PersistentVolume {
    pub id: String,
    pub bucket: String,
    pub client: Client,
    endpoint: String,
    region: &'static str,
}

impl PersistentVolume {
    #[track_caller]
    pub fn on(server: &Server, name: &str) -> Self {
        let bucket = format!("csi-{}-{name}", std::process::id());
        let client = Client::new(server);
        client.create_bucket(&bucket);
        Self {
            id: format!("{name}/volume"),
            bucket,
            client,
            endpoint: server.endpoint.clone(),
            region: server.region,
        }
    }

    pub fn object(&self, name: &str) -> Option<Vec<u8>> {
        self.client.get(&self.bucket, &format!("media/{name}"))
    }

    /// As kubelet asks for it, for a pod without a group.
    pub fn request(&self, server: &Server, target: &str) -> NodePublishVolumeRequest {
        NodePublishVolumeRequest {
            volume_id: self.id.clone(),
            target_path: target.to_owned(),
            volume_capability: Some(capability(Mode::MultiNodeMultiWriter, "")),
            readonly: false,
            secrets: secrets(&server.owner),
            volume_context: texts(&[
                ("bucket", &self.bucket),
                ("prefix", "media"),
                ("endpoint-url", &self.endpoint),
                ("region", self.region),
                ("force-path-style", "true"),
                ("csi.storage.k8s.io/pod.name", "app"),
            ]),
        }
    }
}

/// As the Secret of a volume has them.
pub fn secrets(of: &Credentials) -> BTreeMap<String, String> {
    texts(&[
        ("AWS_ACCESS_KEY_ID", &of.access_key),
        ("AWS_SECRET_ACCESS_KEY", &of.secret_key),
    ])
}

fn texts(map: &[(&str, &str)]) -> BTreeMap<String, String> {
    let entries = map.iter();
    let entries = entries.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    entries.collect()
}

pub fn capability(mode: Mode, group: &str) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume {
            fs_type: String::new(),
            mount_flags: Vec::new(),
            volume_mount_group: group.to_owned(),
        })),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}
