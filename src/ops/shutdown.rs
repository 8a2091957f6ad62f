//! The end of the mount: nothing that applications wrote is dropped.

use std::time::Duration;

use super::Ops;

/// Longest wait for uploads that were begun for files that are still open.
const ABORTED_WITHIN: Duration = Duration::from_secs(5);

/// To be called once no request comes any more and none is under way.
///
/// Files that are still open with bytes that S3 does not have go to
/// lost+found: half a file never goes to the bucket. All that is done before
/// the first wait, which is for reads that nobody needs any more.
pub async fn shutdown(ops: &Ops) {
    for (file, stage, reason) in ops.files.take_dirty() {
        let key = ops.namespace.file_key(file.inode.ino).ok();
        ops.files.move_to_lost_found(key, &stage, reason);
    }
    ops.namespace.write_out();
    let aborted = tokio::time::timeout(ABORTED_WITHIN, ops.uploader.aborts_settled());
    if aborted.await.is_err() {
        tracing::warn!("unfinished uploads are left to the next mount, which aborts them");
    }
    ops.reader.drain().await;
}
