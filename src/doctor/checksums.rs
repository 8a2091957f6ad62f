//! Which checksum goes along with an upload, and whether the store compares it.

use super::permissions::{BODY, scratch_key};
use super::{Findings, NO_ANSWER};
use crate::store::permissions;
use crate::store::s3::inspect::{self, ChecksumUse};
use crate::store::s3::{S3Store, UploadChecksum};
use crate::store::{DeleteRequest, ObjectStore, StoreErrorKind};

const CHECK: &str = "checksums";

/// Sends bytes with the checksum of others. Comes after uploads, which have found out
/// which one the store takes.
pub(super) async fn examine(
    s3: &S3Store,
    store: &dyn ObjectStore,
    prefix: &str,
    report: &mut Findings,
) {
    let checksum = inspect::upload_checksum(s3);
    if checksum == UploadChecksum::None {
        report.warn(
            CHECK,
            "no checksum goes along with an upload",
            "leave --upload-checksum at auto; if it is, the store refuses each of them, and only the length of an upload is compared",
        );
        return;
    }
    let key = scratch_key(prefix, "-checksum");
    let outcome = inspect::checksum_use(s3, &key, BODY, checksum).await;
    if !matches!(outcome, Ok(ChecksumUse::Compared)) {
        // One that is left is deleted by the next doctor.
        let _left = store.delete(DeleteRequest::any(key)).await;
    }
    let words = checksum.words();
    match outcome {
        Ok(ChecksumUse::Compared) if checksum == UploadChecksum::Md5 => report.warn(
            CHECK,
            format!("the store compares {words}, and takes no CRC-64/NVME"),
            "nothing to do; 'mediafs verify' and 'import' read such objects to compare them",
        ),
        Ok(ChecksumUse::Compared) => report.ok(CHECK, format!("the store compares {words}")),
        Ok(ChecksumUse::Ignored) => report.warn(
            CHECK,
            format!("the store takes bytes that are not those of their checksum ({words})"),
            "use an endpoint with https, which protects what is sent, and 'mediafs verify' after an import",
        ),
        Err(error) if error.kind == StoreErrorKind::AccessDenied => report.warn(
            CHECK,
            format!("not known: {error}"),
            format!(
                "allow {} on the objects below the prefix, whatever checksum goes along",
                permissions::WRITE
            ),
        ),
        Err(error) => report.warn(CHECK, format!("not known: {error}"), NO_ANSWER),
    }
}
