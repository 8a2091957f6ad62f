//! Reads a file of records that is whole: a piece at a time, checked on one core while
//! another takes the records in.
//!
//! What is not whole, or torn, or of another version, is left to `Replayed::of`, which
//! tells what of it is damaged.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::frame::{Chain, Found, HEAD_BYTES, Header, Subject, frame_at};
use super::log::Replayed;
use super::log_file::LogFile;
use super::log_state::LogState;

const PIECE_BYTES: u64 = 1 << 20;
/// Pieces that are checked and not taken in yet.
const PIECES_LIMIT: usize = 4;
/// Records that are expected together: as many as a processor fetches at once, and some.
const EXPECTED_TOGETHER: usize = 64;
/// No header is as long, with the end behind it.
const HEADER_LIMIT_BYTES: u64 = 256;

/// What a file comes to. None where it is not whole, or of another version.
///
/// Errors: the disk's.
pub fn read_whole<S: LogState>(file: &File) -> io::Result<Option<Replayed<S>>> {
    let len = file.metadata()?.len();
    let head = read(file, 0..len.min(HEADER_LIMIT_BYTES))?;
    let Some((header, end)) = header_of::<S>(&head) else {
        return Ok(None);
    };
    let frames = Frames::new(file, &header, end, len);
    let Some((state, frames)) = replay(frames)? else {
        return Ok(None);
    };
    Ok(frames.is_over()?.then(|| Replayed {
        state,
        append_at: Some((header, frames.at, frames.chain)),
    }))
}

/// What the file came to when it was so long. None where it is not whole. Errors: the disk's.
pub fn read_upto<S: LogState>(file: &LogFile, upto: u64) -> io::Result<Option<S>> {
    let frames = Frames::new(&file.file, &file.header, upto, upto);
    let found = replay(frames)?;
    Ok(found
        .filter(|(_, frames)| frames.at == upto)
        .map(|(state, _)| state))
}

/// The header of a file of this version, and up to where its frames must be whole.
fn header_of<S: LogState>(head: &[u8]) -> Option<(Header, u64)> {
    let line = head.split_inclusive(|byte| *byte == b'\n').next()?;
    let expected = format!("mediafs-{} {} ", S::NAME, S::VERSION);
    line.starts_with(expected.as_bytes()).then_some(())?;
    let header = Header::parse(line)?;
    Some((header, header.end(head)?))
}

/// Takes the frames in, while they are whole. None where one of them is no record.
fn replay<'a, S: LogState>(mut frames: Frames<'a>) -> io::Result<Option<(S, Frames<'a>)>> {
    let mut state = S::default();
    state.expect(usize::try_from(frames.end).unwrap_or(0));
    thread::scope(|scope| {
        let (send, pieces) = sync_channel(PIECES_LIMIT);
        let reader = thread::Builder::new().name("read-records".to_owned());
        let reading = reader.spawn_scoped(scope, move || frames.send(&send).map(|()| frames))?;
        let understood = pieces.iter().all(|piece: Piece| piece.replay(&mut state));
        // It does not wait for a place any more.
        drop(pieces);
        let frames = reading.join();
        let frames = frames.map_err(|_| io::Error::other("reading panicked"))??;
        Ok(understood.then_some((state, frames)))
    })
}

/// Some of a file's bytes, and the records in them.
struct Piece {
    bytes: Vec<u8>,
    records: Vec<(Subject, Range<usize>)>,
}

impl Piece {
    /// Returns whether all of them are records.
    fn replay<S: LogState>(&self, state: &mut S) -> bool {
        self.records.chunks(EXPECTED_TOGETHER).all(|records| {
            state.expect_about(records.iter().map(|(subject, _)| *subject));
            records.iter().all(|(subject, range)| {
                let payload = self.bytes.get(range.clone());
                payload.is_some_and(|payload| state.replay(*subject, payload))
            })
        })
    }
}

/// The frames of a file, in order, up to the first that is not whole.
struct Frames<'a> {
    file: &'a File,
    /// Where the next one is.
    at: u64,
    chain: Chain,
    /// Every frame below is whole, or the file is damaged.
    end: u64,
    /// Of the file.
    len: u64,
}

impl<'a> Frames<'a> {
    fn new(file: &'a File, header: &Header, end: u64, len: u64) -> Self {
        let (at, chain) = header.start();
        Self {
            file,
            at,
            chain,
            end,
            len,
        }
    }

    fn send(&mut self, to: &SyncSender<Piece>) -> io::Result<()> {
        while let Some(piece) = self.next_piece()? {
            if to.send(piece).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        let mut wanted = PIECE_BYTES;
        loop {
            let left = self.len.saturating_sub(self.at);
            let bytes = read(self.file, self.at..self.at + wanted.min(left))?;
            let mut records = Vec::new();
            let mut from = 0;
            let needed = loop {
                match frame_at(&bytes, from, self.chain) {
                    Found::Whole {
                        subject,
                        payload,
                        next,
                        chain,
                    } => {
                        let payload_at = from + HEAD_BYTES;
                        records.push((subject, payload_at..payload_at + payload.len()));
                        (from, self.chain) = (next, chain);
                    }
                    Found::HeadOnly { next, .. } => break next as u64,
                    Found::Nothing => break 0,
                }
            };
            if !records.is_empty() {
                self.at += from as u64;
                return Ok(Some(Piece { bytes, records }));
            }
            // One that is longer than a piece.
            if needed <= bytes.len() as u64 || needed > left {
                return Ok(None);
            }
            wanted = needed;
        }
    }

    /// Whether nothing but room follows.
    fn is_over(&self) -> io::Result<bool> {
        if self.at < self.end {
            return Ok(false);
        }
        let mut at = self.at;
        while at < self.len {
            let upto = self.len.min(at + PIECE_BYTES);
            if read(self.file, at..upto)?.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at = upto;
        }
        Ok(true)
    }
}

fn read(file: &File, range: Range<u64>) -> io::Result<Vec<u8>> {
    let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::frame::Subject;
    use super::super::log_state::Durable;
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Texts(Vec<String>);

    impl LogState for Texts {
        type Record = String;
        const NAME: &'static str = "texts";
        const VERSION: u32 = 2;
        const DURABLE: Durable = Durable::No;

        fn subject(record: &String) -> Subject {
            let id = record.len() as u64;
            Subject { kind: 1, id }
        }

        fn apply(&mut self, record: String) {
            self.0.push(record);
        }

        fn damaged(&mut self, _subject: Option<Subject>) {
            self.0.push("damaged".to_owned());
        }

        fn for_each(&self, give: &mut dyn FnMut(String)) {
            self.0.iter().cloned().for_each(give);
        }
    }

    /// Records that lie over the ends of pieces, one of them longer than two.
    fn texts() -> Texts {
        let long = 2 * PIECE_BYTES as usize + 5;
        let lengths = (0..3000).map(|number| number * 7 % 1000);
        let lengths = lengths.chain([long, 0, 17]);
        Texts(lengths.map(|len| "x".repeat(len)).collect())
    }

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn bytes_of(state: &Texts) -> (Header, Vec<u8>, Chain) {
        let file = tempfile::tempfile().unwrap();
        let (header, end, chain) = super::super::rewrite::write_frames(&file, state, 7).unwrap();
        (header, read(&file, 0..end).unwrap(), chain)
    }

    #[test]
    fn a_file_that_is_whole_comes_to_what_was_written_with_room_and_without() {
        let state = texts();
        let (header, mut bytes, chain) = bytes_of(&state);
        let end = bytes.len() as u64;
        for room in [0, 1, 3 * PIECE_BYTES as usize] {
            bytes.resize(end as usize + room, 0);
            let found = read_whole::<Texts>(&file_of(&bytes)).unwrap().unwrap();
            assert_eq!(found.state, state);
            assert_eq!(found.append_at, Some((header, end, chain)));
        }
        // Those behind the end that is noted were answered too.
        header.set_end(&mut bytes, header.start().0);
        let found = read_whole::<Texts>(&file_of(&bytes)).unwrap().unwrap();
        assert_eq!(found.state, state);
    }

    #[test]
    fn a_file_that_is_not_whole_or_of_another_version_is_left_to_who_looks_closer() {
        let state = Texts(["first", "second", "", "third"].map(str::to_owned).into());
        let (header, whole, _) = bytes_of(&state);
        let is_left = |bytes: &[u8]| read_whole::<Texts>(&file_of(bytes)).unwrap().is_none();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(is_left(&bytes), "bit {bit}");
        }
        for cut in 0..whole.len() {
            assert!(is_left(&whole[..cut]), "cut at {cut}");
        }
        let mut torn = whole.clone();
        header.set_end(&mut torn, header.start().0);
        assert!(is_left(&torn[..torn.len() - 1]));
        assert!(is_left(&[&torn[..], &[0, 0, 7]].concat()));
        assert!(is_left(&[&b"mediafs-texts 3"[..], &whole[15..]].concat()));
        assert!(is_left(b"") && is_left(b"\n") && is_left(&[7; 600]));
    }
}
