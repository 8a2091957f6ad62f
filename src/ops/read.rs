//! read: bytes of a handle, staged or stored.

use std::ops::Range;

use bytes::Bytes;

use super::Ops;
use super::content::{Piece, fetch};
use super::handles::HandleId;
use crate::error::FsError;

impl Ops {
    /// The bytes of a range, cut at the end of the file.
    ///
    /// Errors: `BadHandle`; `Stale` when another client changed the object and
    /// the bytes of this handle's version are not cached; the store's.
    pub async fn read(&self, handle: HandleId, range: Range<u64>) -> Result<Bytes, FsError> {
        let handle = self.handles.file(handle)?;
        let pieces = handle.file.plan(range.clone());
        if let Some(Piece::Object(object, _)) =
            pieces.iter().find(|p| matches!(p, Piece::Object(..)))
        {
            self.reader.read_ahead(object, &handle.cursor, &range);
        }
        fetch(&self.reader, pieces).await.inspect_err(|error| {
            if matches!(error, FsError::Stale) {
                self.namespace.distrust(&handle.file.inode);
            }
        })
    }
}
