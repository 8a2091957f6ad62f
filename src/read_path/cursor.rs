//! How far ahead of a reader to fetch. The cursor is the reader's place; `reader` fetches.

use std::ops::Range;

/// Read-ahead of a reader that has just begun.
const WINDOW_FIRST_BYTES: u64 = 1 << 20;
/// The window grows with what was read in a row, by so much: this is what a reader that
/// stops has cost at the most.
const WINDOW_SHARE: u64 = 16;
/// A first read that is shorter may be all that is read.
const STREAM_READ_BYTES: u64 = 128 << 10;
/// The kernel sends one reader's requests to several threads: this much out of order is still sequential.
const REORDER_BYTES: u64 = 2 << 20;

/// How much may be fetched ahead of one reader now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub limit_bytes: u64,
    /// Bytes of one GET, once the window is as long: each ends where another one begins.
    pub run_bytes: u64,
}

/// One handle's place in a file and its read-ahead window.
///
/// Sequential readers get a window that grows with each read that used it; a jump closes it.
#[derive(Debug, Default)]
pub struct Cursor {
    /// Where this run of reads began.
    began: u64,
    /// Furthest byte read in this run.
    reached: u64,
    /// Furthest byte asked for ahead.
    fetched: u64,
    /// The last read went on where those before ended, about.
    is_stream: bool,
}

impl Cursor {
    /// Notes a read and returns what to fetch for it and ahead of it, empty for random
    /// readers.
    ///
    /// The window is filled up by whole GETs, each as soon as it fits: as many as its
    /// length pays for are under way all the time.
    pub fn advance(&mut self, read: &Range<u64>, window: Window) -> Range<u64> {
        let near = self.reached.saturating_sub(REORDER_BYTES)..=self.reached + REORDER_BYTES;
        let is_first = self.reached == 0;
        let is_stream = !is_first || read.end - read.start >= STREAM_READ_BYTES;
        if is_first {
            self.began = read.start;
        }
        if !near.contains(&read.start) || !is_stream {
            *self = Self {
                began: read.start,
                reached: read.end,
                fetched: read.end,
                is_stream: false,
            };
            return read.end..read.end;
        }
        self.reached = self.reached.max(read.end);
        self.is_stream = true;
        // What is read now and was not asked for ahead comes with what is behind it.
        let start = if self.fetched < self.reached {
            read.start
        } else {
            self.fetched
        };
        self.fetched = start.max(self.end(is_first, window));
        start..self.fetched
    }

    /// Where what is fetched ahead is to end.
    fn end(&self, is_first: bool, window: Window) -> u64 {
        let read_bytes = self.reached.saturating_sub(self.began);
        let grown = if is_first {
            WINDOW_FIRST_BYTES
        } else {
            (read_bytes * WINDOW_SHARE).max(WINDOW_FIRST_BYTES)
        };
        let end = self.reached + grown.min(window.limit_bytes);
        let whole = end - end % window.run_bytes.max(1);
        if whole > self.reached || self.fetched > self.reached {
            return whole;
        }
        let begun = end - end % WINDOW_FIRST_BYTES.min(window.limit_bytes.max(1));
        if begun > self.reached { begun } else { end }
    }

    /// Whether something is fetched ahead of the reader.
    pub fn is_stream(&self) -> bool {
        self.is_stream
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
    const RUN: u64 = 2 << 20;
    const STEP: u64 = 1 << 17;
    const WINDOW: Window = Window {
        limit_bytes: LIMIT,
        run_bytes: RUN,
    };

    /// What is fetched for a reader from the start on in steps, up to so far.
    fn stream(window: Window, end: u64) -> Vec<Range<u64>> {
        let mut cursor = Cursor::default();
        let steps = (0..end).step_by(STEP as usize);
        let ahead = steps.map(|at| cursor.advance(&(at..at + STEP), window));
        ahead.filter(|ahead| !ahead.is_empty()).collect()
    }

    #[test]
    fn a_sequential_reader_is_fetched_ahead_of_in_growing_strides_without_gaps() {
        let strides = stream(WINDOW, 32 << 20);
        let mut next = 0;
        for stride in &strides {
            assert_eq!(stride.start, next);
            next = stride.end;
        }
        assert_eq!(strides[0], 0..1 << 20);
        let whole = |stride: &Range<u64>| stride.end.is_multiple_of(RUN);
        assert!(strides.iter().skip(1).all(whole), "{strides:?}");
        assert!(strides.len() <= 1 + (32 + 8) / 2, "{strides:?}");
        assert!(next >= (32 << 20) + LIMIT - RUN);
    }

    #[test]
    fn a_reader_that_stops_has_cost_little_more_than_it_read() {
        for read in [1, 2, 4, 8, 16].map(|steps| steps * STEP) {
            let fetched = stream(WINDOW, read).last().unwrap().end;
            let most = WINDOW_FIRST_BYTES.max((WINDOW_SHARE + 1) * read);
            assert!(fetched <= most, "{fetched} for {read}");
        }
    }

    #[test]
    fn long_requests_are_few_also_where_the_window_has_room_for_one_or_two() {
        for limit_bytes in [RUN, RUN + STEP, 2 * RUN] {
            let window = Window {
                limit_bytes,
                run_bytes: RUN,
            };
            let strides = stream(window, 32 << 20);
            assert!(strides.len() <= 2 + 32 / 2, "{strides:?}");
        }
    }

    #[test]
    fn a_short_first_read_fetches_nothing_ahead_until_another_one_follows() {
        let mut cursor = Cursor::default();
        assert!(cursor.advance(&(0..4096), WINDOW).is_empty());
        let ahead = cursor.advance(&(4096..8192), WINDOW);
        assert_eq!(ahead, 4096..1 << 20);
    }

    #[test]
    fn a_jump_closes_the_window() {
        let mut cursor = Cursor::default();
        cursor.advance(&(0..STEP), WINDOW);
        assert!(
            cursor
                .advance(&(1 << 30..(1 << 30) + STEP), WINDOW)
                .is_empty()
        );
    }

    #[test]
    fn reads_that_arrive_out_of_order_stay_sequential() {
        let mut cursor = Cursor::default();
        let mut total = 0;
        for i in [1, 0, 3, 2, 5, 4, 7, 6, 9, 8] {
            let ahead = cursor.advance(&(i * STEP..(i + 1) * STEP), WINDOW);
            total += ahead.end - ahead.start;
        }
        assert!(total > LIMIT / 2, "{total}");
    }
}
