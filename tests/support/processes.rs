//! What the kernel tells of the daemon's processes.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use super::programs::wait_until;

const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// When each process of a number was started: the number is another one's later.
type Started = BTreeMap<i32, u64>;

/// Of each mountpoint the processes that had not ended at the last look.
static SEEN: LazyLock<Mutex<HashMap<PathBuf, Started>>> = LazyLock::new(Mutex::default);

/// Processes that were started with this mountpoint as an argument.
///
/// One that was seen before is one of them until it has ended: its arguments are gone a
/// while before its descriptors and its locks are.
pub fn daemons_of(root: &Path) -> Vec<Pid> {
    let now = running_of(root).into_iter();
    let now = now.filter_map(|number| Some((number, started_at(number)?)));
    let mut all = SEEN.lock();
    let seen = all.entry(root.to_owned()).or_default();
    seen.extend(now);
    seen.retain(|number, started| started_at(*number) == Some(*started));
    seen.keys().copied().filter_map(Pid::from_raw).collect()
}

/// Whether nothing of a process is left but its exit status.
pub fn has_ended(pid: Pid) -> bool {
    started_at(pid.as_raw_nonzero().get()).is_none()
}

/// When a process was started, unless it has ended. Source: proc_pid_stat(5).
fn started_at(number: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let (state, threads, started) = (fields[0], fields[17], fields[19]);
    // Of the first thread, which the others may outlive.
    let has_ended = matches!(state, "Z" | "X") && matches!(threads, "0" | "1");
    (!has_ended).then(|| started.parse().unwrap())
}

/// Those that still have it.
fn running_of(root: &Path) -> Vec<i32> {
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
pub fn has_written_its_log(pid: Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
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
