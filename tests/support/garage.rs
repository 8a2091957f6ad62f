//! Garage, for `scripts/compat`: a store that ignores conditions on writes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::programs::{succeeds, wait_until};
use super::servers::{
    Credentials, Server, binary_of_the_server, dies_with_parent, free_ports, spawned,
};

/// Starts Garage, lays out its one node and makes a key.
pub fn start() -> Server {
    let owner = Credentials {
        access_key: "GK31c2f218a2e44f485b94239e".into(),
        secret_key: "b892c0665f0ada8a4755dae98baa3b133590e11dae3bcc1f9d769d67f16c3835".into(),
    };
    let server = spawned("garage", command, owner.clone(), "garage");
    let config = server.folder().join("garage.toml");
    let mut node = String::new();
    wait_until(Duration::from_secs(60), "garage answers", || {
        let output = garage(&config, &["node", "id", "-q"]).output().unwrap();
        node = String::from_utf8(output.stdout).unwrap();
        let status = garage(&config, &["status"]).output().unwrap().status;
        output.status.success() && status.success()
    });
    let node = node.split('@').next().unwrap().trim();
    let (key, secret) = (&*owner.access_key, &*owner.secret_key);
    for args in [
        &["layout", "assign", "-z", "here", "-c", "100G", node][..],
        &["layout", "apply", "--version", "1"],
        &["key", "import", "--yes", "-n", "tests", key, secret],
        &["key", "allow", "--create-bucket", key],
    ] {
        succeeds(&mut garage(&config, args));
    }
    server
}

fn garage(config: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary_of_the_server());
    command.arg("-c").arg(config).args(args);
    command
}

fn command(dir: &Path) -> (Command, u16) {
    let [s3, rpc] = free_ports();
    let config = dir.join("garage.toml");
    let dir = dir.display();
    let text = format!(
        r#"
metadata_dir = "{dir}/meta"
data_dir = "{dir}/data"
db_engine = "lmdb"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "1799bccfd7411eddcf9ebd316bc1f5287ad12a68094e1c6ac6abde7e6feae1ec"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:{s3}"
root_domain = ".s3.garage.localhost"
"#
    );
    std::fs::write(&config, text).unwrap();
    let mut command = dies_with_parent("KILL", binary_of_the_server());
    command.arg("-c").arg(config).arg("server");
    (command, s3)
}
