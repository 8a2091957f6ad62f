//! How much read-ahead pays: more, as long as more bytes a second come by it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Read-ahead of one handle before anything is measured.
const FIRST_BYTES: u64 = 64 << 20;
/// With a hundred requests in flight for one handle the network is the limit.
const LIMIT_BYTES: u64 = 1 << 30;
/// Throughput must grow by this factor for twice the memory.
const PAYS_FROM: f64 = 1.15;
/// The shortest time over which is measured.
const MEASURED_LEAST: Duration = Duration::from_millis(250);
/// Nothing came for so long: it is readers that pause.
const PAUSE: Duration = Duration::from_millis(500);
/// After a longer window brought nothing.
const REST: Duration = Duration::from_secs(10);

/// Measures what comes from the store, and finds the window by that.
#[derive(Debug)]
pub(super) struct Throughput(Mutex<Measured>);

#[derive(Debug)]
struct Measured {
    window_bytes: u64,
    /// What came with half of the window, in bytes a second, while it is tried out.
    with_half: Option<f64>,
    rests_until: Instant,
    since: Instant,
    last: Instant,
    arrived_bytes: u64,
}

impl Throughput {
    pub fn new() -> Self {
        Self::from(Instant::now())
    }

    fn from(now: Instant) -> Self {
        Self(Mutex::new(Measured {
            window_bytes: FIRST_BYTES,
            with_half: None,
            rests_until: now,
            since: now,
            last: now,
            arrived_bytes: 0,
        }))
    }

    /// Most read-ahead of one handle, where memory has room for it.
    pub fn window_bytes(&self) -> u64 {
        self.0.lock().window_bytes
    }

    /// So many bytes came from the store.
    pub fn arrived(&self, bytes: u64) {
        self.0.lock().arrived(bytes, Instant::now());
    }
}

impl Measured {
    fn arrived(&mut self, bytes: u64, now: Instant) {
        if now.duration_since(self.last) > PAUSE {
            self.measure_from(now);
        }
        self.last = now;
        self.arrived_bytes += bytes;
        let took = now.duration_since(self.since);
        // What was asked for before the window grew has come by then.
        if took < MEASURED_LEAST || self.arrived_bytes < self.window_bytes {
            return;
        }
        let rate = self.arrived_bytes as f64 / took.as_secs_f64();
        match self.with_half {
            Some(with_half) if rate < with_half * PAYS_FROM => {
                self.window_bytes /= 2;
                self.with_half = None;
                self.rests_until = now + REST;
            }
            _ if now >= self.rests_until && self.window_bytes < LIMIT_BYTES => {
                self.window_bytes *= 2;
                self.with_half = Some(rate);
            }
            _ => self.with_half = None,
        }
        self.measure_from(now);
    }

    fn measure_from(&mut self, now: Instant) {
        (self.since, self.arrived_bytes) = (now, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const STEP: Duration = Duration::from_millis(10);

    /// Where the window ends for a reader who takes all that comes for so long, by a store
    /// that sends so much a second for a window.
    fn window_after(seconds: u64, rate: impl Fn(u64) -> u64) -> u64 {
        let mut now = Instant::now();
        let throughput = Throughput::from(now);
        let mut state = throughput.0.lock();
        for _ in 0..seconds * 100 {
            now += STEP;
            let bytes = rate(state.window_bytes) / 100;
            state.arrived(bytes, now);
        }
        state.window_bytes
    }

    #[test]
    fn the_window_grows_as_long_as_more_comes_by_it() {
        // A connection for each 4 MiB, of 20 MiB a second.
        let of_connections = |window: u64| window / (4 * MIB) * 20 * MIB;
        assert_eq!(window_after(30, of_connections), LIMIT_BYTES);
        // A line of 1,000 MiB a second: 200 MiB fill it.
        let of_line = |window| of_connections(window).min(1000 * MIB);
        let window = window_after(8, of_line);
        assert!(
            (200 * MIB..=512 * MIB).contains(&window),
            "{}",
            window / MIB
        );
    }

    #[test]
    fn where_a_longer_window_brings_nothing_it_is_tried_seldom() {
        let mut longer = 0;
        let mut now = Instant::now();
        let throughput = Throughput::from(now);
        let mut state = throughput.0.lock();
        for _ in 0..6000 {
            now += STEP;
            state.arrived(2 * MIB, now);
            longer += u64::from(state.window_bytes > FIRST_BYTES);
            assert!(state.window_bytes <= 2 * FIRST_BYTES);
        }
        assert!(longer < 1000, "{longer} of 6000");
    }

    #[test]
    fn a_reader_who_pauses_is_not_taken_for_a_slow_store() {
        let mut now = Instant::now();
        let throughput = Throughput::from(now);
        let mut state = throughput.0.lock();
        for _ in 0..20 {
            now += PAUSE * 10;
            state.arrived(FIRST_BYTES / 2, now);
        }
        assert_eq!(state.window_bytes, FIRST_BYTES);
    }
}
