//! The socket itself: made beside the one of a predecessor and moved into its place,
//! so that there is one at every moment; who is answered; what an end leaves.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::client;
use crate::private;

/// For its user alone; root may ask anyway.
const MODE: u32 = 0o600;
/// Connections that are served at once; others wait.
pub(super) const CONNECTIONS_LIMIT: usize = 64;
/// A request that has not come by then does not come.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// Longer than any request may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2 * 3600);
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether the socket is still in its place.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A daemon that serves says at once which mount it has.
const SAYS_WITHIN: Duration = Duration::from_millis(500);

/// A socket that listens, and where it is.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    pub place: SocketPlace,
}

/// Where a socket was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPlace {
    path: PathBuf,
    /// Device and inode: another daemon's in its place is left alone.
    file: (u64, u64),
}

impl Socket {
    /// Makes the socket of a mount, in the place of a dead daemon's or a predecessor's.
    ///
    /// Errors: the daemon of another mount answers there; the disk's. To be called in
    /// the run time.
    pub async fn bind(path: &Path, mountpoint: &Path) -> io::Result<Self> {
        check_free(path, mountpoint).await?;
        put(path)
    }

    /// Answers until the run time ends. A socket that somebody removed is made again.
    pub async fn serve(mut self, router: Router) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
        loop {
            let accepted = timeout(LOOK_EVERY, self.accept(&slots)).await;
            match accepted {
                Ok(Ok(Some((stream, slot)))) => {
                    tokio::spawn(answer(stream, router.clone(), slot, ANSWERED_WITHIN));
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%error, "control socket: no connection accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
                Err(_) => self.look(),
            }
        }
    }

    /// The next connection; none for one of a user who is not answered.
    async fn accept(
        &self,
        slots: &Arc<Semaphore>,
    ) -> io::Result<Option<(UnixStream, OwnedSemaphorePermit)>> {
        let slot = slots.clone().acquire_owned().await;
        let slot = slot.map_err(io::Error::other)?;
        let (stream, _) = self.listener.accept().await?;
        let uid = stream.peer_cred()?.uid();
        if uid == 0 || uid == rustix::process::geteuid().as_raw() {
            return Ok(Some((stream, slot)));
        }
        tracing::warn!(uid, "control socket: another user is not answered");
        Ok(None)
    }

    fn look(&mut self) {
        let path = &self.place.path;
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Whoever has put another there answers now.
            _ => return,
        }
        match put(path) {
            Ok(again) => {
                tracing::info!(path = %path.display(), "the control socket was removed: made again");
                *self = again;
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "the control socket is gone");
            }
        }
    }
}

impl SocketPlace {
    /// Removes the socket, unless it is a successor's already.
    pub fn remove(&self) {
        let found = fs::symlink_metadata(&self.path);
        let is_ours = found.is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the control socket stays");
        }
    }
}

/// Errors: something that is no socket is there; another mount's daemon answers.
async fn check_free(path: &Path, mountpoint: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        let why = format!("{} is there, and is no socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    // A dead daemon's refuses; one that hangs is no reason to be without.
    let asked = timeout(SAYS_WITHIN, client::identity(path)).await;
    let Ok(Ok(other)) = asked else { return Ok(()) };
    if Path::new(&other.mountpoint) == mountpoint {
        return Ok(());
    }
    let why = format!(
        "the mount on {} answers at {}: name another place with --control-socket",
        other.mountpoint,
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::AddrInUse, why))
}

fn put(path: &Path) -> io::Result<Socket> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // A user's runtime directory goes with the last session, and comes with the next.
    if let Some(dir) = path.parent().filter(|dir| !dir.exists()) {
        private::directory(dir)?;
    }
    let beside = format!(".{}.{}", name.to_string_lossy(), std::process::id());
    let beside = path.with_file_name(beside);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    let placed = fs::set_permissions(&beside, fs::Permissions::from_mode(MODE))
        .and_then(|()| fs::symlink_metadata(&beside))
        .and_then(|made| fs::rename(&beside, path).map(|()| made));
    let made = placed.inspect_err(|_| drop(fs::remove_file(&beside)))?;
    Ok(Socket {
        listener,
        place: SocketPlace {
            path: path.to_owned(),
            file: (made.dev(), made.ino()),
        },
    })
}

/// One request: whoever asks again connects again.
pub(super) async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    slot: OwnedSemaphorePermit,
    within: Duration,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(within, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection of who asked broke off"),
        Err(_) => tracing::debug!("a request of who asked took too long"),
    }
    drop(slot);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_takes_the_place_of_a_dead_one_and_of_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.sock");
        let mountpoint = Path::new("/srv/media");
        let first = Socket::bind(&path, mountpoint).await.unwrap();
        let mode = fs::metadata(&path).unwrap().mode() & 0o7777;
        assert_eq!(mode, MODE);
        let dead = first.place.clone();
        drop(first);
        let second = Socket::bind(&path, mountpoint).await.unwrap();
        dead.remove();
        assert!(path.exists(), "it is another's by now");
        second.place.remove();
        assert!(!path.exists());
        fs::write(&path, b"precious").unwrap();
        let refused = Socket::bind(&path, mountpoint).await.unwrap_err();
        assert!(refused.to_string().contains("is no socket"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let left = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 1, "nothing is left beside it");
    }

    #[tokio::test]
    async fn a_socket_that_was_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mediafs/m.sock");
        let mut socket = Socket::bind(&path, Path::new("/m")).await.unwrap();
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        socket.look();
        assert!(path.exists());
        socket.place.remove();
        assert!(!path.exists());
    }
}
