//! Full parts of a file go to the store while the application still writes it.
//!
//! Nothing of it is visible there before the close that completes the upload. A
//! part that is written again meanwhile is sent again by then.

use std::sync::Arc;

use super::full_parts::FullPart;
use super::multipart::{ClaimedPart, MultipartUpload, PartClaim};
use super::part_sender::{PartSender, part_request};
use super::upload_target::UploadTarget;
use crate::error::FsError;
use crate::failpoint::{self, Point};

impl PartSender {
    /// Sends a part unless somebody else does; where that fails, the close sends it
    /// and tells why it cannot.
    pub async fn upload_early(&self, target: &UploadTarget, part: FullPart) {
        let outcome = async {
            if let Some(upload) = self.begin_ahead(target, &part).await? {
                self.send_part_ahead(&upload, &part).await?;
            }
            Ok::<(), FsError>(())
        };
        if let Err(error) = outcome.await {
            tracing::warn!(key = %target.key, number = part.number.get(), %error, "early upload of a part failed: it is sent at close");
            part.file.upload_slot().set_ahead_bytes(u64::MAX);
        }
    }

    /// Sends a part unless somebody else does, and returns once the store has it.
    ///
    /// Errors: the store's, the spool's; `NoSpace` where the file is not what it was.
    pub async fn send_full_part(
        &self,
        target: &UploadTarget,
        part: &FullPart,
    ) -> Result<(), FsError> {
        self.leave_former_name(target, part).await;
        let upload = self.begin_ahead(target, part).await?;
        let upload = upload.ok_or(FsError::NoSpace)?;
        if let PartClaim::Send(claimed) = upload.claim(part.number, part.range.clone()).await {
            let _memory = self.hold_part(&upload, &part.range).await;
            self.send_claimed(&upload, part, claimed).await?;
        }
        // Where that was given up, parts are sent early again.
        if part.file.upload_slot().ahead_bytes() == u64::MAX {
            part.file.upload_slot().set_ahead_bytes(part.range.end);
        }
        Ok(())
    }

    /// An upload under a name that the file had before is of no use.
    async fn leave_former_name(&self, target: &UploadTarget, part: &FullPart) {
        let _turn = part.file.upload_slot().create_lock().lock().await;
        let upload = part.file.upload_slot().get();
        if !part.file.offloaded().has_any() && upload.is_some_and(|it| *it.key() != target.key) {
            part.file.upload_slot().set(None);
        }
    }

    async fn begin_ahead(
        &self,
        target: &UploadTarget,
        part: &FullPart,
    ) -> Result<Option<Arc<MultipartUpload>>, FsError> {
        let _turn = part.file.upload_slot().create_lock().lock().await;
        if let Some(upload) = part.file.upload_slot().get() {
            // Of a file that was renamed what there is of the upload is of no use. With
            // other headers it is where some of its parts leave the spool.
            return Ok(Some(upload).filter(|upload| upload.has_key_of(target)));
        }
        if part.file.is_discarded() {
            return Ok(None);
        }
        let upload = self.begin(target).await?;
        Ok(part
            .file
            .upload_slot()
            .adopt(upload.clone())
            .then_some(upload))
    }

    async fn send_part_ahead(
        &self,
        upload: &Arc<MultipartUpload>,
        part: &FullPart,
    ) -> Result<(), FsError> {
        let _memory = self.hold_part(upload, &part.range).await;
        if part.file.is_discarded() {
            return Ok(());
        }
        if let Some(PartClaim::Send(claimed)) = upload.try_claim(part.number, &part.range) {
            self.send_claimed(upload, part, claimed).await?;
        }
        Ok(())
    }

    async fn send_claimed(
        &self,
        upload: &MultipartUpload,
        part: &FullPart,
        claimed: ClaimedPart,
    ) -> Result<(), FsError> {
        let body = self.body(part.file.clone(), part.range.clone()).await?;
        let request = part_request(upload, part.number, body);
        failpoint::at(Point::PartBegins);
        let sent = self.store.upload_part(request).await?;
        failpoint::at(Point::PartAnswered);
        claimed.sent(sent);
        Ok(())
    }
}
