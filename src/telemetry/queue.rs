//! Lines of the log on their way from those who have something to say to one thread
//! that writes them.
//!
//! Whoever logs waits for nothing: not for a disk that hangs, nor for a pipe that
//! nobody reads. What does not fit, and what cannot be written, is dropped and counted,
//! and a line in its place says how many are missing once there are lines again.
//!
//! Locks: its own, held while a line is put in or taken out.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::Level;

use super::form::Form;
use super::record::Record;

/// Of all lines that wait.
const QUEUE_LIMIT_BYTES: usize = 1 << 20;
/// What a line has beyond is cut off.
const LINE_LIMIT_BYTES: usize = 32 << 10;
/// A line takes so much beside its bytes.
const ENTRY_BYTES: usize = 64;
const CUT: &[u8] = b" ...\n";
/// How long nothing comes before the writer looks whether its file has moved.
const IDLE: Duration = Duration::from_secs(10);
/// How often at most the writer asks for lines that nobody has put in.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// Where lines go in the end.
pub trait Sink: Send + 'static {
    /// Errors: the line is not there, or not all of it.
    fn write_line(&mut self, line: &[u8]) -> io::Result<()>;

    /// The file may have been moved away.
    fn follow(&mut self);
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Here so many lines are missing.
    Dropped(u64),
    Follow,
}

/// Lines that wait for the writer.
#[derive(Debug, Default)]
pub struct LogQueue {
    form: Form,
    state: Mutex<State>,
    came: Condvar,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Behind the last entry.
    dropped: u64,
    is_writing: bool,
}

impl State {
    fn has_entries(&self) -> bool {
        self.dropped > 0 || !self.entries.is_empty()
    }

    fn take(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front();
        if let Some(Entry::Line(line)) = &entry {
            self.bytes -= line.len() + ENTRY_BYTES;
        }
        entry.or_else(|| match std::mem::take(&mut self.dropped) {
            0 => None,
            dropped => Some(Entry::Dropped(dropped)),
        })
    }
}

impl LogQueue {
    pub fn new(form: Form) -> Self {
        Self {
            form,
            ..Self::default()
        }
    }

    /// Puts in a line of somebody who cannot use `tracing`.
    pub fn say(&self, level: Level, text: &str) {
        let record = Record::new(level, text.to_owned());
        self.push(&self.form.write(&record));
    }

    /// Puts a line in, or drops it.
    pub fn push(&self, line: &[u8]) {
        let whole = line.get(..LINE_LIMIT_BYTES).map(|start| [start, CUT]);
        let line = whole.map_or_else(|| line.to_vec(), |parts| parts.concat());
        let needed = line.len() + ENTRY_BYTES;
        let mut state = self.state.lock();
        if state.bytes + needed > QUEUE_LIMIT_BYTES {
            state.dropped += 1;
            return;
        }
        let dropped = std::mem::take(&mut state.dropped);
        if dropped > 0 {
            state.entries.push_back(Entry::Dropped(dropped));
        }
        state.bytes += needed;
        state.entries.push_back(Entry::Line(line));
        drop(state);
        self.came.notify_one();
    }

    /// Has the writer look for its file again, once what waits is written.
    pub fn follow(&self) {
        let mut state = self.state.lock();
        // One of them is enough, however often it is asked for.
        if !matches!(state.entries.back(), Some(Entry::Follow)) {
            state.entries.push_back(Entry::Follow);
        }
        drop(state);
        self.came.notify_one();
    }

    /// Returns once all is written that came before, or could be, or after a while.
    pub fn flush(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let mut state = self.state.lock();
        while state.has_entries() || state.is_writing {
            if self.idle.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    /// None when nothing has come for a while.
    fn next(&self, wait: Duration) -> Option<Entry> {
        let mut state = self.state.lock();
        state.is_writing = false;
        if !state.has_entries() {
            self.idle.notify_all();
            self.came.wait_for(&mut state, wait);
        }
        let entry = state.take();
        state.is_writing = entry.is_some();
        entry
    }

    /// Writes lines as they come, for as long as the process lives. `ask` puts in those
    /// that come with time.
    pub fn write_to<S: Sink>(self: Arc<Self>, sink: S, ask: impl Fn()) {
        let mut writer = Writer {
            sink,
            form: self.form,
            lost: 0,
            why: String::new(),
        };
        let mut asked = Instant::now();
        loop {
            match self.next(IDLE) {
                Some(Entry::Line(line)) => writer.write(&line),
                Some(Entry::Dropped(lines)) => writer.note_dropped(lines),
                Some(Entry::Follow) => writer.sink.follow(),
                None => {
                    writer.sink.follow();
                    writer.tell_lost();
                }
            }
            if asked.elapsed() >= ASKED_EVERY {
                ask();
                asked = Instant::now();
            }
        }
    }

    /// The lines that wait.
    #[cfg(test)]
    pub fn waiting(&self) -> Vec<String> {
        let state = self.state.lock();
        let lines = state.entries.iter().filter_map(|entry| match entry {
            Entry::Line(line) => Some(String::from_utf8_lossy(line).into_owned()),
            Entry::Dropped(_) | Entry::Follow => None,
        });
        lines.collect()
    }
}

struct Writer<S> {
    sink: S,
    form: Form,
    /// Lines that are missing before the next one.
    lost: u64,
    why: String,
}

impl<S: Sink> Writer<S> {
    fn write(&mut self, line: &[u8]) {
        if !self.tell_lost() {
            self.lost += 1;
        } else if let Err(error) = self.sink.write_line(line) {
            self.lose(1, error.to_string());
        }
    }

    fn note_dropped(&mut self, lines: u64) {
        self.lose(lines, "they were not taken in time".to_owned());
        self.tell_lost();
    }

    fn lose(&mut self, lines: u64, why: String) {
        self.lost += lines;
        self.why = why;
    }

    /// Says how many are missing, if any are. False where that cannot be written either.
    fn tell_lost(&mut self) -> bool {
        let Self { lost, why, .. } = self;
        if *lost == 0 {
            return true;
        }
        let lines = if *lost == 1 { "line is" } else { "lines are" };
        let note = format!("{lost} {lines} missing here: {why}");
        let note = self.form.write(&Record::new(Level::WARN, note));
        match self.sink.write_line(&note) {
            Ok(()) => self.lost = 0,
            Err(error) => self.why = error.to_string(),
        }
        self.lost == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(20);

    /// Writes when it is let to, and fails where it is told to.
    #[derive(Debug)]
    struct Gated {
        /// The outcome of the next line.
        outcomes: mpsc::Receiver<io::Result<()>>,
        written: Arc<Mutex<Vec<String>>>,
    }

    impl Sink for Gated {
        fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
            self.outcomes.recv().unwrap_or(Ok(()))?;
            let line = String::from_utf8_lossy(line).trim_end().to_owned();
            self.written.lock().push(line);
            Ok(())
        }

        fn follow(&mut self) {}
    }

    struct Logs {
        queue: Arc<LogQueue>,
        outcomes: mpsc::Sender<io::Result<()>>,
        written: Arc<Mutex<Vec<String>>>,
    }

    fn logs() -> Logs {
        let (outcomes, receiver) = mpsc::channel();
        let (queue, written) = (Arc::<LogQueue>::default(), Arc::<Mutex<_>>::default());
        let sink = Gated {
            outcomes: receiver,
            written: written.clone(),
        };
        std::thread::spawn({
            let queue = queue.clone();
            move || queue.write_to(sink, || ())
        });
        Logs {
            queue,
            outcomes,
            written,
        }
    }

    fn full() -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_in_their_place() {
        let logs = logs();
        for outcome in [Ok(()), full(), full(), full(), Ok(()), Ok(())] {
            logs.outcomes.send(outcome).unwrap();
        }
        drop(logs.outcomes);
        // The second is lost by itself, the third and fourth since that cannot be told.
        for text in ["1\n", "2\n", "3\n", "4\n", "5\n"] {
            logs.queue.push(text.as_bytes());
        }
        logs.queue.flush(WITHIN);
        let written = logs.written.lock();
        let [first, note, last] = &written[..] else {
            panic!("{written:?}");
        };
        assert_eq!((first.as_str(), last.as_str()), ("1", "5"));
        assert!(note.contains(" WARN 3 lines are missing here: no storage space"));
    }

    #[test]
    fn whoever_logs_waits_for_no_writer_and_the_queue_has_a_bound() {
        let logs = logs();
        let text = format!("{}\n", "x".repeat(1023));
        for _ in 0..10_000 {
            logs.queue.push(text.as_bytes());
        }
        assert!(logs.queue.state.lock().bytes <= QUEUE_LIMIT_BYTES);
        let began = Instant::now();
        logs.queue.flush(Duration::from_millis(10));
        assert!(began.elapsed() < WITHIN, "nothing waits for ever");
        drop(logs.outcomes);
        logs.queue.push(b"after\n");
        logs.queue.flush(WITHIN);
        let written = logs.written.lock();
        let whole = written.iter().filter(|line| line.starts_with('x')).count();
        let after = written.iter().filter(|line| *line == "after").count();
        // Told where they are missing: once, or again where the queue was full again.
        let missing = written.iter().filter_map(|line| {
            let (before, _) = line.split_once(" lines are missing")?;
            before.rsplit(' ').next()?.parse::<usize>().ok()
        });
        assert_eq!(missing.sum::<usize>(), 10_001 - whole - after);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut() {
        let logs = logs();
        drop(logs.outcomes);
        logs.queue.push(&vec![b'x'; QUEUE_LIMIT_BYTES * 2]);
        logs.queue.flush(WITHIN);
        let written = logs.written.lock();
        assert_eq!(written[0].len(), LINE_LIMIT_BYTES + CUT.len() - 1);
        assert!(written[0].ends_with("x ..."));
    }
}
