//! Objects on their way into a directory.

use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use rustix::fs::FileType;
use tokio::sync::Semaphore;

use super::described::{GRANTED_BITS, set_xattrs};
use super::entry::{Object, Odd, Stat};
use super::failures::NotMoved;
use super::judge::{Judge, Verdict};
use super::local_file::{LocalFile, blocking};
use super::odd_policy::OddPolicies;
use super::operator::Operator;
use super::outbox::NOT_TRIED;
use super::proof::Proof;
use super::report::{Again, Done, Line, Symbol};
use super::target_tree::{Ownership, TargetTree, Unfinished};
use super::throttle::Throttle;
use super::walk::Symlinks;
use crate::config::{AttributesConfig, AttributesMode};
use crate::namespace::Attributes;
use crate::store::{ETag, GetRequest, ObjectHeaders, StoreError};
use crate::vocabulary::Kind;

/// Of an object, in memory at once, and one request.
const PIECE_BYTES: u64 = 8 << 20;
/// Pieces that are in memory, of all objects together.
const PIECES_LIMIT: usize = 12;
/// Of one object.
const PIECES_AT_ONCE: usize = 8;
/// Attempts at an object that arrives damaged.
const ATTEMPTS: usize = 3;
/// Longest target of a symlink. Source: limits.h, `PATH_MAX`.
const SYMLINK_LIMIT_BYTES: u64 = 4096;

pub struct Fetcher {
    pub judge: Arc<Judge>,
    pub tree: TargetTree,
    pub throttle: Arc<Throttle>,
    pub attributes: AttributesConfig,
    pub symlinks: Symlinks,
    pub odd: OddPolicies,
    pub operator: Arc<dyn Operator>,
    memory: Semaphore,
    /// S3 does not answer, or the disk is full: nothing more is fetched.
    stopped: AtomicBool,
    /// The operator knows that objects are read twice.
    told: AtomicBool,
}

/// Why an object was not fetched.
enum Failed {
    /// What arrived is not what is stored.
    Damaged(String),
    Store(StoreError),
    Disk(io::Error),
    Words(String),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Fetcher {
    pub fn new(
        judge: Arc<Judge>,
        tree: TargetTree,
        throttle: Arc<Throttle>,
        attributes: AttributesConfig,
        (symlinks, odd): (Symlinks, OddPolicies),
        operator: Arc<dyn Operator>,
    ) -> Self {
        Self {
            judge,
            tree,
            throttle,
            attributes,
            symlinks,
            odd,
            operator,
            memory: Semaphore::new(PIECES_LIMIT),
            stopped: AtomicBool::new(false),
            told: AtomicBool::new(false),
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Fetches an object in the place of this file, or where there is none.
    pub async fn fetch(&self, object: &Object, replaces: Option<&Stat>) -> Line {
        if self.is_stopped() {
            return Line::error(&object.path, NOT_TRIED);
        }
        for _ in 1..ATTEMPTS {
            match self.fetched(object, replaces).await {
                Ok(line) => return line,
                Err(Failed::Damaged(why)) => {
                    tracing::warn!(path = object.path, why, "fetching again");
                }
                Err(failed) => return self.failed(object, failed),
            }
        }
        let last = self.fetched(object, replaces).await;
        last.unwrap_or_else(|failed| self.failed(object, failed))
    }

    fn failed(&self, object: &Object, failed: Failed) -> Line {
        let (stops, failed) = match failed {
            Failed::Store(error) => (error.kind.is_no_answer(), NotMoved::from(&error)),
            Failed::Disk(error) => {
                let is_full = matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull
                        | io::ErrorKind::QuotaExceeded
                        | io::ErrorKind::ReadOnlyFilesystem
                );
                (is_full, error.into())
            }
            Failed::Damaged(why) | Failed::Words(why) => (false, NotMoved::now(why)),
        };
        if stops && !self.stopped.swap(true, Ordering::AcqRel) {
            let why = &failed.why;
            self.operator
                .tell(&format!("nothing more is fetched: {why}"));
        }
        failed.line(&object.path)
    }

    async fn fetched(&self, object: &Object, replaces: Option<&Stat>) -> Result<Line, Failed> {
        let path = &object.path;
        if self.attributes.mode == AttributesMode::Stored {
            let described = self.attributes_of(object).await?;
            match described.kind {
                Kind::File => {}
                Kind::Symlink => return self.symlink(object, replaces).await,
                kind if self.odd.wants_all() => {
                    return self.special(object, replaces, &described, kind).await;
                }
                _ => {
                    return Ok(self.odd.line(
                        Symbol::OnlyThere,
                        path,
                        Odd::Special,
                        "it is no file",
                    ));
                }
            }
            return self.file(object, replaces, &described).await;
        }
        self.file(object, replaces, &Attributes::default()).await
    }

    async fn attributes_of(&self, object: &Object) -> Result<Attributes, Failed> {
        let key = self.judge.key_of(&object.path);
        let head = crate::store::HeadRequest { key };
        let headers: ObjectHeaders = self.judge.store.head(head).await?.headers;
        Ok(Attributes::decode(headers))
    }

    async fn file(
        &self,
        object: &Object,
        replaces: Option<&Stat>,
        described: &Attributes,
    ) -> Result<Line, Failed> {
        let (tree, path) = (self.tree.clone(), object.path.clone());
        let unfinished = blocking(move || tree.begin(&path)).await?;
        self.write(object, &unfinished).await?;
        let ownership = self.ownership(object, described);
        let xattrs = described.xattrs.clone();
        let unfinished = blocking(move || {
            set_xattrs(&unfinished.file, &xattrs)?;
            unfinished.give(&ownership)?;
            Ok(unfinished)
        })
        .await?;
        let file = LocalFile::own(unfinished.file.try_clone()?)?;
        let proof = self.proof(object, &file).await?;
        let (proved, replaces) = (*file.stat(), replaces.copied());
        let stat = blocking(move || unfinished.place(&proved, replaces.as_ref())).await?;
        if let Some(checkpoint) = &self.judge.checkpoint {
            checkpoint.note_equal(&object.path, self.judge.equal(&stat, object));
        }
        Ok(Line::proved(&object.path, object.size_bytes, proof).done(Done::Fetched))
    }

    /// Writes the bytes of one version, each piece as it arrives.
    async fn write(&self, object: &Object, unfinished: &Unfinished) -> Result<(), Failed> {
        let starts = (0..object.size_bytes).step_by(PIECE_BYTES as usize);
        let pieces = stream::iter(starts).map(|start| {
            let end = object.size_bytes.min(start + PIECE_BYTES);
            self.piece(object, unfinished, start..end)
        });
        pieces.buffer_unordered(PIECES_AT_ONCE).try_collect().await
    }

    async fn piece(
        &self,
        object: &Object,
        unfinished: &Unfinished,
        piece: Range<u64>,
    ) -> Result<(), Failed> {
        let _turn = self.memory.acquire().await;
        let len = piece.end - piece.start;
        self.throttle.take(len).await;
        let request = GetRequest {
            key: self.judge.key_of(&object.path),
            // The checksum of a whole object comes along with all of it.
            range: (len < object.size_bytes).then_some(piece.clone()),
            if_match: Some(ETag::new(&object.etag)),
            sink: None,
        };
        let bytes = self.judge.store.get(request).await?.body;
        if bytes.len() as u64 != len {
            let why = "S3 sent fewer bytes than the object has";
            return Err(Failed::Words(why.to_owned()));
        }
        let file = unfinished.file.try_clone()?;
        blocking(move || file.write_all_at(&bytes, piece.start)).await?;
        self.operator.moved(0, len);
        Ok(())
    }

    /// Reads back what was written. Errors: it has not the bytes of the object.
    async fn proof(&self, object: &Object, file: &LocalFile) -> Result<Proof, Failed> {
        if object.size_bytes == 0 {
            return Ok(Proof::Empty);
        }
        let checked = self.judge.check(file, &object.path, object).await;
        let mut verdict = checked.map_err(Failed::Words)?;
        if verdict == Verdict::Unproved {
            self.tell_of_second_read();
            let read = self.judge.by_bytes(file, &object.path, object).await;
            verdict = read.map_err(Failed::Words)?;
        }
        let why = match verdict {
            Verdict::Equal(proof) => return Ok(proof),
            Verdict::Unproved => "it cannot be compared".to_owned(),
            Verdict::Different(why) | Verdict::Failed(why) => why,
        };
        let why = format!("what arrived is not what is stored: {why}");
        Err(Failed::Damaged(why))
    }

    fn tell_of_second_read(&self) {
        if !self.told.swap(true, Ordering::AcqRel) {
            let text = "some objects have no checksum: each of them is read twice, and compared";
            self.operator.tell(text);
        }
    }

    fn ownership(&self, object: &Object, described: &Attributes) -> Ownership {
        let mode = described.mode.unwrap_or(self.attributes.file_mode) & GRANTED_BITS;
        let stored = std::time::UNIX_EPOCH + std::time::Duration::from_secs(object.modified);
        Ownership {
            uid: described.uid.unwrap_or(self.attributes.uid),
            gid: described.gid.unwrap_or(self.attributes.gid),
            mode: u32::from(mode),
            modified: Some(described.mtime.unwrap_or(stored)),
        }
    }

    async fn symlink(&self, object: &Object, replaces: Option<&Stat>) -> Result<Line, Failed> {
        let path = &object.path;
        if object.size_bytes > SYMLINK_LIMIT_BYTES || replaces.is_some() {
            let why = "it is a symlink there, too long or over a file here";
            return Ok(self.odd.line(Symbol::OnlyThere, path, Odd::Symlink, why));
        }
        let body = self.whole(object).await?;
        let proof = match ETag::of_bytes(&body)
            .as_str()
            .eq_ignore_ascii_case(&object.etag)
        {
            true => Proof::Md5,
            false if self.whole(object).await? == body => Proof::Read,
            false => return Err(Failed::Damaged("it was read as two symlinks".to_owned())),
        };
        let target = OsString::from_vec(body.to_vec());
        let shown = target.to_string_lossy().into_owned();
        let is_allowed = match self.symlinks {
            Symlinks::Name => false,
            Symlinks::Inside if stays_inside(path, &shown) => {
                let (tree, own, leads_to) = (self.tree.clone(), path.clone(), target.clone());
                blocking(move || Ok(tree.leads_inside(&own, &leads_to))).await?
            }
            Symlinks::Inside => false,
            Symlinks::Everywhere => true,
        };
        if !is_allowed || target.is_empty() {
            let why = format!("it is a symlink to {shown}");
            return Ok(self.odd.line(Symbol::OnlyThere, path, Odd::Symlink, &why));
        }
        let (tree, own) = (self.tree.clone(), path.clone());
        blocking(move || tree.make_symlink(&own, &target)).await?;
        Ok(Line::proved(path, object.size_bytes, proof).done(Done::Fetched))
    }

    /// A FIFO or a socket, which has no bytes. No device: it would lend privileges.
    async fn special(
        &self,
        object: &Object,
        replaces: Option<&Stat>,
        described: &Attributes,
        kind: Kind,
    ) -> Result<Line, Failed> {
        let path = &object.path;
        let refused = |why: &str| {
            let (why, again) = (why.to_owned(), Again::Fails);
            Ok(NotMoved { why, again }.line(path))
        };
        let file_type = match kind {
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
            _ => return refused("it is a device, which is not made"),
        };
        if replaces.is_some() {
            return refused("it is no file there, and a file is in its place here");
        }
        let (tree, own) = (self.tree.clone(), path.clone());
        let ownership = self.ownership(object, described);
        blocking(move || tree.make_special(&own, file_type, &ownership)).await?;
        Ok(Line::proved(path, 0, Proof::Empty).done(Done::Fetched))
    }

    /// All bytes of a short object.
    async fn whole(&self, object: &Object) -> Result<Bytes, Failed> {
        let request = GetRequest {
            key: self.judge.key_of(&object.path),
            range: None,
            if_match: Some(ETag::new(&object.etag)),
            sink: None,
        };
        let body = self.judge.store.get(request).await?.body;
        if body.len() as u64 == object.size_bytes {
            return Ok(body);
        }
        let why = "S3 sent another number of bytes than the object has";
        Err(Failed::Damaged(why.to_owned()))
    }

    /// Makes what stands for an empty directory.
    pub async fn make_directory(&self, path: &str) -> Option<Line> {
        let (tree, own) = (self.tree.clone(), path.to_owned());
        let is_described = self.attributes.mode == AttributesMode::Stored;
        let make = move || match is_described {
            true => tree.make_closed(&own),
            false => tree.make_directory(&own),
        };
        match blocking(make).await {
            Ok(()) => None,
            Err(error) => Some(NotMoved::from(error).line(path)),
        }
    }
}

/// Whether the text of a symlink at this path leads to a place below the root, if that of
/// each symlink on its way does. It may go up at its beginning alone, where all that it
/// leaves are directories: `..` behind the name of a symlink leads up from where that leads.
fn stays_inside(path: &str, target: &str) -> bool {
    if target.starts_with('/') || target.contains('\0') {
        return false;
    }
    let (mut depth, mut goes_down) = (path.matches('/').count(), false);
    for segment in target.split('/') {
        match segment {
            "" | "." => {}
            ".." if goes_down || depth == 0 => return false,
            ".." => depth -= 1,
            _ => goes_down = true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::AttributesConfig;
    use crate::migrate::tests::{Places, Quiet};
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::memory::Memory;
    use crate::store::{ObjectStore, StoreOp};

    fn fetcher(places: &Places) -> Fetcher {
        let own = Ownership {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mode: 0o755,
            modified: None,
        };
        let attributes = AttributesConfig {
            mode: AttributesMode::Fixed,
            uid: own.uid,
            gid: own.gid,
            file_mode: 0o644,
            dir_mode: 0o755,
        };
        Fetcher::new(
            places.judge.clone(),
            TargetTree::new(places.judge.tree.root.clone(), own),
            Arc::new(Throttle::new(None)),
            attributes,
            (Symlinks::Name, OddPolicies::refusing()),
            Arc::new(Quiet),
        )
    }

    #[tokio::test]
    async fn an_object_without_a_checksum_is_read_twice_before_it_counts_as_read() {
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let places = Places::new(faulty.clone()).await;
        let object = places.object("d/f", "bytes").await;
        // What arrives damaged has the right length.
        faulty.plan(StoreOp::Get, 1, Fault::Damaged);
        let line = fetcher(&places).fetch(&object, None).await;
        assert_eq!(line.proof, Some(Proof::Read), "{line:?}");
        assert_eq!(fs::read(places.path("d/f")).unwrap(), b"bytes");
        assert_eq!(faulty.seen(StoreOp::Get), 4);
        // Damaged each time that it is fetched: nothing takes its place.
        let object = places.object("never", "bytes").await;
        for nth in [5, 7, 9] {
            faulty.plan(StoreOp::Get, nth, Fault::Damaged);
        }
        let line = fetcher(&places).fetch(&object, None).await;
        assert!(line.is_error(), "{line:?}");
        assert!(!places.path("never").exists());
    }

    #[tokio::test]
    async fn what_the_checkpoint_knows_of_a_fetched_file_is_what_was_proved() {
        let store: Arc<dyn ObjectStore> = Arc::new(Memory::default());
        let places = Places::new(store).await;
        let object = places.object("f", "bytes").await;
        let line = fetcher(&places).fetch(&object, None).await;
        assert_eq!(line.done, Some(Done::Fetched), "{line:?}");
        let stat = Stat::from(&fs::metadata(places.path("f")).unwrap());
        let known = places.judge.equal(&stat, &object);
        let checkpoint = places.judge.checkpoint.as_ref().unwrap();
        assert!(checkpoint.is_equal("f", &known));
    }

    #[test]
    fn a_symlink_that_leads_out_of_the_root_is_known_by_its_text() {
        for (path, target, inside) in [
            ("a", "b", true),
            ("a/b", "../c", true),
            ("a/b", "../../c", false),
            ("a", "/etc/passwd", false),
            ("a", "..", false),
            ("a/b/c", "../../x/y", true),
            ("a/b/c", "./..//../x/", true),
            // Where `x` is a symlink to the root, this leads out of it.
            ("a/b/c", "../../x/../y", false),
            ("a", "x/y/up/../..", false),
            ("a", "b\0c", false),
            ("a", "b/../../c", false),
        ] {
            assert_eq!(stays_inside(path, target), inside, "{path} -> {target}");
        }
    }
}
