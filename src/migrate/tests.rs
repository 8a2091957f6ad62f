//! What unit tests of a job need: a directory, a bucket in memory, a judge of both.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::entry::{Object, Stat};
use super::judge::{Comparison, Judge, JudgeSettings};
use super::local_file::Tree;
use super::operator::Operator;
use super::plan_counts::{PlanCounts, Work};
use super::throttle::Throttle;
use super::walk::{Symlinks, open_root};
use crate::config::AttributesMode;
use crate::store::{
    ETag, HeadRequest, Key, ListedObject, ObjectHeaders, ObjectStore, PutRequest, WriteCondition,
};

/// Nobody is there.
pub struct Quiet;

impl Operator for Quiet {
    fn tell(&self, _: &str) {}

    fn approves(&self, _: &PlanCounts) -> bool {
        true
    }

    fn begins(&self, _: u64, _: u64) {}

    fn moved(&self, _: u64, _: u64) {}

    fn ends(&self) {}
}

pub fn some_stat() -> Stat {
    Stat::from(&fs::metadata(".").unwrap())
}

/// The ETag of one PUT.
pub fn bytes_of(text: &str) -> ETag {
    ETag::of_bytes(text.as_bytes())
}

/// A directory and a bucket.
pub struct Places {
    folder: tempfile::TempDir,
    pub store: Arc<dyn ObjectStore>,
    pub judge: Arc<Judge>,
}

pub fn settings(work: Work, attributes: AttributesMode) -> JudgeSettings {
    JudgeSettings {
        prefix: "p/".to_owned(),
        comparison: Comparison::Checksums,
        work,
        attributes,
        throttle: Arc::new(Throttle::new(None)),
    }
}

impl Places {
    pub async fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self::with(store, settings(Work::Export, AttributesMode::Fixed)).await
    }

    pub async fn with(store: Arc<dyn ObjectStore>, settings: JudgeSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::create_dir(folder.path().join("tree")).unwrap();
        let tree = Tree {
            root: Arc::new(open_root(&folder.path().join("tree")).unwrap()),
            symlinks: Symlinks::Name,
        };
        let checkpoint = Arc::new(Checkpoint::open(&state).unwrap());
        let judge = Judge::new(store.clone(), tree, settings, Some(checkpoint));
        Self {
            folder,
            store,
            judge: Arc::new(judge),
        }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("tree").join(path)
    }

    /// Puts an object, and tells of it as a listing does.
    pub async fn object(&self, path: &str, bytes: &str) -> Object {
        self.described(path, bytes, ObjectHeaders::default()).await
    }

    pub async fn described(&self, path: &str, bytes: &str, headers: ObjectHeaders) -> Object {
        let key = Key::new(format!("p/{path}"));
        let put = PutRequest {
            key: key.clone(),
            body: bytes.to_owned().into(),
            headers,
            condition: WriteCondition::Always,
        };
        self.store.put(put).await.unwrap();
        let head = HeadRequest { key: key.clone() };
        let meta = self.store.head(head).await.unwrap();
        let listed = ListedObject {
            key,
            etag: meta.etag,
            size_bytes: meta.size_bytes,
            last_modified: meta.last_modified,
        };
        Object::below("p/", &listed).unwrap()
    }
}
