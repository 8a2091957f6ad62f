//! Counts the kernel's requests: how long each takes, and the bytes that applications move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::call::Operation;
use crate::error::FsError;
use crate::latency::{Latencies, Latency, Stopwatch};

const KINDS: usize = Operation::ALL.len();

/// Since the mount began; shared by whoever shows them.
#[derive(Debug, Default)]
pub struct CallCounters {
    latencies: Arc<Latencies<KINDS>>,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl CallCounters {
    /// How long those took that are answered, by the name of the operation.
    pub fn latencies(&self) -> impl Iterator<Item = (&'static str, Latency)> {
        let all = Operation::ALL.into_iter();
        all.filter_map(|it| Some((it.name(), self.latencies.of(it as usize)?)))
    }

    /// Given to applications.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Taken from applications.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// To be dropped when the request is answered.
    pub(super) fn begin(&self, operation: Operation) -> Stopwatch<KINDS> {
        self.latencies.begin(operation as usize)
    }

    /// Counts what a read has come to.
    pub(super) fn read(&self, read: Result<Bytes, FsError>) -> Result<Bytes, FsError> {
        let bytes = read.as_ref().map_or(0, |it| it.len() as u64);
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        read
    }

    /// Counts what a write of so many bytes has come to; the answer is their number.
    pub(super) fn written(&self, written: Result<(), FsError>, len: usize) -> Result<u64, FsError> {
        let bytes = written.map(|()| len as u64)?;
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }
}
