//! How a long file is cut into the parts of a multipart upload.
//!
//! A part is sent or copied, and each but the last has at least 5 MiB. Where there
//! are many zeros, they are copied too, from an object of zeros. What is
//! sent comes in parts of `--part-size`; after each thousand of them they are
//! twice as long, so that one that is sent while its file still grows never needs
//! another cut. Where that is not enough, all parts are as long as need be:
//! 10,000 of 5 GiB hold the longest object.

use std::ops::Range;

use super::copier::CopyPartSize;
use crate::error::FsError;
use crate::store::{ETag, Key, PART_COUNT_LIMIT, PART_LIMIT_BYTES, PART_MIN_BYTES, PartNumber};

/// Longest part that a setting may ask for: it is held in memory.
const PART_SIZE_LIMIT_BYTES: u64 = 512 << 20;
/// Longest file, which no run is longer than.
const FILE_LIMIT: u64 = PART_COUNT_LIMIT as u64 * PART_LIMIT_BYTES;
/// So many parts have one length, the next as many twice that.
const PARTS_OF_ONE_SIZE: u64 = 1000;
/// Zeros of fewer parts than these are sent: it takes less requests.
const ZERO_PARTS_COPIED_FROM: u64 = 8;
/// So many parts' lengths of zeros in a row are copied.
const ZERO_RUN_PARTS: u64 = 2;

/// Size of the first parts of an upload. Longer parts are not held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartSize(u64);

/// Bytes of an object version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRange {
    pub key: Key,
    pub etag: ETag,
    pub range: Range<u64>,
}

/// Neighbouring bytes of a file that are all to be sent, or all of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub range: Range<u64>,
    pub origin: Origin,
}

/// Where the bytes of a run are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Local,
    /// They are zeros, and nowhere.
    Zero,
    /// In this version of an object, at the same offsets.
    Object(Key, ETag),
}

/// How long the parts are that are sent.
#[derive(Debug, Clone, Copy)]
enum Lengths {
    /// By their number.
    Growing(PartSize),
    Equal(u64),
}

impl PartSize {
    /// Takes 5 MiB, the least that S3 allows, to 512 MiB.
    pub fn new(bytes: u64) -> Option<Self> {
        (PART_MIN_BYTES..=PART_SIZE_LIMIT_BYTES)
            .contains(&bytes)
            .then_some(Self(bytes))
    }

    pub fn bytes(self) -> u64 {
        self.0
    }

    /// The part that begins at an offset of a file that is sent from its start;
    /// none beyond what ten thousand of them hold.
    pub fn part_at(self, start: u64) -> Option<(PartNumber, Range<u64>)> {
        if start >= u64::from(PART_COUNT_LIMIT) * PART_LIMIT_BYTES {
            return None;
        }
        let (mut at, mut len, mut before) = (0, self.0, 0);
        while start >= at + PARTS_OF_ONE_SIZE * len {
            at += PARTS_OF_ONE_SIZE * len;
            before += PARTS_OF_ONE_SIZE;
            len = longer(len);
        }
        let number = before + (start - at) / len + 1;
        let number = u16::try_from(number).ok().and_then(PartNumber::new)?;
        Some((number, start..start + len))
    }
}

fn longer(len: u64) -> u64 {
    (len * 2).min(PART_LIMIT_BYTES)
}

impl Lengths {
    fn of_part_after(self, parts: usize) -> u64 {
        match self {
            Self::Equal(len) => len,
            Self::Growing(PartSize(first)) => {
                let doublings = parts as u64 / PARTS_OF_ONE_SIZE;
                (0..doublings).fold(first, |len, _| longer(len))
            }
        }
    }
}

impl Run {
    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn is_local(&self) -> bool {
        self.origin == Origin::Local
    }
}

/// Whether so many zeros are copied from an object of zeros.
pub fn are_zeros_copied(zeros: u64, part_size: PartSize) -> bool {
    zeros >= ZERO_PARTS_COPIED_FROM * part_size.bytes()
}

/// The same runs, where zeros are a run of their own only if they are copied; and
/// how long the parts of them are, so that making the object of zeros and copying
/// from it take few requests together.
fn with_zeros(runs: &[Run], part_size: PartSize, copied: u64, fewest: u64) -> (Vec<Run>, u64) {
    let mut runs = merged(runs);
    let is_long = |run: &Run| run.len() >= ZERO_RUN_PARTS * part_size.bytes();
    let zeros = |run: &&Run| run.origin == Origin::Zero && is_long(run);
    let total: u64 = runs.iter().filter(zeros).map(Run::len).sum();
    for run in runs.iter_mut().filter(|run| run.origin == Origin::Zero) {
        if !is_long(run) || !are_zeros_copied(total, part_size) {
            run.origin = Origin::Local;
        }
    }
    let balanced = (u128::from(total) * u128::from(part_size.bytes())).isqrt() as u64;
    let len = balanced.next_multiple_of(1 << 20);
    (runs, len.min(copied).max(part_size.bytes()).max(fewest))
}

/// Cuts a file, which these runs make up, and returns where its parts end. Up to
/// `fixed` they are as they were sent while the file was being written.
///
/// Errors: `TooLarge` for more than 10,000 parts of 5 GiB.
/// Source: S3 User Guide, "Multipart upload limits".
pub fn plan_parts(
    runs: &[Run],
    (part_size, copy_part_size): (PartSize, CopyPartSize),
    fixed: u64,
) -> Result<Vec<u64>, FsError> {
    let mut before = Vec::new();
    while let Some(at) = before.last().copied().or(Some(0)).filter(|at| *at < fixed) {
        let (_, part) = part_size.part_at(at).ok_or(FsError::TOO_LARGE)?;
        before.push(part.end);
    }
    let runs = &behind(runs, before.last().copied().unwrap_or(0));
    let len = runs.last().map_or(0, |last| last.range.end);
    let fewest = len.div_ceil(u64::from(PART_COUNT_LIMIT));
    if fewest > PART_LIMIT_BYTES {
        return Err(FsError::TOO_LARGE);
    }
    let even = fewest.next_multiple_of(1 << 20).max(part_size.bytes());
    let mut copied = copy_part_size.bytes().max(fewest);
    let (runs, mut zeros) = with_zeros(runs, part_size, copied, fewest);
    let mut sent = Lengths::Growing(part_size);
    let mut least = PART_MIN_BYTES;
    loop {
        let ends = cut_runs(before.clone(), &joined(&runs, least), sent, (copied, zeros));
        if ends.len() <= usize::from(PART_COUNT_LIMIT) {
            return Ok(ends);
        }
        match sent {
            Lengths::Growing(_) => sent = Lengths::Equal(even),
            Lengths::Equal(_) if copied.min(zeros) < PART_LIMIT_BYTES => {
                (copied, zeros) = (longer(copied), longer(zeros));
            }
            // Too many pieces: less of it is copied.
            Lengths::Equal(len) if least < FILE_LIMIT => {
                least *= 2;
                sent = Lengths::Equal(longer(len));
            }
            Lengths::Equal(_) => return Err(FsError::TOO_LARGE),
        }
    }
}

/// The parts between these ends.
pub fn ranges(ends: &[u64]) -> impl Iterator<Item = Range<u64>> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts
        .zip(ends.iter().copied())
        .map(|(start, end)| start..end)
}

/// The same runs, but none shorter than `least` except the last one: what is
/// copied is sent where it is shorter, and what is sent takes from what is
/// copied behind it.
fn joined(runs: &[Run], least: u64) -> Vec<Run> {
    let end = runs.last().map_or(0, |last| last.range.end);
    let mut joined: Vec<Run> = Vec::new();
    for run in merged(runs) {
        let mut run = run;
        let is_last = run.range.end == end;
        if !run.is_local() && !is_last && run.len() < least {
            run.origin = Origin::Local;
        }
        match joined.last_mut() {
            Some(last) if last.is_local() && run.is_local() => last.range.end = run.range.end,
            Some(last) if last.is_local() && last.len() < least => {
                let taken = least - last.len();
                if run.len() >= taken + least || (is_last && run.len() > taken) {
                    last.range.end += taken;
                    run.range.start += taken;
                    joined.push(run);
                } else {
                    last.range.end = run.range.end;
                }
            }
            _ => joined.push(run),
        }
    }
    joined
}

/// Neighbours of one origin are one.
fn merged(runs: &[Run]) -> Vec<Run> {
    let mut merged: Vec<Run> = Vec::new();
    for run in runs.iter().filter(|run| !run.range.is_empty()) {
        match merged.last_mut() {
            Some(last) if last.origin == run.origin => last.range.end = run.range.end,
            _ => merged.push(run.clone()),
        }
    }
    merged
}

/// What of runs lies behind an offset.
fn behind(runs: &[Run], at: u64) -> Vec<Run> {
    let left = runs.iter().filter(|run| run.range.end > at);
    let clipped = left.map(|run| Run {
        range: run.range.start.max(at)..run.range.end,
        origin: run.origin.clone(),
    });
    clipped.collect()
}

fn cut_runs(
    mut ends: Vec<u64>,
    runs: &[Run],
    sent: Lengths,
    (copied, zeros): (u64, u64),
) -> Vec<u64> {
    let end = runs.last().map_or(0, |last| last.range.end);
    for run in runs {
        let mut at = run.range.start;
        while at < run.range.end {
            let wanted = match run.origin {
                Origin::Local => sent.of_part_after(ends.len()),
                Origin::Zero => zeros,
                Origin::Object(..) => copied,
            };
            let left = run.range.end - at;
            let rest = left.saturating_sub(wanted);
            at += if rest == 0 {
                left
            } else if rest >= PART_MIN_BYTES || run.range.end == end {
                wanted
            } else if wanted < 2 * PART_MIN_BYTES {
                // Both halves of it would be too short.
                left
            } else {
                left / 2
            };
            ends.push(at);
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn local(range: Range<u64>) -> Run {
        let origin = Origin::Local;
        Run { range, origin }
    }

    fn object(range: Range<u64>) -> Run {
        let origin = Origin::Object(Key::new("k"), ETag::new("e"));
        Run { range, origin }
    }

    fn zero(range: Range<u64>) -> Run {
        let origin = Origin::Zero;
        Run { range, origin }
    }

    fn plan(runs: &[Run], part: u64, copy: u64) -> Vec<u64> {
        let (part, copy) = (PartSize::new(part), CopyPartSize::new(copy));
        plan_parts(runs, (part.unwrap(), copy.unwrap()), 0).unwrap()
    }

    /// How many parts, and the shortest but the last, and the longest.
    fn shape(ends: &[u64]) -> (usize, u64, u64) {
        let lens: Vec<u64> = ranges(ends).map(|part| part.end - part.start).collect();
        let shortest = lens[..lens.len() - 1].iter().min();
        (lens.len(), *shortest.unwrap(), *lens.iter().max().unwrap())
    }

    /// Bytes in parts that are not all of the object.
    fn sent(ends: &[u64], runs: &[Run]) -> u64 {
        let runs = merged(runs);
        let is_copied = |part: &Range<u64>| {
            let mut runs = runs.iter().filter(|run| !run.is_local());
            runs.any(|run| run.range.start <= part.start && part.end <= run.range.end)
        };
        let sent = ranges(ends).filter(|part| !is_copied(part));
        sent.map(|part| part.end - part.start).sum()
    }

    #[test]
    fn parts_grow_so_that_ten_thousand_hold_the_longest_object() {
        let of = |len| plan(&[local(0..len)], 8 * MIB, 512 * MIB);
        assert_eq!(shape(&of(64 * MIB)), (8, 8 * MIB, 8 * MIB));
        assert_eq!(shape(&of(64 * MIB + 1)), (9, 8 * MIB, 8 * MIB));
        let (parts, shortest, longest) = shape(&of(1 << 40));
        assert!(parts < 8000, "{parts}");
        assert_eq!((shortest, longest), (8 * MIB, GIB));
        let longest_object = 10_000 * 5 * GIB;
        assert_eq!(shape(&of(longest_object)), (10_000, 5 * GIB, 5 * GIB));
        let beyond = [local(0..longest_object + 1)];
        let (part, copy) = (PartSize::new(8 * MIB), CopyPartSize::new(5 * GIB));
        let planned = plan_parts(&beyond, (part.unwrap(), copy.unwrap()), 0);
        assert!(matches!(planned, Err(FsError::TooLarge(_))));
        let copied = plan(&[object(0..longest_object)], 8 * MIB, 512 * MIB);
        assert_eq!(shape(&copied), (10_000, 5 * GIB, 5 * GIB));
        assert!(PartSize::new(PART_MIN_BYTES - 1).is_none());
    }

    #[test]
    fn a_part_sent_ahead_is_one_of_the_plan_at_close() {
        let size = PartSize::new(8 * MIB).unwrap();
        for len in [17 * MIB, 9000 * MIB + 5, 3 << 40] {
            let ends = plan(&[local(0..len)], 8 * MIB, 512 * MIB);
            let whole = &ends[..ends.len() - 1];
            for (number, part) in (1..).zip(ranges(whole)) {
                let number = PartNumber::new(number).unwrap();
                assert_eq!(size.part_at(part.start), Some((number, part)));
            }
        }
        assert_eq!(size.part_at(9 << 40), None);
        assert_eq!(size.part_at(u64::MAX), None);
    }

    #[test]
    fn parts_that_are_fixed_stay_as_they_were_sent_whatever_follows() {
        let sizes = (8 * MIB, 512 * MIB);
        let sizes = (PartSize::new(sizes.0), CopyPartSize::new(sizes.1));
        let sizes = (sizes.0.unwrap(), sizes.1.unwrap());
        // Otherwise the fourth part would take what is too short for one.
        let runs = [
            local(0..34 * MIB),
            zero(34 * MIB..134 * MIB),
            local(134 * MIB..135 * MIB),
        ];
        let free = plan_parts(&runs, sizes, 0).unwrap();
        assert_ne!(free[3], 32 * MIB);
        let fixed = plan_parts(&runs, sizes, 32 * MIB).unwrap();
        assert_eq!(fixed[..4], [8, 16, 24, 32].map(|mib| mib * MIB));
        assert_eq!(fixed.last(), Some(&(135 * MIB)));
        let (_, shortest, _) = shape(&fixed);
        assert!(shortest >= PART_MIN_BYTES);
        let all = plan_parts(&runs[..1], sizes, 32 * MIB).unwrap();
        assert_eq!(all, [8, 16, 24, 32, 34].map(|mib| mib * MIB));
        let ends_there = plan_parts(&[local(0..32 * MIB)], sizes, 32 * MIB).unwrap();
        assert_eq!(ends_there.len(), 4);
        let thousands = [local(0..20_000 * MIB)];
        let free = plan_parts(&thousands, sizes, 0).unwrap();
        let fixed = plan_parts(&thousands, sizes, 12_000 * MIB).unwrap();
        assert_eq!(fixed, free, "they grow as before");
    }

    #[test]
    fn an_append_sends_what_is_appended_and_a_cut_sends_nothing() {
        let odd = GIB + 12_345;
        let appended = [object(0..odd), local(odd..odd + 1)];
        let ends = plan(&appended, 8 * MIB, 512 * MIB);
        assert_eq!(sent(&ends, &appended), 1);
        assert_eq!(shape(&ends).0, 4, "three copies and a byte");
        let cut = [object(0..odd - 77)];
        assert_eq!(sent(&plan(&cut, 8 * MIB, 512 * MIB), &cut), 0);
        let grown = [
            object(0..odd),
            local(odd..odd + 20 * MIB),
            local(odd + 20 * MIB..odd + 21 * MIB),
        ];
        assert_eq!(sent(&plan(&grown, 8 * MIB, 512 * MIB), &grown), 21 * MIB);
    }

    #[test]
    fn short_pieces_go_with_their_neighbours() {
        let at = |mib: u64| mib * MIB;
        // An edit takes from behind what it lacks.
        let edited = [
            object(0..at(20)),
            local(at(20)..at(20) + 5),
            object(at(20) + 5..at(40)),
        ];
        assert_eq!(plan(&edited, at(5), at(100)), [at(20), at(25), at(40)]);
        // Between two edits, and before the first one, is too little to copy.
        let close = [
            object(0..at(1)),
            local(at(1)..at(2)),
            object(at(2)..at(5)),
            local(at(5)..at(6)),
            object(at(6)..at(40)),
        ];
        assert_eq!(plan(&close, at(5), at(100)), [at(6), at(40)]);
        // The last one may be short, whether it is sent or copied.
        let last = [
            object(0..at(20)),
            local(at(20)..at(26)),
            object(at(26)..at(27)),
        ];
        assert_eq!(plan(&last, at(8), at(100)), [at(20), at(26), at(27)]);
        // What is left of a copy in parts is not too short either.
        let long = [object(0..at(42)), local(at(42)..at(50))];
        assert_eq!(plan(&long, at(8), at(20)), [at(20), at(31), at(42), at(50)]);
    }

    #[test]
    fn many_zeros_are_parts_of_their_own_and_few_go_with_what_is_sent() {
        // A thousand copies that make the zeros, and so many of them.
        let all = [zero(0..10 << 40)];
        let ends = plan(&all, 8 * MIB, 5 * GIB);
        assert_eq!(shape(&ends), (2048, 5 * GIB, 5 * GIB));
        assert_eq!(shape(&plan(&all, 8 * MIB, 2 * GIB)).1, 2 * GIB);
        let longest = [zero(0..10_000 * 5 * GIB)];
        assert_eq!(shape(&plan(&longest, 8 * MIB, 512 * MIB)).0, 10_000);
        let less = plan(&[zero(0..200 * MIB)], 8 * MIB, 512 * MIB);
        assert_eq!(shape(&less), (5, 40 * MIB, 40 * MIB));
        // Each island makes two parts more of the zeros around it.
        let islands = (0..3).flat_map(|island: u64| {
            let start = island << 38;
            let (data, end) = (start..start + 9, (island + 1) << 38);
            [local(data.clone()), zero(data.end..end)]
        });
        let islands: Vec<_> = islands.collect();
        let ends = plan(&islands, 5 * MIB, 40 * MIB);
        assert_eq!(sent(&ends, &islands), 3 * 5 * MIB);
        let few = [zero(0..63 * MIB)];
        assert_eq!(
            shape(&plan(&few, 8 * MIB, 512 * MIB)),
            (8, 8 * MIB, 8 * MIB)
        );
        // An island takes what it lacks from the zeros behind it.
        let island = [
            zero(0..at_mib(100)),
            local(at_mib(100)..at_mib(101)),
            zero(at_mib(101)..at_mib(200)),
        ];
        let ends = plan(&island, 5 * MIB, 512 * MIB);
        let parts: Vec<_> = ranges(&ends).collect();
        assert!(parts.contains(&(at_mib(100)..at_mib(105))), "{parts:?}");
        // Short ones between are sent.
        let comb = (0..100).flat_map(|tooth| {
            let start = at_mib(12 * tooth);
            [
                local(start..start + MIB),
                zero(start + MIB..start + 12 * MIB),
            ]
        });
        let comb: Vec<_> = comb.collect();
        assert_eq!(
            shape(&plan(&comb, 8 * MIB, 512 * MIB)),
            (150, 8 * MIB, 8 * MIB)
        );
    }

    fn at_mib(mib: u64) -> u64 {
        mib * MIB
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]
        #[test]
        fn every_plan_is_one_that_s3_takes(
            lens in proptest::collection::vec((0..3_u8, 1..60 * MIB), 1..40),
            part in 5 * MIB..20 * MIB,
            copy in 5 * MIB..40 * MIB,
        ) {
            let mut at = 0;
            let runs: Vec<Run> = lens.into_iter().map(|(origin, len)| {
                let range = at..at + len;
                at += len;
                match origin {
                    0 => local(range),
                    1 => zero(range),
                    _ => object(range),
                }
            }).collect();
            let ends = plan(&runs, part, copy);
            prop_assert_eq!(ends.last(), Some(&at));
            for (number, part) in ranges(&ends).enumerate() {
                prop_assert!(part.start < part.end);
                prop_assert!(number + 1 == ends.len() || part.end - part.start >= PART_MIN_BYTES);
            }
            let is_sent = |run: &&Run| {
                run.is_local() || run.origin == Origin::Zero && run.len() < 2 * part
            };
            let few = runs.iter().filter(|run| run.origin == Origin::Zero).map(Run::len).sum::<u64>();
            let few = if few < 8 * part { few } else { 8 * part };
            let dirty: u64 = runs.iter().filter(is_sent).map(Run::len).sum();
            let edits = runs.iter().filter(is_sent).count() as u64;
            prop_assert!(sent(&ends, &runs) <= dirty + few + (edits + 1) * 3 * PART_MIN_BYTES);
        }
    }
}
