//! Full parts of a file go to the store while the application still writes it.
//!
//! Nothing of it is visible there before the close that completes the upload. A
//! part that is written again meanwhile is sent again by then.

use std::sync::Arc;

use super::full_parts::FullPart;
use super::multipart::{Claim, MultipartUpload};
use super::part_sender::part_request;
use super::uploader::{UploadTarget, Uploader};
use crate::error::FsError;
use crate::failpoint::{self, Point};

impl Uploader {
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
            part.file.set_ahead_bytes(u64::MAX);
        }
    }

    async fn begin_ahead(
        &self,
        target: &UploadTarget,
        part: &FullPart,
    ) -> Result<Option<Arc<MultipartUpload>>, FsError> {
        let _turn = part.file.create_lock().lock().await;
        if let Some(upload) = part.file.upload() {
            // The file was renamed: what there is of the upload is of no use.
            return Ok(Some(upload).filter(|upload| upload.matches(target)));
        }
        if part.file.is_gone() {
            return Ok(None);
        }
        let upload = self.begin(target).await?;
        Ok(part.file.adopt_upload(upload.clone()).then_some(upload))
    }

    async fn send_part_ahead(
        &self,
        upload: &Arc<MultipartUpload>,
        part: &FullPart,
    ) -> Result<(), FsError> {
        let _memory = self.hold_part(upload, &part.range).await;
        if part.file.is_gone() {
            return Ok(());
        }
        if let Some(Claim::Send(claimed)) = upload.try_claim(part.number, &part.range) {
            let body = self.body(part.file.clone(), part.range.clone()).await?;
            let request = part_request(upload, part.number, body);
            failpoint::at(Point::PartBegins);
            let sent = self.store.upload_part(request).await?;
            failpoint::at(Point::PartAnswered);
            claimed.sent(sent);
        }
        Ok(())
    }
}
