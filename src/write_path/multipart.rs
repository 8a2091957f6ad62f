//! A multipart upload: which of its parts the store has, over more than one
//! attempt, over writes to the file, and over lives of the daemon.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell};

use super::abort_queue::AbortQueue;
use super::budget::FileShare;
use super::scratch::Zeros;
use super::upload_target::UploadTarget;
use crate::journal::{Offloaded, UploadStart};
use crate::store::{CompletedPart, Key, ListedPart, ObjectHeaders, PartNumber, UploadId};

/// An upload that is not completed when the last one lets go of it is aborted.
#[derive(Debug)]
pub struct MultipartUpload {
    key: Key,
    headers: ObjectHeaders,
    id: UploadId,
    aborts: AbortQueue,
    reservation: Arc<FileShare>,
    state: Mutex<State>,
    /// What its parts of zeros are copied from; none where they are sent.
    zeros: OnceCell<Option<Zeros>>,
    /// Some part is not under way any more.
    settled: Notify,
}

#[derive(Debug)]
struct State {
    /// Where parts end; none while the file is being written.
    part_ends: Option<Vec<u64>>,
    /// Parts that the store has, with exactly the file's bytes.
    done: BTreeMap<PartNumber, (Range<u64>, CompletedPart)>,
    under_way: BTreeMap<PartNumber, (Range<u64>, Content)>,
    resumed: ResumedParts,
    over: bool,
}

/// Whether a part that is under way has the file's bytes still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Same,
    Changed,
}

/// Parts that an earlier life of the daemon may have sent.
#[derive(Debug)]
enum ResumedParts {
    Unknown,
    Listed(BTreeMap<PartNumber, ListedPart>),
}

/// What is to be done about a part.
#[derive(Debug)]
pub enum PartClaim {
    Done(CompletedPart),
    Send(ClaimedPart),
}

/// A part that one task sends, alone.
#[derive(Debug)]
pub struct ClaimedPart {
    upload: Arc<MultipartUpload>,
    number: PartNumber,
}

impl MultipartUpload {
    pub fn begun(target: &UploadTarget, id: UploadId, aborts: AbortQueue) -> Self {
        let (key, headers) = (target.key.clone(), target.headers.clone());
        Self::new(key, headers, id, aborts, None)
    }

    /// One that a predecessor began for a sealed stage.
    pub fn resumed(sending: UploadStart, aborts: AbortQueue) -> Self {
        let UploadStart {
            key,
            headers,
            upload,
            part_ends,
        } = sending;
        Self::new(key, headers, upload, aborts, Some(part_ends))
    }

    /// One that a predecessor began, and that alone has parts of the stage.
    pub fn with_offloaded(
        offloaded: Offloaded,
        part_ends: Option<Vec<u64>>,
        aborts: AbortQueue,
    ) -> Self {
        let Offloaded {
            key,
            headers,
            upload,
            parts,
        } = offloaded;
        let mut this = Self::new(key, headers, upload, aborts, part_ends);
        let state = this.state.get_mut();
        state.resumed = ResumedParts::Unknown;
        for part in parts {
            if let Some(completed) = part.completed() {
                let done = (part.range, completed.clone());
                state.done.insert(completed.number, done);
            }
        }
        this
    }

    fn new(
        key: Key,
        headers: ObjectHeaders,
        id: UploadId,
        aborts: AbortQueue,
        part_ends: Option<Vec<u64>>,
    ) -> Self {
        let resumed = match part_ends {
            None => ResumedParts::Listed(BTreeMap::new()),
            Some(_) => ResumedParts::Unknown,
        };
        Self {
            key,
            headers,
            id,
            aborts,
            reservation: Arc::default(),
            zeros: OnceCell::new(),
            state: Mutex::new(State {
                part_ends,
                done: BTreeMap::new(),
                under_way: BTreeMap::new(),
                resumed,
                over: false,
            }),
            settled: Notify::new(),
        }
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    pub fn id(&self) -> &UploadId {
        &self.id
    }

    pub fn headers(&self) -> &ObjectHeaders {
        &self.headers
    }

    pub fn zeros(&self) -> &OnceCell<Option<Zeros>> {
        &self.zeros
    }

    /// What its parts have of the memory for uploads.
    pub fn reservation(&self) -> &Arc<FileShare> {
        &self.reservation
    }

    /// Whether it makes what is wanted: key and headers are fixed when an upload begins.
    pub fn matches(&self, target: &UploadTarget) -> bool {
        let state = self.state.lock();
        let ends = state.part_ends.as_ref();
        let fits = ends.is_none_or(|ends| ends.last() == Some(&target.len));
        fits && !state.over && self.key == target.key && self.headers == target.headers
    }

    /// As `matches`, but whatever the headers: of a file of which S3 alone has some parts.
    pub fn has_key_of(&self, target: &UploadTarget) -> bool {
        let state = self.state.lock();
        let ends = state.part_ends.as_ref();
        let fits = ends.is_none_or(|ends| ends.last() == Some(&target.len));
        fits && !state.over && self.key == target.key
    }

    /// Whether the store has this part.
    pub fn has(&self, number: PartNumber, range: &Range<u64>) -> bool {
        let state = self.state.lock();
        let done = state.done.get(&number);
        done.is_some_and(|(had, _)| had == range)
    }

    /// Whether the store has this part, or is being sent it.
    pub fn has_or_is_sending(&self, number: PartNumber, range: &Range<u64>) -> bool {
        self.has(number, range) || self.state.lock().under_way.contains_key(&number)
    }

    pub fn has_parts_under_way(&self) -> bool {
        !self.state.lock().under_way.is_empty()
    }

    /// The first part like this that the store has.
    pub fn first_done(
        &self,
        is_wanted: impl Fn(PartNumber, &Range<u64>) -> bool,
    ) -> Option<(Range<u64>, CompletedPart)> {
        let state = self.state.lock();
        let mut done = state.done.iter().filter(|_| !state.over);
        let found = done.find(|(number, (range, _))| is_wanted(**number, range));
        found.map(|(_, part)| part.clone())
    }

    pub fn part_ends(&self) -> Option<Vec<u64>> {
        self.state.lock().part_ends.clone()
    }

    /// The file does not change any more: these are its parts.
    pub fn set_part_ends(&self, part_ends: Vec<u64>) -> UploadStart {
        self.state.lock().part_ends = Some(part_ends.clone());
        UploadStart {
            key: self.key.clone(),
            headers: self.headers.clone(),
            upload: self.id.clone(),
            part_ends,
        }
    }

    /// Whether nobody has asked the store yet which parts it has.
    pub fn is_to_be_listed(&self) -> bool {
        matches!(self.state.lock().resumed, ResumedParts::Unknown)
    }

    /// What the store has said.
    pub fn listed(&self, parts: Vec<ListedPart>) {
        let parts = parts.into_iter();
        let parts = parts.map(|listed| (listed.part.number, listed)).collect();
        self.state.lock().resumed = ResumedParts::Listed(parts);
    }

    /// The part that the store had already, if it is of this length; its bytes
    /// are still to be compared.
    pub fn left_part(&self, number: PartNumber, len: u64) -> Option<CompletedPart> {
        match &self.state.lock().resumed {
            ResumedParts::Unknown => None,
            ResumedParts::Listed(parts) => {
                let listed = parts.get(&number).filter(|part| part.size_bytes == len);
                listed.map(|listed| listed.part.clone())
            }
        }
    }

    /// Takes on the sending of a part, once nobody else sends it, unless the store has it.
    pub async fn claim(self: &Arc<Self>, number: PartNumber, range: Range<u64>) -> PartClaim {
        loop {
            let settled = self.settled.notified();
            if let Some(claim) = self.try_claim(number, &range) {
                return claim;
            }
            settled.await;
        }
    }

    /// The same; none while someone else sends it.
    pub fn try_claim(
        self: &Arc<Self>,
        number: PartNumber,
        range: &Range<u64>,
    ) -> Option<PartClaim> {
        let mut state = self.state.lock();
        if state.under_way.contains_key(&number) {
            return None;
        }
        if let Some((_, part)) = state.done.get(&number).filter(|(had, _)| had == range) {
            return Some(PartClaim::Done(part.clone()));
        }
        let under_way = (range.clone(), Content::Same);
        state.under_way.insert(number, under_way);
        Some(PartClaim::Send(ClaimedPart {
            upload: self.clone(),
            number,
        }))
    }

    /// These bytes of the file have changed: parts with them are to be sent again.
    ///
    /// To be called after the change, before anyone else may claim a part.
    pub fn invalidate(&self, range: &Range<u64>) {
        let overlaps = |part: &Range<u64>| part.start < range.end && range.start < part.end;
        let mut state = self.state.lock();
        state.done.retain(|_, (part, _)| !overlaps(part));
        for (part, content) in state.under_way.values_mut() {
            if overlaps(part) {
                *content = Content::Changed;
            }
        }
    }

    /// The upload is completed: nothing is left to abort.
    pub fn finish(&self) {
        self.state.lock().over = true;
    }
}

impl Drop for MultipartUpload {
    fn drop(&mut self) {
        if !self.state.get_mut().over {
            self.aborts.add(self.key.clone(), self.id.clone());
        }
    }
}

impl ClaimedPart {
    pub fn number(&self) -> PartNumber {
        self.number
    }

    /// The store has the part.
    pub fn sent(self, part: CompletedPart) {
        let mut state = self.upload.state.lock();
        if let Some((range, Content::Same)) = state.under_way.remove(&self.number) {
            state.done.insert(self.number, (range, part));
        }
    }
}

impl Drop for ClaimedPart {
    fn drop(&mut self) {
        self.upload.state.lock().under_way.remove(&self.number);
        self.upload.settled.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ETag, WriteCondition};
    use crate::write_path::PriorAttempt;
    use crate::write_path::abort_queue::Aborter;

    fn upload() -> Arc<MultipartUpload> {
        let target = UploadTarget {
            key: Key::new("k"),
            headers: ObjectHeaders::default(),
            condition: WriteCondition::Always,
            known: WriteCondition::Always,
            len: 0,
            prior: PriorAttempt::None,
        };
        let (aborts, _) = Aborter::new();
        Arc::new(MultipartUpload::begun(
            &target,
            UploadId("1".to_owned()),
            aborts,
        ))
    }

    fn number(number: u16) -> PartNumber {
        PartNumber::new(number).unwrap()
    }

    fn claimed(upload: &Arc<MultipartUpload>, nth: u16, range: Range<u64>) -> ClaimedPart {
        match upload.try_claim(number(nth), &range) {
            Some(PartClaim::Send(claimed)) => claimed,
            other => panic!("{other:?}"),
        }
    }

    fn part(nth: u16) -> CompletedPart {
        CompletedPart {
            number: number(nth),
            etag: ETag::new("e"),
            crc64nvme: None,
        }
    }

    fn is_done(upload: &Arc<MultipartUpload>, nth: u16, range: Range<u64>) -> bool {
        matches!(
            upload.try_claim(number(nth), &range),
            Some(PartClaim::Done(_))
        )
    }

    #[test]
    fn a_part_whose_bytes_change_while_it_is_sent_is_not_done() {
        let upload = upload();
        let (first, second) = (claimed(&upload, 1, 0..8), claimed(&upload, 2, 8..16));
        upload.invalidate(&(7..8));
        first.sent(part(1));
        second.sent(part(2));
        assert!(!is_done(&upload, 1, 0..8));
        assert!(is_done(&upload, 2, 8..16));
        upload.invalidate(&(15..u64::MAX));
        assert!(!is_done(&upload, 2, 8..16));
    }

    #[tokio::test]
    async fn who_needs_a_part_that_is_being_sent_waits_for_it_and_sends_it_where_that_failed() {
        let upload = upload();
        for succeeds in [true, false] {
            upload.invalidate(&(0..8));
            let sending = claimed(&upload, 1, 0..8);
            let (waiting, ()) = tokio::join!(upload.claim(number(1), 0..8), async {
                tokio::task::yield_now().await;
                if succeeds {
                    sending.sent(part(1));
                }
            });
            assert_eq!(matches!(waiting, PartClaim::Done(_)), succeeds);
        }
    }

    #[test]
    fn parts_of_another_cut_are_not_taken_for_these() {
        let upload = upload();
        claimed(&upload, 1, 0..8).sent(part(1));
        assert!(!is_done(&upload, 1, 0..9));
    }
}
