//! A process of its own that opens and writes files, step by step.
//!
//! For tests of what is in S3 *before* a close, of forks, and of two processes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::programs::{python, wait_until};

/// Runs each line that it reads, and answers with `ok` or the errno.
const LOOP: &str = r#"
import os, sys
for line in sys.stdin:
    try:
        exec(line)
        print("ok", flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"#;

#[derive(Debug)]
pub struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Works in this folder.
    pub fn at(folder: &Path) -> Self {
        let mut child = Command::new(python())
            .args(["-c", LOOP])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            orders,
            answers,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs one line of Python; the errno of what failed.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> Result<(), i32> {
        self.begin(line);
        self.answer(line)
    }

    /// Has it run one line, and does not wait for the answer.
    #[track_caller]
    pub fn begin(&mut self, line: &str) {
        writeln!(self.orders, "{line}").unwrap();
    }

    /// Waits for the answer to a line that was begun.
    #[track_caller]
    pub fn answer(&mut self, line: &str) -> Result<(), i32> {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        match answer.trim() {
            "ok" => Ok(()),
            errno => Err(errno
                .parse()
                .unwrap_or_else(|_| panic!("{line}: {errno:?}"))),
        }
    }

    /// Sends a signal, and waits until the process is gone.
    #[track_caller]
    pub fn end_by(&mut self, signal: Signal, within: Duration) {
        self.signal(signal);
        wait_until(within, "the end of a process that a signal ended", || {
            self.child.try_wait().unwrap().is_some()
        });
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Opens a new file as `fd` and writes to it.
    #[track_caller]
    pub fn write_new(&mut self, name: &str, text: &str) {
        self.run(&format!("fd = os.open({name:?}, os.O_WRONLY | os.O_CREAT)"))
            .unwrap();
        self.run(&format!("os.write(fd, b{text:?})")).unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
