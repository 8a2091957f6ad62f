//! What is to be deleted or aborted, as the store has it noted.

use std::io;
use std::time::UNIX_EPOCH;

use super::{Journal, Record};
use crate::record_log::Durable;
use crate::store::{DeletePending, Key, LateObject, StoreLog, UploadId};

impl StoreLog for Journal {
    fn delete_pending(&self, pending: &DeletePending) -> io::Result<()> {
        let DeletePending {
            key,
            etag,
            removed_at,
        } = pending.clone();
        let removed_at = removed_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let record = Record::DeletePending {
            key,
            etag,
            removed_at: removed_at.map(|since| since.as_millis() as u64),
        };
        self.append(record, Durable::No)
    }

    fn sync(&self) -> io::Result<()> {
        self.log.sync()
    }

    fn settled(&self, keys: &[Key]) {
        for key in keys {
            self.append_or_log(Record::Deleted { key: key.clone() });
        }
    }

    fn expect_late(&self, key: &Key, objects: &[LateObject]) -> io::Result<()> {
        let (key, objects) = (key.clone(), objects.to_vec());
        self.append(Record::Late { key, objects }, Durable::No)
    }

    fn forget_late(&self, key: &Key) {
        self.append_or_log(Record::LateOver { key: key.clone() });
    }

    fn keep_late(&self, key: &Key) -> io::Result<()> {
        self.append(Record::LateOver { key: key.clone() }, Durable::Yes)
    }

    fn upload_begun(&self, key: Key, upload: UploadId) {
        self.append_or_log(Record::Uploading { key, upload });
    }

    fn upload_ended(&self, key: Key, upload: UploadId) {
        self.append_or_log(Record::Uploaded { key, upload });
    }
}
