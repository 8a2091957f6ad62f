//! TLS before an S3 server, with a certificate of a CA that nobody else knows.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tempfile::TempDir;

use super::programs::{python, run_shell};
use super::servers::{Server, dies_with_parent};

/// Certificates of a CA, and of `localhost`, `s3.invalid` and 127.0.0.1 by it.
const MAKE: &str = r#"
    cd "$1"
    new="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    openssl req -x509 $new -days 2 -subj "/CN=CA of a test" -keyout ca.key -out ca.pem
    openssl req $new -subj /CN=localhost -keyout key.pem -out request.pem
    echo "subjectAltName=DNS:localhost,DNS:s3.invalid,IP:127.0.0.1" >names
    openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial \
        -days 2 -extfile names -out cert.pem"#;

const SERVE: &str = r"
import asyncio, ssl, sys
cert, key, host, port = sys.argv[1:]

async def pipe(source, target):
    try:
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    except OSError:
        pass
    target.close()

async def serve(reader, writer):
    up_reader, up_writer = await asyncio.open_connection(host, int(port))
    await asyncio.gather(pipe(reader, up_writer), pipe(up_reader, writer))

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = await asyncio.start_server(serve, '127.0.0.1', 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
";

/// Dropped, it ends.
#[derive(Debug)]
pub struct TlsFront {
    pub port: u16,
    /// Of the CA.
    pub ca: PathBuf,
    child: Child,
    _dir: TempDir,
}

impl TlsFront {
    #[track_caller]
    pub fn before(server: &Server) -> Self {
        Self::before_endpoint(&server.endpoint)
    }

    /// As `http://127.0.0.1:PORT`.
    #[track_caller]
    pub fn before_endpoint(endpoint: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        run_shell(&format!("{{ {MAKE}\n}} 2>/dev/null"), &[dir.path()]);
        let address = endpoint.strip_prefix("http://").unwrap();
        let (host, port) = address.split_once(':').unwrap();
        let mut command = dies_with_parent("KILL", python());
        command.args(["-c", SERVE]);
        command.arg(path("cert.pem")).arg(path("key.pem"));
        command.args([host, port]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        Self {
            port: line.trim().parse().unwrap(),
            ca: path("ca.pem"),
            child,
            _dir: dir,
        }
    }

    pub fn endpoint(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }

    pub fn ca(&self) -> &Path {
        &self.ca
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
