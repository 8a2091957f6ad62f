//! read: bytes of a handle, staged or stored.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::Ops;
use crate::error::FsError;
use crate::files::{FileHandle, ReadSegment, fetch};
use crate::namespace::{Namespace, files_after};
use crate::read_path::Reader;
use crate::vocabulary::{HandleId, Ino, ObjectId};

/// The bytes of a range, cut at the end of the file.
///
/// Errors: `BadHandle`; `Stale` when another client changed the object and
/// the bytes of this handle's version are not cached; the store's.
pub async fn read(ops: &Ops, handle: HandleId, range: Range<u64>) -> Result<Bytes, FsError> {
    let handle = ops.handles.file(handle)?;
    handle.note_use();
    handle.failed_read.again(range.start)?;
    let start = range.start;
    let outcome = read_of(ops, &handle, range).await;
    handle.failed_read.note(start, &outcome);
    outcome
}

async fn read_of(ops: &Ops, handle: &FileHandle, range: Range<u64>) -> Result<Bytes, FsError> {
    let file = &handle.file;
    ops.subtrees.inode_settled(file.inode.ino).await?;
    let mut pieces = file.plan(range.clone());
    loop {
        let objects = objects_of(&pieces);
        if let Some(object) = objects.first() {
            if range.start == 0 {
                read_neighbours(&ops.reader, &ops.namespace, file.inode.ino, object);
            }
            ops.reader.read_ahead(object, &handle.cursor, &range);
        }
        let stale = match fetch(&ops.reader, pieces).await {
            Err(error @ FsError::Stale(_)) => error,
            outcome => return outcome,
        };
        // Replaced by an upload of our own?
        if file.shadows_object() {
            drop(file.upload_lock.lock().await);
        }
        pieces = file.plan(range.clone());
        if objects_of(&pieces) == objects {
            ops.namespace.invalidate(&file.inode);
            return Err(stale);
        }
    }
}

fn read_neighbours(reader: &Arc<Reader>, namespace: &Namespace, file: Ino, object: &ObjectId) {
    let Some((directory, name)) = namespace.table().place(file) else {
        return;
    };
    let place = (directory, &name);
    let next = |sizes: &_, limit| files_after(namespace, place, sizes, limit);
    reader.read_neighbours(directory.0, object, next);
}

fn objects_of(pieces: &[ReadSegment]) -> Vec<Arc<ObjectId>> {
    let objects = pieces.iter().filter_map(|piece| match piece {
        ReadSegment::Object(object, _) => Some(object.clone()),
        ReadSegment::Local(..) | ReadSegment::Zero(_) => None,
    });
    objects.collect()
}
