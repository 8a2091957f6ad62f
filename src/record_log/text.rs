//! Version 1 of a file of records: a line that names format and version, then one
//! line a record, each the CRC-32 of its JSON in hexadecimal, a space and the JSON.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::log_state::LogState;

pub(super) const VERSION: u32 = 1;

/// What lines of version 1 come to.
pub(super) fn replay<S: LogState>(path: &Path, bytes: &[u8]) -> S {
    let mut state = S::default();
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        match parse(line) {
            Some(record) => state.apply(record),
            None if lines.peek().is_none() && !line.ends_with(b"\n") => {
                tracing::info!(path = %path.display(), "ignoring the last record: a crash tore it");
            }
            None => {
                tracing::error!(path = %path.display(), "journal record damaged: earlier records of every stage may be out of date");
                state.damaged(None);
            }
        }
    }
    state
}

fn parse<R: DeserializeOwned>(line: &[u8]) -> Option<R> {
    let text = std::str::from_utf8(line).ok()?;
    let (crc, json) = text.strip_suffix('\n')?.split_once(' ')?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    if crc != crc32fast::hash(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}
