//! Asks systemd, by its own client.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail};

/// To be run; it reads no input.
pub(super) fn command(args: &[&str]) -> Command {
    let mut command = Command::new("systemctl");
    command.args(args).stdin(Stdio::null());
    command
}

/// Errors: systemctl cannot be run.
fn output(args: &[&str]) -> anyhow::Result<Output> {
    let output = command(args).output();
    output.context("cannot run systemctl")
}

/// Whether it ends with 0. Errors: as `output`.
pub fn is_true(args: &[&str]) -> anyhow::Result<bool> {
    Ok(output(args)?.status.success())
}

/// Has it done. Errors: it is not, in the words of systemctl.
pub fn run(args: &[&str]) -> anyhow::Result<()> {
    let output = output(args)?;
    if output.status.success() {
        return Ok(());
    }
    bail!("'systemctl {}': {}", args.join(" "), one_line(&output));
}

/// A property of a unit, as it is shown. Errors: as `output`.
pub fn property(unit: &str, name: &str) -> anyhow::Result<String> {
    let property = format!("--property={name}");
    let output = output(&["show", "--timestamp=unix", "--value", &property, "--", unit])?;
    let shown = String::from_utf8_lossy(&output.stdout);
    Ok(shown.trim().to_owned())
}

/// What a program one_line, in a line.
pub fn one_line(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    let lines = streams.iter().flat_map(|text| text.lines());
    let lines: Vec<&str> = lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ")
}
