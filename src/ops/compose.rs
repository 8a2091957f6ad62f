//! Puts the operations together: who may call whom.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::change::NameChanges;
use super::readdir::DirReader;
use super::rename::{
    DirectoryRenamer, FileRenamer, KeyPaths, ObjectCopies, Rebase, RenameLog, RenameRecovery,
    Renamer,
};
use super::resent::CarriedOut;
use super::{Access, Ops, OpsSettings, Parts};
use crate::files::{
    AttributeView, AwaitedOpens, Durability, Handles, NamedOpens, OpenFiles, StageFactory,
};
use crate::namespace::{Namespace, SubtreeLocks};
use crate::read_path::Reader;
use crate::store::DeleteQueue;
use crate::write_path::{Copier, Scratch, Uploader};
use crate::writeback::{
    AttributeWriter, Deletes, EarlyParts, Predecessor, Removals, RetryQueue, RoomMaker, Sealer,
    UploadQueue, Uploads, Writeback,
};

/// What nearly all of them call.
struct Common {
    durability: Durability,
    mounted_at: SystemTime,
    namespace: Arc<Namespace>,
    store: Arc<DeleteQueue>,
    reader: Arc<Reader>,
    uploader: Arc<Uploader>,
    copier: Arc<Copier>,
    scratch: Scratch,
    stage_factory: Arc<StageFactory>,
    subtrees: Arc<SubtreeLocks>,
    predecessor: Arc<Predecessor>,
    carried_out: Arc<CarriedOut>,
    files: Arc<OpenFiles>,
    attributes: Arc<AttributeView>,
}

impl Ops {
    pub fn new(parts: Parts, settings: OpsSettings) -> Self {
        let handles = Handles::new(parts.session_log.clone());
        let common = Common::new(parts, &settings);
        let named_opens = Arc::new(NamedOpens {
            namespace: common.namespace.clone(),
            files: common.files.clone(),
            awaited_opens: AwaitedOpens::default(),
        });
        let sealer = common.sealer();
        let uploads = common.uploads(&sealer);
        let writeback = common.writeback(&sealer, &uploads);
        let early_parts = EarlyParts {
            namespace: common.namespace.clone(),
            uploads: uploads.clone(),
            uploader: common.uploader.clone(),
            queue: RetryQueue::new(),
            sending: Mutex::default(),
        };
        let deletes = Arc::new(Deletes {
            namespace: common.namespace.clone(),
            store: common.store.clone(),
            reader: common.reader.clone(),
            copier: common.copier.clone(),
            scratch: common.scratch.clone(),
            durability: common.durability,
            row: Removals::default(),
        });
        let renames = Renames {
            copies: common.copies(&deletes, &settings),
            rebase: common.rebase(&sealer),
            log: common.rename_log(),
            named_opens: named_opens.clone(),
            sealer,
            uploads: uploads.clone(),
            deletes: deletes.clone(),
        };
        Self {
            dir_reader: common.dir_reader(),
            name_changes: common.name_changes(settings.access),
            attribute_writer: common.attribute_writer(&uploads),
            room_maker: common.room_maker(&uploads),
            renamer: renames.renamer(&common),
            rename_recovery: Arc::new(renames.recovery(&common)),
            copies: renames.copies,
            writeback,
            early_parts: Arc::new(early_parts),
            handles,
            named_opens,
            uploads,
            deletes,
            settings,
            namespace: common.namespace,
            store: common.store,
            reader: common.reader,
            uploader: common.uploader,
            copier: common.copier,
            stage_factory: common.stage_factory,
            subtrees: common.subtrees,
            predecessor: common.predecessor,
            carried_out: common.carried_out,
            files: common.files,
            attributes: common.attributes,
        }
    }
}

impl Common {
    fn new(parts: Parts, settings: &OpsSettings) -> Self {
        let namespace = Arc::new(parts.namespace);
        let stage_factory = Arc::new(StageFactory {
            spool: parts.spool,
            keys: namespace.keys().clone(),
            session_log: parts.session_log.clone(),
        });
        let carried_out = Arc::new(CarriedOut::new(parts.session_log.clone()));
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
            carried_out,
            files: Arc::new(OpenFiles::new(namespace.clone(), stage_factory.clone())),
            attributes: Arc::new(attributes),
            namespace,
            stage_factory,
        }
    }

    fn sealer(&self) -> Arc<Sealer> {
        Arc::new(Sealer {
            namespace: self.namespace.clone(),
            attributes: self.attributes.clone(),
            stage_factory: self.stage_factory.clone(),
            durability: self.durability,
        })
    }

    fn uploads(&self, sealer: &Arc<Sealer>) -> Arc<Uploads> {
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
        })
    }

    fn writeback(&self, sealer: &Arc<Sealer>, uploads: &Arc<Uploads>) -> Arc<Writeback> {
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

    fn dir_reader(&self) -> DirReader {
        DirReader {
            namespace: self.namespace.clone(),
            subtrees: self.subtrees.clone(),
            attributes: self.attributes.clone(),
            session_log: self.stage_factory.session_log.clone(),
        }
    }

    fn name_changes(&self, access: Access) -> NameChanges {
        NameChanges {
            access,
            namespace: self.namespace.clone(),
            subtrees: self.subtrees.clone(),
            predecessor: self.predecessor.clone(),
        }
    }

    fn room_maker(&self, uploads: &Arc<Uploads>) -> RoomMaker {
        RoomMaker {
            namespace: self.namespace.clone(),
            files: self.files.clone(),
            stage_factory: self.stage_factory.clone(),
            subtrees: self.subtrees.clone(),
            uploads: uploads.clone(),
            uploader: self.uploader.clone(),
        }
    }

    fn attribute_writer(&self, uploads: &Arc<Uploads>) -> AttributeWriter {
        AttributeWriter {
            namespace: self.namespace.clone(),
            files: self.files.clone(),
            attributes: self.attributes.clone(),
            subtrees: self.subtrees.clone(),
            uploads: uploads.clone(),
        }
    }

    fn copies(&self, deletes: &Arc<Deletes>, settings: &OpsSettings) -> Arc<ObjectCopies> {
        Arc::new(ObjectCopies {
            namespace: self.namespace.clone(),
            store: self.store.clone(),
            deletes: deletes.clone(),
            copier: self.copier.clone(),
            limit: AtomicU64::new(settings.max_rename_objects),
        })
    }

    fn rebase(&self, sealer: &Arc<Sealer>) -> Arc<Rebase> {
        Arc::new(Rebase {
            namespace: self.namespace.clone(),
            files: self.files.clone(),
            sealer: sealer.clone(),
        })
    }

    fn rename_log(&self) -> Arc<RenameLog> {
        Arc::new(RenameLog {
            stage_factory: self.stage_factory.clone(),
            durability: self.durability,
            carried_out: self.carried_out.clone(),
            finished: Mutex::default(),
        })
    }
}

/// What the parts of a rename call besides.
struct Renames {
    named_opens: Arc<NamedOpens>,
    sealer: Arc<Sealer>,
    uploads: Arc<Uploads>,
    deletes: Arc<Deletes>,
    copies: Arc<ObjectCopies>,
    rebase: Arc<Rebase>,
    log: Arc<RenameLog>,
}

impl Renames {
    fn renamer(&self, common: &Common) -> Renamer {
        Renamer {
            namespace: common.namespace.clone(),
            files: common.files.clone(),
            subtrees: common.subtrees.clone(),
            predecessor: common.predecessor.clone(),
            carried_out: common.carried_out.clone(),
            rebase: self.rebase.clone(),
            mounted_at: common.mounted_at,
            log: self.log.clone(),
            file: FileRenamer {
                namespace: common.namespace.clone(),
                files: common.files.clone(),
                named_opens: self.named_opens.clone(),
                attributes: common.attributes.clone(),
                stage_factory: common.stage_factory.clone(),
                store: common.store.clone(),
                predecessor: common.predecessor.clone(),
                sealer: self.sealer.clone(),
                uploads: self.uploads.clone(),
                deletes: self.deletes.clone(),
                copies: self.copies.clone(),
                log: self.log.clone(),
            },
            directory: DirectoryRenamer {
                namespace: common.namespace.clone(),
                files: common.files.clone(),
                store: common.store.clone(),
                predecessor: common.predecessor.clone(),
                deletes: self.deletes.clone(),
                copies: self.copies.clone(),
                rebase: self.rebase.clone(),
                log: self.log.clone(),
            },
        }
    }

    fn recovery(&self, common: &Common) -> RenameRecovery {
        RenameRecovery {
            namespace: common.namespace.clone(),
            files: common.files.clone(),
            stage_factory: common.stage_factory.clone(),
            store: common.store.clone(),
            subtrees: common.subtrees.clone(),
            predecessor: common.predecessor.clone(),
            deletes: self.deletes.clone(),
            copies: self.copies.clone(),
            rebase: self.rebase.clone(),
            log: self.log.clone(),
            paths: KeyPaths {
                namespace: common.namespace.clone(),
                keys: common.namespace.keys().clone(),
            },
            unfinished: Mutex::default(),
        }
    }
}
