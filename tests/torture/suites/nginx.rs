//! nginx, which sends files with sendfile(2), while they are replaced.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::servers::free_ports;
use crate::support::suite::builder;
use crate::support::web_server::WebServer;
use crate::support::{Amount, Mount, wait_until};

/// Lengths of a file in its versions: one request of S3, and several parts of a cache.
const LENGTHS: [usize; 2] = [300_000, 3_000_000];

fn serve(mount: &Mount) -> WebServer {
    let [port] = free_ports();
    let dir = mount.scratch();
    let (scratch, root) = (dir.display(), mount.root.display());
    let config = dir.join("nginx.conf");
    let text = format!(
        "daemon off; master_process off; pid {scratch}/nginx.pid; error_log {scratch}/nginx.log;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; root {root};\n\
         client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy;\n\
         fastcgi_temp_path {scratch}/fastcgi; uwsgi_temp_path {scratch}/uwsgi;\n\
         scgi_temp_path {scratch}/scgi;\n\
         server {{ listen 127.0.0.1:{port}; }} }}\n"
    );
    fs::write(&config, text).unwrap();
    let log = dir.join("nginx.log");
    WebServer::start("nginx", port, |command| {
        command.arg("-e").arg(log).arg("-c").arg(config);
    })
}

/// A file whose bytes all tell its version.
fn version(number: usize, len: usize) -> Vec<u8> {
    vec![u8::try_from(number % 251).unwrap(); len]
}

/// Asks for a file until `stop`; how many answers were whole, and how many broke off.
fn ask_until(stop: &AtomicBool, server: &WebServer, path: &str, len: usize) -> (usize, usize) {
    let (mut whole, mut broken) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        match server.get(path) {
            Ok(body) => {
                let mixed = body.iter().any(|byte| *byte != body[0]);
                assert!(!mixed, "{path}: two versions in one answer");
                assert_eq!(body.len(), len, "{path}");
                whole += 1;
            }
            Err(_) => broken += 1,
        }
    }
    (whole, broken)
}

/// What a reader gets while `replace` makes one version after the other.
fn replaced(
    server: &WebServer,
    path: &str,
    len: usize,
    replace: impl Fn(Vec<u8>),
) -> (usize, usize) {
    let stop = AtomicBool::new(false);
    replace(version(0, len));
    wait_until(Amount::deadline(), "the first version", || {
        server.get(path).is_ok()
    });
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| ask_until(&stop, server, path, len));
        for number in 1..=Amount::of(20, 300) {
            replace(version(number, len));
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    })
}

#[test]
fn nginx_sends_one_version_of_a_file_however_often_it_is_replaced() {
    let mount = builder().start();
    let server = serve(&mount);
    let mut answers = 0;
    for len in LENGTHS {
        let (path, name) = (format!("/here{len}.bin"), format!("here{len}.bin"));
        let (whole, broken) = replaced(&server, &path, len, |bytes| {
            let aside = mount.path("aside.tmp");
            fs::write(&aside, bytes).unwrap();
            fs::rename(&aside, mount.path(&name)).unwrap();
        });
        assert!(whole > 0 && broken == 0, "{whole} whole, {broken} broken");
        answers += whole;
    }
    // Of what another client replaces, an answer may break off, and is never a mixture.
    let (mut others, mut broken_off) = (0, 0);
    for len in LENGTHS {
        let (path, name) = (format!("/there{len}.bin"), format!("there{len}.bin"));
        let (whole, broken) = replaced(&server, &path, len, |bytes| {
            mount.put_object(&name, &bytes);
        });
        assert!(whole > 0, "{broken} broken");
        others += whole;
        broken_off += broken;
    }
    println!(
        "suite nginx: {answers} answers of files replaced on the mount, all whole; {others} whole and {broken_off} broken off of files that another client replaced; none mixed"
    );
}
