//! A line between a daemon and a server whose connections can die without a word, as
//! after a suspend or behind a firewall that forgets them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::servers::Server;

#[derive(Debug)]
struct Connection {
    is_dead: AtomicBool,
    is_closed: AtomicBool,
    client: TcpStream,
    server: TcpStream,
}

/// Listens on a port of its own for as long as it lives.
#[derive(Debug)]
pub struct Line {
    pub endpoint: String,
    connections: Arc<Mutex<Vec<Arc<Connection>>>>,
}

impl Line {
    pub fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let upstream = server.endpoint.strip_prefix("http://").unwrap().to_owned();
        let connections: Arc<Mutex<Vec<Arc<Connection>>>> = Arc::default();
        let all = connections.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(&upstream).unwrap();
                let connection = Arc::new(Connection {
                    is_dead: AtomicBool::new(false),
                    is_closed: AtomicBool::new(false),
                    client,
                    server,
                });
                all.lock().push(connection.clone());
                let back = connection.clone();
                std::thread::spawn(move || {
                    carry(&connection, &connection.client, &connection.server)
                });
                std::thread::spawn(move || carry(&back, &back.server, &back.client));
            }
        });
        Self {
            endpoint,
            connections,
        }
    }

    /// From now on nothing comes through the connections that there are; nobody is
    /// told. Returns how many they are.
    pub fn kill_connections(&self) -> usize {
        let connections = self.connections.lock();
        let open = connections.iter().filter(|it| {
            let is_open = !it.is_closed.load(Ordering::SeqCst);
            is_open && !it.is_dead.swap(true, Ordering::SeqCst)
        });
        open.count()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for connection in self.connections.lock().iter() {
            connection.client.shutdown(Shutdown::Both).ok();
            connection.server.shutdown(Shutdown::Both).ok();
        }
    }
}

fn carry(connection: &Connection, mut from: &TcpStream, mut to: &TcpStream) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        if !connection.is_dead.load(Ordering::SeqCst) && to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
    connection.is_closed.store(true, Ordering::SeqCst);
    if !connection.is_dead.load(Ordering::SeqCst) {
        to.shutdown(Shutdown::Write).ok();
    }
}
