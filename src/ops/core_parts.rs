//! What nearly all operations call, and the parts that are made of it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::change::{Access, NameChanges};
use super::dir_reader::DirReader;
use super::file_maker::FileMaker;
use super::file_remover::FileRemover;
use super::node_maker::NodeMaker;
use super::object_copier::ObjectCopier;
use super::rename::{ObjectCopies, Rebase, RenameLog};
use super::resent::ExecutedRequests;
use super::{Controls, OpsSettings, Parts};
use crate::files::{
    AttributeView, AwaitedOpens, Durability, Handles, NamedOpens, OpenFiles, StageFactory,
};
use crate::namespace::{Namespace, SubtreeLocks};
use crate::read_path::Reader;
use crate::store::DeleteQueue;
use crate::write_path::{Copier, Scratch, Uploader};
use crate::writeback::{
    AttributeWriter, Deletes, EarlyParts, KeptHeaders, Predecessor, Removals, RetryQueue,
    RoomMaker, Sealer, UploadQueue, Uploads, Writeback,
};

/// What nearly all operations call.
#[derive(Debug)]
pub struct CoreParts {
    pub durability: Durability,
    pub mounted_at: SystemTime,
    pub namespace: Arc<Namespace>,
    pub store: Arc<DeleteQueue>,
    pub reader: Arc<Reader>,
    pub uploader: Arc<Uploader>,
    pub copier: Arc<Copier>,
    pub scratch: Scratch,
    pub stage_factory: Arc<StageFactory>,
    pub subtrees: Arc<SubtreeLocks>,
    pub predecessor: Arc<Predecessor>,
    pub executed: Arc<ExecutedRequests>,
    pub files: Arc<OpenFiles>,
    pub attributes: Arc<AttributeView>,
}

impl CoreParts {
    pub fn new(parts: Parts, settings: &OpsSettings) -> Self {
        let namespace = Arc::new(parts.namespace);
        let stage_factory = Arc::new(StageFactory {
            spool: parts.spool,
            keys: namespace.keys().clone(),
            session_log: parts.session_log.clone(),
        });
        let executed = Arc::new(ExecutedRequests::new(parts.session_log.clone()));
        let attributes = AttributeView {
            namespace: namespace.clone(),
            fixed: settings.attributes,
            content_types: settings.content_types.clone(),
            session_log: parts.session_log,
        };
        let predecessor = Predecessor {
            store: parts.store.clone(),
            durability: settings.durability,
            began_at: Instant::now(),
        };
        Self {
            durability: settings.durability,
            mounted_at: parts.mounted_at,
            store: parts.store,
            reader: parts.reader,
            uploader: Arc::new(parts.uploader),
            copier: Arc::new(parts.copier),
            scratch: parts.scratch,
            subtrees: SubtreeLocks::new(namespace.table().clone(), settings.max_wait),
            predecessor: Arc::new(predecessor),
            executed,
            files: Arc::new(OpenFiles::new(namespace.clone(), stage_factory.clone())),
            attributes: Arc::new(attributes),
            namespace,
            stage_factory,
        }
    }

    pub fn sealer(&self) -> Arc<Sealer> {
        Arc::new(Sealer {
            namespace: self.namespace.clone(),
            attributes: self.attributes.clone(),
            stage_factory: self.stage_factory.clone(),
            durability: self.durability,
        })
    }

    pub fn uploads(&self, sealer: &Arc<Sealer>) -> Arc<Uploads> {
        Arc::new(Uploads {
            namespace: self.namespace.clone(),
            attributes: self.attributes.clone(),
            stage_factory: self.stage_factory.clone(),
            subtrees: self.subtrees.clone(),
            predecessor: self.predecessor.clone(),
            sealer: sealer.clone(),
            reader: self.reader.clone(),
            uploader: self.uploader.clone(),
            copier: self.copier.clone(),
            kept: KeptHeaders {
                namespace: self.namespace.clone(),
                attributes: self.attributes.clone(),
                copier: self.copier.clone(),
            },
        })
    }

    pub fn writeback(&self, sealer: &Arc<Sealer>, uploads: &Arc<Uploads>) -> Arc<Writeback> {
        Arc::new(Writeback {
            namespace: self.namespace.clone(),
            files: self.files.clone(),
            stage_factory: self.stage_factory.clone(),
            subtrees: self.subtrees.clone(),
            predecessor: self.predecessor.clone(),
            sealer: sealer.clone(),
            uploads: uploads.clone(),
            uploader: self.uploader.clone(),
            durability: self.durability,
            mounted_at: self.mounted_at,
            queue: UploadQueue::new(),
        })
    }

    pub fn named_opens(&self) -> Arc<NamedOpens> {
        Arc::new(NamedOpens {
            namespace: self.namespace.clone(),
            files: self.files.clone(),
            awaited_opens: AwaitedOpens::default(),
        })
    }

    pub fn early_parts(&self, uploads: &Arc<Uploads>) -> Arc<EarlyParts> {
        Arc::new(EarlyParts {
            namespace: self.namespace.clone(),
            uploads: uploads.clone(),
            uploader: self.uploader.clone(),
            queue: RetryQueue::new(),
            sending: Mutex::default(),
        })
    }

    pub fn deletes(&self) -> Arc<Deletes> {
        Arc::new(Deletes {
            namespace: self.namespace.clone(),
            store: self.store.clone(),
            reader: self.reader.clone(),
            copier: self.copier.clone(),
            scratch: self.scratch.clone(),
            durability: self.durability,
            row: Removals::default(),
        })
    }

    pub fn file_maker(&self, uploads: &Arc<Uploads>) -> FileMaker {
        FileMaker {
            namespace: self.namespace.clone(),
            attributes: self.attributes.clone(),
            files: self.files.clone(),
            uploads: uploads.clone(),
        }
    }

    pub fn node_maker(&self, deletes: &Arc<Deletes>) -> NodeMaker {
        NodeMaker {
            namespace: self.namespace.clone(),
            attributes: self.attributes.clone(),
            store: self.store.clone(),
            deletes: deletes.clone(),
        }
    }

    pub fn file_remover(
        &self,
        named_opens: &Arc<NamedOpens>,
        uploads: &Arc<Uploads>,
        deletes: &Arc<Deletes>,
    ) -> FileRemover {
        FileRemover {
            namespace: self.namespace.clone(),
            store: self.store.clone(),
            files: self.files.clone(),
            named_opens: named_opens.clone(),
            predecessor: self.predecessor.clone(),
            executed: self.executed.clone(),
            uploads: uploads.clone(),
            deletes: deletes.clone(),
        }
    }

    pub fn object_copier(&self, uploads: &Arc<Uploads>, deletes: &Arc<Deletes>) -> ObjectCopier {
        ObjectCopier {
            namespace: self.namespace.clone(),
            attributes: self.attributes.clone(),
            executed: self.executed.clone(),
            copier: self.copier.clone(),
            uploads: uploads.clone(),
            deletes: deletes.clone(),
        }
    }

    pub fn controls(
        &self,
        handles: &Arc<Handles>,
        writeback: &Arc<Writeback>,
        copies: &Arc<ObjectCopies>,
    ) -> Controls {
        Controls {
            namespace: self.namespace.clone(),
            store: self.store.clone(),
            reader: self.reader.clone(),
            stage_factory: self.stage_factory.clone(),
            handles: handles.clone(),
            files: self.files.clone(),
            writeback: writeback.clone(),
            copies: copies.clone(),
        }
    }

    pub fn dir_reader(&self) -> DirReader {
        DirReader {
            namespace: self.namespace.clone(),
            subtrees: self.subtrees.clone(),
            attributes: self.attributes.clone(),
            session_log: self.stage_factory.session_log.clone(),
        }
    }

    pub fn name_changes(&self, access: Access) -> NameChanges {
        NameChanges {
            access,
            namespace: self.namespace.clone(),
            subtrees: self.subtrees.clone(),
            predecessor: self.predecessor.clone(),
        }
    }

    pub fn room_maker(&self, uploads: &Arc<Uploads>) -> RoomMaker {
        RoomMaker {
            namespace: self.namespace.clone(),
            files: self.files.clone(),
            stage_factory: self.stage_factory.clone(),
            subtrees: self.subtrees.clone(),
            uploads: uploads.clone(),
            uploader: self.uploader.clone(),
        }
    }

    pub fn attribute_writer(&self, uploads: &Arc<Uploads>) -> AttributeWriter {
        AttributeWriter {
            namespace: self.namespace.clone(),
            files: self.files.clone(),
            attributes: self.attributes.clone(),
            subtrees: self.subtrees.clone(),
            uploads: uploads.clone(),
        }
    }

    pub fn copies(&self, deletes: &Arc<Deletes>, settings: &OpsSettings) -> Arc<ObjectCopies> {
        Arc::new(ObjectCopies {
            namespace: self.namespace.clone(),
            store: self.store.clone(),
            deletes: deletes.clone(),
            copier: self.copier.clone(),
            limit: AtomicU64::new(settings.max_rename_objects),
        })
    }

    pub fn rebase(&self, sealer: &Arc<Sealer>) -> Arc<Rebase> {
        Arc::new(Rebase {
            namespace: self.namespace.clone(),
            files: self.files.clone(),
            sealer: sealer.clone(),
        })
    }

    pub fn rename_log(&self) -> Arc<RenameLog> {
        Arc::new(RenameLog {
            stage_factory: self.stage_factory.clone(),
            durability: self.durability,
            executed: self.executed.clone(),
            finished: Mutex::default(),
        })
    }
}
