//! How far ahead of a reader to fetch.

use std::ops::Range;

/// Most bytes of one GET. A long window ends where one does, so that few are shorter.
pub(super) const RUN_LIMIT_BYTES: u64 = 4 << 20;
/// Window of a reader that has just turned out to be sequential.
const WINDOW_FIRST_BYTES: u64 = 1 << 20;
/// Share of the window that is used before it is filled up.
const REFILL_SHARE: u64 = 8;
/// The kernel sends one reader's requests to several threads: this much out of order is still sequential.
const REORDER_BYTES: u64 = 2 << 20;

/// One handle's place in a file and its read-ahead window.
///
/// Sequential readers get a window that doubles with each read that used it;
/// a jump closes it.
#[derive(Debug, Default)]
pub struct Cursor {
    /// Furthest byte read in this run.
    reached: u64,
    window_bytes: u64,
    /// Furthest byte asked for ahead.
    fetched: u64,
}

impl Cursor {
    /// Notes a read and returns what to fetch for it and ahead of it, empty for random
    /// readers.
    ///
    /// The window is filled up when an eighth of it is used: as many requests as its
    /// length pays for are under way all the time, and each is a long one.
    pub fn advance(&mut self, read: &Range<u64>, window_limit_bytes: u64) -> Range<u64> {
        let near = self.reached.saturating_sub(REORDER_BYTES)..=self.reached + REORDER_BYTES;
        if !near.contains(&read.start) {
            *self = Self {
                reached: read.end,
                window_bytes: 0,
                fetched: read.end,
            };
            return read.end..read.end;
        }
        if read.end > self.reached {
            self.reached = read.end;
            self.window_bytes = (self.window_bytes * 2)
                .max(WINDOW_FIRST_BYTES)
                .min(window_limit_bytes);
        }
        let unused = self.window_bytes - self.window_bytes / REFILL_SHARE;
        if self.fetched >= self.reached + unused {
            return self.fetched..self.fetched;
        }
        let mut end = self.reached + self.window_bytes;
        if self.window_bytes >= 2 * RUN_LIMIT_BYTES {
            end -= end % RUN_LIMIT_BYTES;
        }
        // What is read now and was not asked for ahead comes with what is behind it.
        let start = if self.fetched < self.reached {
            read.start
        } else {
            self.fetched
        };
        self.fetched = end.max(start);
        start..self.fetched
    }

    /// What was to be fetched ahead was fetched only up to here.
    pub fn fell_short(&mut self, at: u64) {
        self.fetched = self.fetched.min(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 8 << 20;
    const STEP: u64 = 1 << 17;

    #[test]
    fn a_sequential_reader_is_fetched_ahead_of_in_growing_strides_without_gaps() {
        let mut cursor = Cursor::default();
        let (mut next, mut strides) = (0, Vec::new());
        for i in 0..256 {
            let ahead = cursor.advance(&(i * STEP..(i + 1) * STEP), LIMIT);
            if !ahead.is_empty() {
                assert_eq!(ahead.start, next);
                next = ahead.end;
                strides.push(ahead.end - ahead.start);
            }
        }
        assert!(
            strides
                .iter()
                .all(|stride| *stride >= WINDOW_FIRST_BYTES / 2),
            "{strides:?}"
        );
        assert!(
            strides
                .iter()
                .rev()
                .take(4)
                .all(|stride| *stride >= LIMIT / REFILL_SHARE),
            "{strides:?}"
        );
    }

    #[test]
    fn a_jump_closes_the_window() {
        let mut cursor = Cursor::default();
        cursor.advance(&(0..STEP), LIMIT);
        assert!(
            cursor
                .advance(&(1 << 30..(1 << 30) + STEP), LIMIT)
                .is_empty()
        );
    }

    #[test]
    fn reads_that_arrive_out_of_order_stay_sequential() {
        let mut cursor = Cursor::default();
        let mut total = 0;
        for i in [1, 0, 3, 2, 5, 4, 7, 6, 9, 8] {
            let ahead = cursor.advance(&(i * STEP..(i + 1) * STEP), LIMIT);
            total += ahead.end - ahead.start;
        }
        assert!(total > LIMIT / 2, "{total}");
    }
}
