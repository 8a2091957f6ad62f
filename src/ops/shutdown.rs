//! The end of the mount: nothing that applications wrote is dropped.

use super::Ops;
use crate::write_path::LostReason;

impl Ops {
    /// To be called once no request comes any more and none is under way.
    ///
    /// Files that are still open with bytes that S3 does not have go to
    /// lost+found: half a file never goes to the bucket. All that is done before
    /// the first wait, which is for reads that nobody needs any more.
    pub async fn shutdown(&self) {
        for (file, stage) in self.files.abandon() {
            self.keep(&file, &stage, LostReason::DaemonEnded);
        }
        self.namespace.write_out();
        self.reader.drain().await;
    }
}
