//! The logs of this process, from their start to their end.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use parking_lot::Mutex;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::file::{LogFileArgs, LogFileSettings};
use super::form::{Form, LogFormat};
use super::lines::Lines;
use super::queue::LogQueue;
use super::target::{LogIs, Place, Target, open_stderr};
use super::{journal, panics};

/// How long the end of a process waits for a log that takes nothing.
const FLUSHED_WITHIN: Duration = Duration::from_secs(1);

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// A word this similar to a level is taken for a slip (Jaro-Winkler, 0 to 1).
const ALIKE_FROM: f64 = 0.85;

/// Of this process, as the subscriber of `tracing` is.
static OWN: OnceLock<Own> = OnceLock::new();

#[derive(Debug)]
struct Own {
    queue: Arc<LogQueue>,
    lines: Lines,
    output: LogOutput,
    /// Until the thread that writes has it.
    target: Mutex<Option<Target>>,
}

/// Where the log of a process goes, and how it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOutput {
    /// Standard error where absent, or the journal.
    pub file: Option<LogFileSettings>,
    pub format: LogFormat,
}

/// The same as arguments of a subcommand.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    #[command(flatten)]
    file: LogFileArgs,
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

impl LogArgs {
    pub fn output(self) -> LogOutput {
        LogOutput {
            file: self.file.settings(),
            format: self.log_format,
        }
    }
}

impl LogOutput {
    /// As `LogArgs` reads them.
    pub fn to_args(&self) -> Vec<OsString> {
        let file = self.file.as_ref().map(LogFileSettings::to_args);
        let mut args = file.unwrap_or_default();
        if let Some(format) = self.format.to_possible_value() {
            args.extend(["--log-format".into(), format.get_name().into()]);
        }
        args
    }

    fn form(&self) -> Form {
        match self.format {
            LogFormat::Json => Form::Json,
            LogFormat::Journald => Form::Journal,
            LogFormat::Auto if self.file.is_none() && journal::has_stderr() => Form::Journal,
            _ if self.file.is_none() && is_coloured() => Form::Colour,
            LogFormat::Auto | LogFormat::Text => Form::Text,
        }
    }
}

fn is_coloured() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

/// Gets spans beside the log, by a filter of its own.
pub type SpanLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// The logs of this process.
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    /// As it was given.
    current: Mutex<String>,
    queue: Arc<LogQueue>,
}

impl Logs {
    /// Logs by another filter from now on. Errors: an invalid filter.
    pub fn set_filter(&self, filter: &str) -> anyhow::Result<()> {
        let parsed = parse(filter)?;
        let mut current = self.current.lock();
        self.filter.reload(parsed).context("the logs have ended")?;
        filter.clone_into(&mut current);
        Ok(())
    }

    /// What is logged now.
    pub fn filter(&self) -> String {
        self.current.lock().clone()
    }

    /// The file may have been moved away.
    pub fn reopen(&self) {
        self.queue.follow();
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logs")
    }
}

/// Starts logging. Lines wait until `write_logs` or `flush_logs`.
///
/// Errors: a filter that is none, a log that is required and cannot be opened.
pub fn start_logs(filter: &str, output: LogOutput, log_is: LogIs) -> anyhow::Result<Logs> {
    start_logs_with_spans(filter, output, log_is, None)
}

/// The same where somebody else wants spans, whatever is logged.
pub fn start_logs_with_spans(
    filter: &str,
    output: LogOutput,
    log_is: LogIs,
    spans: Option<SpanLayer>,
) -> anyhow::Result<Logs> {
    let form = output.form();
    let place = match (form, &output.file) {
        (Form::Journal, _) => Place::Journal,
        (_, Some(file)) => Place::File(file.clone()),
        (_, None) => Place::Stderr,
    };
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let target = Target::open(place, log_is)?;
    let queue = Arc::new(LogQueue::new(form));
    let lines = Lines::new(queue.clone(), form);
    let registry = tracing_subscriber::registry();
    match spans {
        // What the filter leaves out is not even made.
        None => registry.with(layer).with(lines.clone()).init(),
        Some(spans) => {
            let logged = lines.clone().with_filter(layer).boxed();
            registry.with(vec![logged, spans]).init();
        }
    }
    panics::log_to(queue.clone());
    OWN.get_or_init(|| Own {
        queue: queue.clone(),
        lines,
        output: LogOutput {
            format: form.asked_for(),
            ..output
        },
        target: Mutex::new(Some(target)),
    });
    Ok(Logs {
        filter: handle,
        current: Mutex::new(filter.to_owned()),
        queue,
    })
}

/// Starts the thread that writes the log. It has the privileges of the thread that
/// calls: a process that gives some up does that first.
pub fn write_logs() {
    let Some(own) = OWN.get() else { return };
    let Some(target) = own.target.lock().take() else {
        return;
    };
    let queue = own.queue.clone();
    let writer = std::thread::Builder::new().name("log".to_owned());
    let write = move || queue.write_to(target, || own.lines.sum_up_old());
    if let Err(error) = writer.spawn(write) {
        tell_user(&format!("no thread for the log: {error}"));
    }
}

/// Returns once all is written that was logged, or after a while. To be called before
/// the process ends.
pub fn flush_logs() {
    write_logs();
    if let Some(own) = OWN.get() {
        own.lines.sum_up();
        own.queue.flush(FLUSHED_WITHIN);
    }
}

/// The log of this process; that of another process of the mount goes to the same place.
pub fn log_output() -> LogOutput {
    OWN.get().map(|own| own.output.clone()).unwrap_or_default()
}

/// Tells the user something on standard error, in lines. Nobody may read it, and its
/// disk may be full: neither holds the process up for long.
pub fn tell_user(text: &str) {
    flush_logs();
    let bytes = format!("{}\n", text.trim_end()).into_bytes();
    let (done, told) = std::sync::mpsc::sync_channel(1);
    let telling = std::thread::Builder::new().spawn(move || {
        let outcome = open_stderr().and_then(|mut stderr| stderr.write_all(&bytes));
        // Whoever waits may have given up.
        drop(done.send(outcome));
    });
    if telling.is_ok() {
        drop(told.recv_timeout(FLUSHED_WITHIN));
    }
}

/// Errors: why it is not a filter.
pub fn check_filter(filter: &str) -> anyhow::Result<()> {
    parse(filter).map(drop)
}

/// The level that a word is most likely meant to be, which `EnvFilter` takes for a module.
fn similar_level(word: &str) -> Option<&'static str> {
    let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let has_module = word.contains("::") || word.contains('[');
    if is_level || has_module || word.is_empty() || word.parse::<u8>().is_ok() {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let alike = |level: &&str| strsim::jaro_winkler(&word, level) >= ALIKE_FROM;
    LEVELS.iter().copied().find(alike)
}

/// What the filter does not name is logged from `info` on: who asks for the requests of
/// one module wants to see errors too. Of the SDK's credentials chain only warnings, unless
/// the filter names it: at each reading it tells at length where it found what. What the
/// signer says below `info` is never written (`lines`), and mostly not even made.
fn parse(filter: &str) -> anyhow::Result<EnvFilter> {
    let bare = filter
        .split(',')
        .map(str::trim)
        .filter(|it| !it.contains('='));
    let mut slips = bare.filter_map(|word| Some((word, similar_level(word)?)));
    if let Some((word, level)) = slips.next() {
        bail!("{word:?} is neither a level nor a module: did you mean {level:?}?");
    }
    let all = format!("info,aws_config=warn,{filter},aws_sigv4=info");
    // The text of the error has that of its source.
    EnvFilter::try_new(all).map_err(|error| anyhow!("{filter:?} is not a filter: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_level_that_is_misspelt_is_told_with_the_right_one() {
        for (filter, level) in [
            ("inf", "info"),
            ("mediafs=debug,wran", "warn"),
            ("DEBUGG", "debug"),
        ] {
            let told = check_filter(filter).unwrap_err().to_string();
            assert!(told.contains(&format!("{level:?}")), "{filter}: {told}");
        }
        for filter in [
            "info",
            "WARN",
            "off",
            "hyper",
            "mediafs::requests",
            "mediafs=trace",
            "3",
            "",
        ] {
            assert!(check_filter(filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn a_filter_that_names_a_module_hides_no_error_and_a_level_holds_for_all_others() {
        let of_others = |filter: &str| {
            let all = parse(filter).unwrap().to_string();
            let bare: Vec<&str> = all.split(',').filter(|it| !it.contains('=')).collect();
            bare.join(" ")
        };
        assert_eq!(of_others("mediafs::requests=debug"), "info");
        assert_eq!(of_others("warn"), "warn");
        assert_eq!(of_others("error,mediafs::requests=debug"), "error");
        assert_eq!(of_others("off"), "off");
    }

    #[test]
    fn arguments_say_the_same_to_another_process() {
        #[derive(Debug, Parser)]
        struct Parsed {
            #[command(flatten)]
            log: LogArgs,
        }
        let file = LogFileSettings {
            path: "/a b".into(),
            limit_bytes: 7,
            count: 3,
            is_private: true,
        };
        for file in [None, Some(file)] {
            for format in LogFormat::value_variants() {
                let output = LogOutput {
                    file: file.clone(),
                    format: *format,
                };
                let words = std::iter::once("x".into()).chain(output.to_args());
                assert_eq!(Parsed::parse_from(words).log.output(), output);
            }
        }
    }
}
