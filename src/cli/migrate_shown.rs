//! How a job is shown: lines of names, a table at the end, progress, the question before.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use super::shown;
use crate::migrate::{Done, Line, Operator, PlanCounts, Summary, Symbol, Tally};
use crate::telemetry;

/// Between two lines of progress, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Of those that are equal.
const BY_SIZE_AND_TIME: &str = "  by size, time";

/// Prints a name that is not equal on both sides, or whose object or file is gone or mended.
pub fn line(line: &Line) {
    let is_moved = matches!(
        line.done,
        None | Some(Done::Sent | Done::Fetched | Done::Copied)
    );
    let is_quiet = line.symbol == Symbol::Equal && is_moved;
    if is_quiet {
        return;
    }
    let path = shown::plain(&line.path);
    let done = line.done.map(|done| format!(" ({})", done.word()));
    let why = line
        .why
        .as_deref()
        .map(|why| format!(": {}", shown::plain(why)));
    let text = format!(
        "{} {path}{}{}\n",
        line.symbol.text(),
        done.unwrap_or_default(),
        why.unwrap_or_default()
    );
    // Whoever reads it may have gone: the report goes on.
    drop(io::stdout().write_all(text.as_bytes()));
}

fn tally(tally: Tally) -> String {
    format!("{:>10}  {:>12}", tally.names, shown::size(tally.bytes))
}

/// Prints the table.
pub fn summary(summary: &Summary) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let counts = &summary.counts;
    let (here, there) = match summary.source {
        Some(_) => ("only in OLD", "only in NEW"),
        None => ("only in the directory", "only in the bucket"),
    };
    let words = ["equal", here, there, "different", "errors"];
    for (symbol, words) in Symbol::ALL.into_iter().zip(words) {
        let symbol_text = symbol.text();
        writeln!(out, "{symbol_text} {words:22}{}", tally(counts.of(symbol)))?;
    }
    let fast = counts.by_size_and_time;
    if fast.names > 0 {
        let words = "equal by size and time";
        writeln!(out, "  {words:22}{}, which proves nothing", tally(fast))?;
    }
    let done = [
        ("sent", counts.sent),
        ("fetched", counts.fetched),
        ("copied", counts.copied),
        ("deleted", counts.deleted),
        ("Content-Types mended", counts.mended),
    ];
    for (words, done) in done.into_iter().filter(|(_, done)| done.names > 0) {
        writeln!(out, "  {words:22}{}", tally(done))?;
    }
    for (odd, count) in &counts.odd {
        writeln!(out, "  {count} {}", odd.words())?;
    }
    let requests = summary.requests.iter();
    let requests: Vec<_> = requests.map(|(op, sent)| format!("{op} {sent}")).collect();
    writeln!(
        out,
        "in {} s; requests: {}",
        summary.seconds,
        requests.join(", ")
    )?;
    writeln!(out, "digest of the report: {}", summary.digest)
}

/// Who sits at the terminal, or reads a log.
pub struct Console {
    /// Whether the answer is given beforehand.
    pub yes: bool,
    state: Mutex<Progress>,
    bar: OnceLock<ProgressBar>,
}

#[derive(Default)]
struct Progress {
    names: u64,
    bytes: u64,
    all_names: u64,
    all_bytes: u64,
    told: Option<Instant>,
}

impl Console {
    pub fn new(yes: bool) -> Self {
        Self {
            yes,
            state: Mutex::default(),
            bar: OnceLock::new(),
        }
    }
}

impl Operator for Console {
    fn tell(&self, text: &str) {
        match self.bar.get() {
            Some(bar) => bar.suspend(|| telemetry::tell_user(&format!("mediafs: {text}"))),
            None => telemetry::tell_user(&format!("mediafs: {text}")),
        }
    }

    fn approves(&self, plan: &PlanCounts) -> bool {
        let rows = [
            ("new", plan.new),
            ("changed", plan.changed),
            ("equal", plan.equal),
            (BY_SIZE_AND_TIME, plan.by_size_and_time),
            ("refused", plan.refused),
            ("not compared", plan.failed),
            ("to delete", plan.to_delete),
        ];
        let is_told = |(words, row): &(&str, Tally)| *words != BY_SIZE_AND_TIME || row.names > 0;
        for (words, row) in rows.into_iter().filter(is_told) {
            eprintln!("{words:16}{}", tally(row));
        }
        if plan.hard_links > 0 {
            eprintln!(
                "  {} names of files that have more than one: each is an object of its own",
                plan.hard_links
            );
        }
        if self.yes {
            return true;
        }
        if !io::stdin().is_terminal() {
            self.tell("no terminal to ask on: --yes does it without asking");
            return false;
        }
        eprint!("Go on? [y/N] ");
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    }

    fn begins(&self, names: u64, bytes: u64) {
        let mut state = self.state.lock();
        (state.all_names, state.all_bytes) = (names, bytes);
        state.told = Some(Instant::now());
        if !io::stderr().is_terminal() {
            return;
        }
        let bar = ProgressBar::new(bytes);
        let style = "{bar:20} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        // The first call is the only one.
        drop(self.bar.set(bar));
    }

    fn moved(&self, names: u64, bytes: u64) {
        let mut state = self.state.lock();
        state.names += names;
        state.bytes += bytes;
        let files = format!("{}/{} files", state.names, state.all_names);
        if let Some(bar) = self.bar.get() {
            bar.set_position(state.bytes.min(state.all_bytes));
            bar.set_message(files);
            return;
        }
        let now = Instant::now();
        if state.told.is_some_and(|told| now - told >= LINE_EVERY) {
            state.told = Some(now);
            let bytes = (shown::size(state.bytes), shown::size(state.all_bytes));
            telemetry::tell_user(&format!("mediafs: {files}, {} of {}", bytes.0, bytes.1));
        }
    }

    fn ends(&self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
