//! Text for people: sizes, times, colour.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use crate::doctor::State;
use crate::session::control::answers::{Amount, HealthState};
use crate::setup::StepState;

/// `println!` with its error.
macro_rules! outln {
    ($($line:tt)*) => {
        $crate::cli::shown::print_line(format_args!($($line)*))
    };
}
pub(crate) use outln;

/// A line on standard output. That its reader has gone, as head(1) does, is no error.
pub fn print_line(line: fmt::Arguments<'_>) -> io::Result<()> {
    print(&format!("{line}\n"))
}

/// The same without a line's end.
pub fn print(text: &str) -> io::Result<()> {
    unless_gone(io::stdout().write_all(text.as_bytes()))
}

pub fn unless_gone(printed: io::Result<()>) -> io::Result<()> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Names and errors may hold anything; a terminal gets none of what steers it.
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The same for words of several lines.
pub fn plain_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(plain).collect();
    lines.join("\n")
}

pub fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}

/// What waits to be sent of a file, for how long, and why.
pub fn pending(bytes: u64, age_seconds: Option<u64>, error: Option<&str>) -> String {
    let age = age_seconds.map(span);
    let parts = [Some(size(bytes)), age, error.map(str::to_owned)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(" ")
}

pub fn files(amount: Amount) -> String {
    let files = counted(amount.files, "file");
    format!("{files} ({})", size(amount.bytes))
}

pub fn counted(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// In its two largest units.
pub fn span(seconds: u64) -> String {
    let whole = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    let parts: Vec<&str> = whole.split(' ').take(2).collect();
    parts.join(" ")
}

pub fn time(unix_seconds: u64) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_secs(unix_seconds);
    humantime::format_rfc3339_seconds(at).to_string()
}

/// A word in colour; `anstream` leaves the colour out where none is wanted.
pub fn state(state: HealthState) -> String {
    let color = match state {
        HealthState::Alive => AnsiColor::Green,
        HealthState::Degraded | HealthState::Unknown => AnsiColor::Yellow,
        HealthState::Stuck => AnsiColor::Red,
    };
    styled(state.as_str(), color.on_default())
}

/// How a check came out, in four letters.
pub fn checked(state: State) -> String {
    let (word, color) = match state {
        State::Ok => ("ok  ", AnsiColor::Green),
        State::Warn => ("warn", AnsiColor::Yellow),
        State::Fail => ("fail", AnsiColor::Red),
    };
    styled(word, color.on_default())
}

/// How a step of a setup stands, in four letters.
pub fn step(state: StepState) -> String {
    let (word, color) = match state {
        StepState::Ok => ("ok  ", AnsiColor::Green),
        StepState::Done => ("done", AnsiColor::Green),
        StepState::Todo => ("todo", AnsiColor::Cyan),
        StepState::Skipped => ("skip", AnsiColor::Yellow),
        StepState::Conflict => ("stop", AnsiColor::Red),
        StepState::Failed => ("fail", AnsiColor::Red),
    };
    styled(word, color.on_default())
}

pub fn warning(text: &str) -> String {
    styled(text, AnsiColor::Yellow.on_default())
}

fn styled(text: &str, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

/// Of the first column of what is told of one mount.
const LABEL_WIDTH: usize = 12;
pub fn line(text: &mut String, label: &str, value: &str) {
    text.push_str(&format!("  {label:LABEL_WIDTH$}{}\n", plain(value)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_written_out() {
        assert_eq!(plain("a\u{1b}[2Jb\nü"), "a\\u{1b}[2Jb\\nü");
        assert_eq!(span(3 * 3600 + 61), "3h 1m");
        assert_eq!(span(5), "5s");
    }

    #[test]
    fn what_is_not_known_of_a_file_leaves_no_blank() {
        assert_eq!(pending(5, None, Some("no")), "5 B no");
        assert_eq!(pending(5, Some(61), None), "5 B 1m 1s");
        assert_eq!(pending(5, None, None), "5 B");
    }

    #[test]
    fn words_of_several_lines_keep_them() {
        assert_eq!(plain_lines("a\n  b\u{7}"), "a\n  b\\u{7}");
    }
}
