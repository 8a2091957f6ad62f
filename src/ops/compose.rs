//! Puts the operations together: who may call whom.

use std::sync::Arc;

use parking_lot::Mutex;

use super::core_parts::CoreParts;
use super::rename::{
    DirectoryRenamer, FileRenamer, KeyPaths, ObjectCopies, Rebase, RenameLog, RenameRecovery,
    Renamer,
};
use super::{Ops, OpsSettings, Parts};
use crate::files::{Handles, NamedOpens};
use crate::writeback::{Deletes, Sealer, Uploads};

impl Ops {
    pub fn new(parts: Parts, settings: OpsSettings) -> Self {
        let handles = Arc::new(Handles::new(parts.session_log.clone()));
        let core = CoreParts::new(parts, &settings);
        let named_opens = core.named_opens();
        let sealer = core.sealer();
        let uploads = core.uploads(&sealer);
        let writeback = core.writeback(&sealer, &uploads);
        let deletes = core.deletes();
        let renames = Renames {
            copies: core.copies(&deletes, &settings),
            rebase: core.rebase(&sealer),
            log: core.rename_log(),
            named_opens: named_opens.clone(),
            sealer,
            uploads: uploads.clone(),
            deletes: deletes.clone(),
        };
        Self {
            dir_reader: core.dir_reader(),
            name_changes: core.name_changes(settings.access),
            file_maker: core.file_maker(&uploads),
            node_maker: core.node_maker(&deletes),
            file_remover: core.file_remover(&named_opens, &uploads, &deletes),
            object_copier: core.object_copier(&uploads, &deletes),
            attribute_writer: core.attribute_writer(&uploads),
            room_maker: core.room_maker(&uploads),
            early_parts: core.early_parts(&uploads),
            controls: core.controls(&handles, &writeback, &renames.copies),
            renamer: renames.renamer(&core),
            rename_recovery: Arc::new(renames.recovery(&core)),
            writeback,
            handles,
            named_opens,
            uploads,
            deletes,
            settings,
            namespace: core.namespace,
            store: core.store,
            reader: core.reader,
            uploader: core.uploader,
            stage_factory: core.stage_factory,
            subtrees: core.subtrees,
            predecessor: core.predecessor,
            executed: core.executed,
            files: core.files,
            attributes: core.attributes,
        }
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
    fn renamer(&self, core: &CoreParts) -> Renamer {
        Renamer {
            namespace: core.namespace.clone(),
            files: core.files.clone(),
            subtrees: core.subtrees.clone(),
            predecessor: core.predecessor.clone(),
            executed: core.executed.clone(),
            rebase: self.rebase.clone(),
            mounted_at: core.mounted_at,
            log: self.log.clone(),
            file: FileRenamer {
                namespace: core.namespace.clone(),
                files: core.files.clone(),
                named_opens: self.named_opens.clone(),
                attributes: core.attributes.clone(),
                stage_factory: core.stage_factory.clone(),
                store: core.store.clone(),
                predecessor: core.predecessor.clone(),
                sealer: self.sealer.clone(),
                uploads: self.uploads.clone(),
                deletes: self.deletes.clone(),
                copies: self.copies.clone(),
                log: self.log.clone(),
            },
            directory: DirectoryRenamer {
                namespace: core.namespace.clone(),
                files: core.files.clone(),
                store: core.store.clone(),
                predecessor: core.predecessor.clone(),
                deletes: self.deletes.clone(),
                copies: self.copies.clone(),
                rebase: self.rebase.clone(),
                log: self.log.clone(),
            },
        }
    }

    fn recovery(&self, core: &CoreParts) -> RenameRecovery {
        RenameRecovery {
            namespace: core.namespace.clone(),
            files: core.files.clone(),
            stage_factory: core.stage_factory.clone(),
            store: core.store.clone(),
            subtrees: core.subtrees.clone(),
            predecessor: core.predecessor.clone(),
            deletes: self.deletes.clone(),
            copies: self.copies.clone(),
            rebase: self.rebase.clone(),
            log: self.log.clone(),
            paths: KeyPaths {
                namespace: core.namespace.clone(),
                keys: core.namespace.keys().clone(),
            },
            unfinished: Mutex::default(),
        }
    }
}
