//! Frames: how records stand in a file, so that whatever the disk changed, lost or
//! mixed up is found, and where possible which record it was.
//!
//! ```text
//! mediafs-NAME VERSION ID FILE\n    ID is random, FILE is the file's inode number
//! end u64, CRC-32 u32               every frame below this offset must be whole
//! frame, frame, ...                 len u32, kind u8, id u64, CRC-32 u32,
//!                                   payload of len bytes, CRC-32 u32
//! zeros                             room for the next ones
//! ```
//!
//! Numbers are little-endian. Each CRC-32 goes on from the one before it, the first
//! from the header line's: a frame that is missing, doubled, moved or of another
//! file does not match. What a record is about (kind and id) has a checksum of its
//! own, so that of a damaged record this much is mostly known.

/// Length, kind and id of a frame, and their checksum.
pub(super) const HEAD_BYTES: usize = 17;
const CHECK_BYTES: usize = 4;
/// The offset up to which frames must be whole, and its checksum.
const END_BYTES: usize = 12;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    pub kind: u8,
    pub id: u64,
}

/// The checksum of all frames so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain(u32);

impl Chain {
    fn over(self, bytes: &[u8]) -> Self {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(bytes);
        Self(hasher.finalize())
    }

    /// Appends the next frame.
    pub fn push(&mut self, out: &mut Vec<u8>, subject: Subject, payload: &[u8]) {
        let mut head = [0; HEAD_BYTES - CHECK_BYTES];
        let fields = (payload.len() as u32).to_le_bytes();
        let fields = fields.into_iter().chain([subject.kind]);
        let fields = fields.chain(subject.id.to_le_bytes());
        for (byte, field) in head.iter_mut().zip(fields) {
            *byte = field;
        }
        let checked = self.over(&head);
        *self = checked.over(payload);
        out.extend(head);
        out.extend(checked.0.to_le_bytes());
        out.extend(payload);
        out.extend(self.0.to_le_bytes());
    }

    /// The frames in a part of a file, which goes on from here; none for what is no frame.
    pub fn frames(self, bytes: &[u8]) -> impl Iterator<Item = Option<(Subject, &[u8])>> {
        let (mut at, mut chain) = (0, self);
        std::iter::from_fn(move || {
            if at >= bytes.len() {
                return None;
            }
            let Found::Whole {
                subject,
                payload,
                next,
                chain: after,
            } = frame_at(bytes, at, chain)
            else {
                at = bytes.len();
                return Some(None);
            };
            (at, chain) = (next, after);
            Some(Some((subject, payload)))
        })
    }
}

/// The beginning of a file of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    line_len: usize,
    /// Of the header line; every other checksum goes on from it.
    seed: Chain,
    /// The inode number of the file that it was written for.
    pub file: u64,
}

impl Header {
    /// A header, and its bytes up to the first frame.
    pub fn new(name: &str, version: u32, file: u64) -> (Self, Vec<u8>) {
        let id = fastrand::u64(..);
        let line = format!("mediafs-{name} {version} {id:016x} {file:x}\n").into_bytes();
        let header = Self {
            line_len: line.len(),
            seed: Chain(crc32fast::hash(&line)),
            file,
        };
        let mut bytes = line;
        bytes.extend(header.end_field(header.frames_at() as u64));
        (header, bytes)
    }

    /// The header of a file whose first line is this.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
        let mut fields = text.split(' ').skip(2);
        let (_id, file) = (fields.next()?, fields.next()?);
        if fields.next().is_some() {
            return None;
        }
        Some(Self {
            line_len: line.len(),
            seed: Chain(crc32fast::hash(line)),
            file: u64::from_str_radix(file, 16).ok()?,
        })
    }

    /// Where the end is noted.
    pub fn end_at(&self) -> u64 {
        self.line_len as u64
    }

    fn frames_at(&self) -> usize {
        self.line_len + END_BYTES
    }

    /// The bytes of the end that is noted.
    pub fn end_field(&self, end: u64) -> [u8; END_BYTES] {
        let bytes = end.to_le_bytes();
        let check = self.seed.over(&bytes).0.to_le_bytes();
        let mut field = [0; END_BYTES];
        for (byte, value) in field.iter_mut().zip(bytes.into_iter().chain(check)) {
            *byte = value;
        }
        field
    }

    /// Notes the end in the bytes of a file.
    pub fn set_end(&self, bytes: &mut [u8], end: u64) {
        if let Some(noted) = bytes.get_mut(self.line_len..self.frames_at()) {
            noted.copy_from_slice(&self.end_field(end));
        }
    }

    /// None where it is not what was written.
    pub(super) fn end(&self, bytes: &[u8]) -> Option<u64> {
        let end = number::<8>(bytes, self.line_len).map(u64::from_le_bytes)?;
        (bytes.get(self.line_len..self.frames_at()) == Some(self.end_field(end).as_slice()))
            .then_some(end)
    }

    /// Where frames begin, and the checksum that they go on from.
    pub fn start(&self) -> (u64, Chain) {
        (self.frames_at() as u64, self.seed)
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn stored(bytes: &[u8], at: usize) -> Option<Chain> {
    number::<4>(bytes, at).map(|it| Chain(u32::from_le_bytes(it)))
}

/// What stands at an offset.
pub(super) enum Found<'a> {
    Whole {
        subject: Subject,
        payload: &'a [u8],
        next: usize,
        chain: Chain,
    },
    /// The payload is not what was written.
    HeadOnly {
        subject: Subject,
        next: usize,
    },
    Nothing,
}

pub(super) fn frame_at(bytes: &[u8], at: usize, chain: Chain) -> Found<'_> {
    let head = bytes.get(at..at.saturating_add(HEAD_BYTES - CHECK_BYTES));
    let (Some(head), Some(check)) = (head, stored(bytes, at + HEAD_BYTES - CHECK_BYTES)) else {
        return Found::Nothing;
    };
    if chain.over(head) != check {
        return Found::Nothing;
    }
    let fields = (
        number::<4>(head, 0),
        head.get(4).copied(),
        number::<8>(head, 5),
    );
    let (Some(len), Some(kind), Some(id)) = fields else {
        return Found::Nothing;
    };
    let subject = Subject {
        kind,
        id: u64::from_le_bytes(id),
    };
    let payload_at = at + HEAD_BYTES;
    let check_at = payload_at.saturating_add(u32::from_le_bytes(len) as usize);
    let next = check_at.saturating_add(CHECK_BYTES);
    let payload = bytes.get(payload_at..check_at);
    match (payload, stored(bytes, check_at)) {
        (Some(payload), Some(after)) if check.over(payload) == after => Found::Whole {
            subject,
            payload,
            next,
            chain: after,
        },
        _ => Found::HeadOnly { subject, next },
    }
}

/// One thing that is found in a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    Frame(Subject, &'a [u8]),
    /// A frame that must be whole is not; nothing is known of it, or of how many
    /// there are, where there is no subject.
    Damaged(Option<Subject>),
    /// What a crash left behind the end.
    Torn,
}

/// What counts behind the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Whole frames up to the first that is none: the rest was never answered.
    UpToTheFirstGap,
    /// Every whole frame: a disk may have kept a later write and lost an earlier one.
    Whole,
}

/// The frames of a file, in order.
#[derive(Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    chain: Chain,
    /// Every frame below is whole, or the file is damaged.
    end: usize,
    tail: Tail,
    /// Nothing was missed so far.
    gapless: bool,
    over: bool,
}

impl<'a> Frames<'a> {
    pub fn of(header: &Header, bytes: &'a [u8], tail: Tail) -> Self {
        let end = header.end(bytes);
        let (at, chain) = header.start();
        Self {
            bytes,
            at: at as usize,
            chain,
            // Where the end is not known, no frame may be missing.
            end: end.map_or(usize::MAX, |end| end as usize),
            tail,
            gapless: true,
            over: false,
        }
    }

    /// Where the next frame goes, unless something before it was missed.
    pub fn append_at(&self) -> Option<(u64, Chain)> {
        self.gapless.then_some((self.at as u64, self.chain))
    }

    /// Whether only room follows an offset. Thirteen zeros have no checksum of zero: a frame that
    /// was written is never taken for it.
    fn is_room(&self, from: usize) -> bool {
        let rest = self.bytes.get(from..).filter(|_| from >= self.end);
        rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
    }

    /// The next whole frame from an offset on, whatever it goes on from.
    fn next_whole(&self, from: usize) -> Option<(usize, Chain)> {
        let last = self.bytes.len().saturating_sub(HEAD_BYTES + CHECK_BYTES);
        (from..=last).find_map(|at| {
            let chain = stored(self.bytes, at.checked_sub(CHECK_BYTES)?)?;
            let found = frame_at(self.bytes, at, chain);
            matches!(found, Found::Whole { .. }).then_some((at, chain))
        })
    }

    /// Goes on behind a frame that is not whole, and says what it was.
    fn pass(&mut self, head: Option<(Subject, usize)>) -> Option<Subject> {
        let len = self.bytes.len();
        if let Some((subject, next)) = head {
            // Its own checksum may be what the disk changed.
            let payload_at = self.at + HEAD_BYTES;
            let check_at = next - CHECK_BYTES;
            let payload = self.bytes.get(payload_at..check_at);
            let computed = stored(self.bytes, payload_at - CHECK_BYTES)
                .zip(payload)
                .map(|(head, payload)| head.over(payload));
            let chains = [stored(self.bytes, check_at), computed];
            for chain in chains.into_iter().flatten() {
                let follows = !matches!(frame_at(self.bytes, next, chain), Found::Nothing);
                if next == len || follows || self.is_room(next) {
                    (self.at, self.chain) = (next, chain);
                    return Some(subject);
                }
            }
        }
        match self.next_whole(self.at + 1) {
            Some((at, chain)) => (self.at, self.chain) = (at, chain),
            None => self.at = len,
        }
        None
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        if self.over {
            return None;
        }
        if self.at >= self.bytes.len() {
            self.over = true;
            // Nobody has cut off what was answered but the disk, or a person.
            let short = self.at < self.end;
            self.gapless &= !short;
            return short.then_some(Step::Damaged(None));
        }
        if self.is_room(self.at) {
            self.over = true;
            return None;
        }
        let head = match frame_at(self.bytes, self.at, self.chain) {
            Found::Whole {
                subject,
                payload,
                next,
                chain,
            } => {
                (self.at, self.chain) = (next, chain);
                return Some(Step::Frame(subject, payload));
            }
            Found::HeadOnly { subject, next } => Some((subject, next)),
            Found::Nothing => None,
        };
        let must_be_whole = self.at < self.end;
        if !must_be_whole && self.tail == Tail::UpToTheFirstGap {
            self.over = true;
            return Some(Step::Torn);
        }
        self.gapless = false;
        let subject = self.pass(head);
        Some(if must_be_whole {
            Step::Damaged(subject)
        } else {
            Step::Torn
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(id: u64) -> Subject {
        Subject { kind: 3, id }
    }

    /// A file of three frames, and where they end.
    fn file() -> (Header, Vec<u8>, Vec<usize>) {
        let (header, mut bytes) = Header::new("log", 2, 77);
        let (_, mut chain) = header.start();
        let mut ends = vec![bytes.len()];
        for (id, payload) in [(1, "first"), (2, "the second"), (3, "")] {
            chain.push(&mut bytes, subject(id), payload.as_bytes());
            ends.push(bytes.len());
        }
        header.set_end(&mut bytes, ends[3] as u64);
        (header, bytes, ends)
    }

    fn steps(header: &Header, bytes: &[u8], tail: Tail) -> Vec<String> {
        let show = |step| match step {
            Step::Frame(subject, _) => subject.id.to_string(),
            Step::Damaged(subject) => format!("damaged {:?}", subject.map(|it| it.id)),
            Step::Torn => "torn".to_owned(),
        };
        Frames::of(header, bytes, tail).map(show).collect()
    }

    #[test]
    fn every_flipped_bit_is_found_and_of_a_payload_also_whose_it_is() {
        let (header, whole, ends) = file();
        assert_eq!(
            steps(&header, &whole, Tail::UpToTheFirstGap),
            ["1", "2", "3"]
        );
        for bit in header.end_at() as usize * 8..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            for tail in [Tail::UpToTheFirstGap, Tail::Whole] {
                let found = steps(&header, &bytes, tail);
                let damaged = found.iter().any(|step| step.starts_with("damaged"));
                assert!(damaged, "bit {bit}: {found:?}");
            }
        }
        let mut bytes = whole.clone();
        bytes[ends[1] + HEAD_BYTES] ^= 4;
        let found = steps(&header, &bytes, Tail::UpToTheFirstGap);
        assert_eq!(found, ["1", "damaged Some(2)", "3"]);
        // Its checksum alone, and its head.
        let mut bytes = whole.clone();
        bytes[ends[2] - 1] ^= 4;
        let found = steps(&header, &bytes, Tail::UpToTheFirstGap);
        assert_eq!(found, ["1", "damaged Some(2)", "3"]);
        let mut bytes = whole;
        bytes[ends[1] + 6] ^= 4;
        let found = steps(&header, &bytes, Tail::UpToTheFirstGap);
        assert_eq!(found, ["1", "damaged None", "3"]);
    }

    #[test]
    fn what_is_missing_doubled_or_of_another_file_is_found() {
        let (header, whole, ends) = file();
        let damaged = |bytes: &[u8]| {
            let found = steps(&header, bytes, Tail::UpToTheFirstGap);
            assert!(
                found.iter().any(|it| it.starts_with("damaged")),
                "{found:?}"
            );
        };
        // Cut off at each byte, also between frames.
        for cut in ends[0]..ends[3] {
            damaged(&whole[..cut]);
        }
        let frame = |number: usize| whole[ends[number]..ends[number + 1]].to_vec();
        damaged(&[&whole[..ends[0]], &frame(1), &frame(2)].concat());
        damaged(&[&whole[..ends[1]], &frame(0), &frame(1), &frame(2)].concat());
        damaged(&[&whole[..ends[0]], &frame(1), &frame(0), &frame(2)].concat());
        let (_, other, _) = file();
        damaged(&[&whole[..ends[2]], &other[ends[2]..]].concat());
        damaged(&[&whole[..ends[1]], &other[ends[1]..ends[2]], &frame(2)].concat());
    }

    #[test]
    fn zeros_behind_the_frames_are_room_and_before_their_end_damage() {
        let (header, mut whole, ends) = file();
        whole.resize(ends[3] + 100, 0);
        for noted in [0, 1, 3] {
            header.set_end(&mut whole, ends[noted] as u64);
            for tail in [Tail::UpToTheFirstGap, Tail::Whole] {
                assert_eq!(steps(&header, &whole, tail), ["1", "2", "3"]);
                let mut frames = Frames::of(&header, &whole, tail);
                assert_eq!(frames.by_ref().count(), 3);
                let (at, _) = frames.append_at().unwrap();
                assert_eq!(at, ends[3] as u64);
            }
        }
        let mut bytes = whole.clone();
        bytes[ends[1] + HEAD_BYTES + 2] ^= 4;
        bytes[ends[2]..].fill(0);
        header.set_end(&mut bytes, ends[2] as u64);
        let found = steps(&header, &bytes, Tail::UpToTheFirstGap);
        assert_eq!(found, ["1", "damaged Some(2)"], "the last one");
        // What was never written, or is torn, where a frame must be.
        header.set_end(&mut whole, ends[3] as u64);
        for from in [ends[2], ends[3] - 1, ends[2] + 3] {
            let mut lost = whole.clone();
            lost[from..].fill(0);
            let found = steps(&header, &lost, Tail::Whole);
            let is_same = lost == whole;
            let is_damaged = found.iter().any(|it| it.starts_with("damaged"));
            assert!(is_same || is_damaged, "{found:?}");
        }
        header.set_end(&mut whole, ends[1] as u64);
        whole[ends[2] + 5..].fill(0);
        assert_eq!(steps(&header, &whole, Tail::Whole), ["1", "2", "torn"]);
    }

    #[test]
    fn behind_the_end_a_torn_frame_is_none_and_goes_on_where_it_began() {
        let (header, mut whole, ends) = file();
        header.set_end(&mut whole, ends[1] as u64);
        for cut in ends[1]..ends[3] {
            let mut frames = Frames::of(&header, &whole[..cut], Tail::UpToTheFirstGap);
            assert!(
                frames
                    .by_ref()
                    .all(|step| !matches!(step, Step::Damaged(_)))
            );
            let (at, _) = frames.append_at().unwrap();
            let last = ends.iter().rfind(|end| **end <= cut).unwrap();
            assert_eq!(at, *last as u64, "cut at {cut}");
        }
        // A later write that a disk kept without all of the one before.
        whole[ends[1]..ends[2] - CHECK_BYTES].fill(0);
        assert_eq!(steps(&header, &whole, Tail::Whole), ["1", "torn", "3"]);
        assert_eq!(steps(&header, &whole, Tail::UpToTheFirstGap), ["1", "torn"]);
    }
}
