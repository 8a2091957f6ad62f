//! What is read at the address of `--metrics`.

use std::process::Command;
use std::time::Duration;

use super::plan::MountBuilder;
use super::programs::{run_within, wait_until};
use super::servers::free_ports;

const WITHIN: Duration = Duration::from_secs(60);

/// The address that a mount has its metrics at.
#[derive(Debug, Clone)]
pub struct MetricsAt(pub String);

/// What an address answers.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: String,
    pub body: String,
}

impl MetricsAt {
    /// Gives a mount that is to be started an address.
    pub fn free(plan: MountBuilder) -> (MountBuilder, Self) {
        let [port] = free_ports();
        let address = format!("127.0.0.1:{port}");
        (plan.args(["--metrics", &address]), Self(address))
    }

    /// Returns once somebody listens.
    #[track_caller]
    pub fn wait(&self) {
        wait_until(WITHIN, "an answer at the address", || {
            self.asked("/healthz", &[]).code > 0
        });
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        let answer = self.asked(path, &[]);
        assert_eq!(answer.code, 200, "{path}: {answer:?}");
        answer.body
    }

    /// What comes, with these arguments of curl; the code is 0 where nobody answers.
    pub fn asked(&self, path: &str, args: &[&str]) -> Answer {
        let mut command = Command::new("curl");
        command.args(["-sS", "-i", "--max-time", "30"]).args(args);
        command.arg(format!("http://{}{path}", self.0));
        let output = run_within(WITHIN, &mut command);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (headers, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        let code = headers.split(' ').nth(1).and_then(|code| code.parse().ok());
        Answer {
            code: code.unwrap_or(0),
            headers: headers.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    /// The value of a series, as it is written: `name` or `name{label="value"}`.
    #[track_caller]
    pub fn value(&self, series: &str) -> f64 {
        value(&self.get("/metrics"), series)
    }
}

/// The value of a series in a text of metrics; 0 where it is not there.
pub fn value(text: &str, series: &str) -> f64 {
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.map_or(0.0, |value| value.parse().unwrap())
}
