//! Whether a service that is told to stop is about to be started again.
//!
//! systemd sends the same SIGTERM for `systemctl stop`, for `systemctl restart`
//! and at shutdown. What it is about is the type of the unit's job: `restart`
//! while the old process stops, `start` where a start was asked for meanwhile,
//! `stop` else, also at shutdown.

use std::io::Read;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::systemctl;

/// Holds the unit's name. Set by the unit itself: systemd has no variable for it.
const UNIT_VARIABLE: &str = "_MEDIAFS_UNIT";
/// systemd answers in milliseconds, on a busy machine in seconds. Without an answer the
/// mount is taken away as ever, and what is open in it is lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What to do with the mount when the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopKind {
    Unmount,
    /// The successor resumes it.
    HandOver,
}

/// The unit of systemd that this process is the service of.
pub fn unit() -> Option<String> {
    std::env::var(UNIT_VARIABLE).ok()
}

/// Asks systemd what the stop is about. Blocks until it has answered or the time is over.
pub fn stop_kind() -> StopKind {
    let Some(unit) = unit() else {
        return StopKind::Unmount;
    };
    match jobs() {
        Some(jobs) => kind_of_job(&jobs, &unit),
        None => {
            tracing::warn!(
                unit,
                "systemd did not answer why the unit stops: unmounting"
            );
            StopKind::Unmount
        }
    }
}

/// Every job of systemd, a line each. Not those of one unit: systemctl takes its
/// name for a pattern, in which the `\x20` of an escaped name means something else.
fn jobs() -> Option<String> {
    let list = [
        "list-jobs",
        "--no-legend",
        "--no-pager",
        "--plain",
        "--full",
    ];
    let mut child = systemctl::command(&list)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut pipe = child.stdout.take()?;
    let (tell, told) = mpsc::sync_channel(1);
    let reading = thread::Builder::new().name("systemctl".to_owned());
    let reading = reading.spawn(move || {
        let mut text = String::new();
        let read = pipe.read_to_string(&mut text);
        // Nobody listens any more when the time is over.
        drop(tell.send(read.map(|_| text)));
    });
    let answer = reading
        .ok()
        .and_then(|_| told.recv_timeout(ANSWER_WITHIN).ok());
    if answer.is_none()
        && let Err(error) = child.kill()
    {
        tracing::debug!(%error, "systemctl is not to be stopped");
    }
    let status = child.wait().ok()?;
    answer?.ok().filter(|_| status.success())
}

/// Source: systemctl(1), `list-jobs`: number, unit, type, state.
fn kind_of_job(jobs: &str, unit: &str) -> StopKind {
    let types = jobs.lines().filter_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        (columns.next() == Some(unit)).then(|| columns.next())
    });
    match types.flatten().next() {
        Some("restart" | "start") => StopKind::HandOver,
        _ => StopKind::Unmount,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "mediafs@media.service";

    /// What systemd 252 says, each while the unit has its SIGTERM.
    #[test]
    fn a_restart_hands_over_and_a_stop_unmounts() {
        let restart = "145 mediafs@media.service restart running\n";
        assert_eq!(kind_of_job(restart, UNIT), StopKind::HandOver);
        let started_meanwhile = "367 mediafs@media.service start waiting\n";
        assert_eq!(kind_of_job(started_meanwhile, UNIT), StopKind::HandOver);
        let stop = "189 mediafs@media.service stop running\n";
        assert_eq!(kind_of_job(stop, UNIT), StopKind::Unmount);
        let killed_by_hand = "";
        assert_eq!(kind_of_job(killed_by_hand, UNIT), StopKind::Unmount);
    }

    #[test]
    fn a_shutdown_unmounts_whatever_else_is_started_or_restarted() {
        let shutdown = "559 sockets.target                    stop  waiting\n\
                        547 final.target                      start waiting\n\
                        588 mediafs@a\\x20b.service           restart running\n\
                        610 mediafs@media.service             stop  running\n\
                        545 poweroff.target                   start waiting\n";
        assert_eq!(kind_of_job(shutdown, UNIT), StopKind::Unmount);
        assert_eq!(
            kind_of_job(shutdown, "mediafs@a\\x20b.service"),
            StopKind::HandOver
        );
    }

    #[test]
    fn what_is_no_list_of_jobs_unmounts() {
        for text in [
            "No jobs running.\n",
            "1\n",
            "1 mediafs@media.service\n",
            "\u{fffd}",
        ] {
            assert_eq!(kind_of_job(text, UNIT), StopKind::Unmount, "{text}");
        }
    }
}
