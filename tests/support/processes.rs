//! What the kernel tells of the daemon's processes.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::programs::wait_until;

const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// Processes that were started with this mountpoint as an argument.
pub fn daemons_of(root: &Path) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|number| {
            let line = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            let program = words.next().unwrap_or_default();
            program.ends_with(b"mediafs")
                && words.any(|word| word == root.as_os_str().as_encoded_bytes())
        })
        .filter_map(Pid::from_raw)
        .collect()
}

/// Stops a process: returns when none of its threads runs any more. One that did could
/// do something else before.
#[track_caller]
pub fn stop(pid: Pid) {
    kill_process(pid, Signal::STOP).unwrap();
    let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
    let is_stopped = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat"));
        stat.map_or(true, |stat| stat.contains(") T "))
    };
    wait_until(STOPPED_WITHIN, "the stop of a process", || {
        std::fs::read_dir(&tasks).unwrap().all(is_stopped)
    });
}

/// Of the processes of one mount the one that serves, not its supervisor.
pub fn daemon_among(processes: &[Pid]) -> Option<Pid> {
    let mut found = processes.iter().copied();
    found.find(|pid| {
        let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
        let line = line.unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"mount")
    })
}

/// Whether the thread that writes the log of a process sleeps: every line that came
/// before is written then. Source: proc_pid_stat(5).
pub fn has_written_its_log(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let mut stats = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).ok()?;
            let (name, rest) = stat.split_once(") ")?;
            name.ends_with("(log").then(|| rest.starts_with(['S', 'T']))
        });
    stats.all(|sleeps| sleeps)
}

/// Name, state and kernel stack of each thread. Source: proc_pid_stack(5).
pub fn threads_of(pid: Pid) -> String {
    let folder = format!("/proc/{}/task", pid.as_raw_nonzero());
    let tasks = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let read = |task: &Path, file| std::fs::read_to_string(task.join(file)).unwrap_or_default();
    tasks
        .map(|task| {
            let stat = read(&task.path(), "stat");
            let (head, _) = stat.split_at(stat.len().min(40));
            format!("{head}\n{}", read(&task.path(), "stack"))
        })
        .collect()
}

/// Resident memory of a process. Source: proc_pid_status(5).
#[track_caller]
pub fn rss_kib_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}
