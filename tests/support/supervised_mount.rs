//! A mount in the background, whose supervisor starts the daemon again when it dies.

use std::io;
use std::ops::Deref;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::mount::{Mount, is_mounted};
use super::plan::MountBuilder;
use super::processes::{daemons_of, stop};
use super::programs::{happens_within, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// Dropped, it is ended with its supervisor.
#[derive(Debug)]
pub struct SupervisedMount(Mount);

impl Deref for SupervisedMount {
    type Target = Mount;

    fn deref(&self) -> &Mount {
        &self.0
    }
}

impl SupervisedMount {
    #[track_caller]
    pub fn start(plan: MountBuilder) -> Self {
        let log = plan.log.clone();
        let plan = plan.arg("--log-file").arg(log);
        let output = plan.run();
        assert!(output.status.success(), "{output:?}");
        Self(plan.adopt())
    }

    /// Mounts again in the background what was unmounted.
    #[track_caller]
    pub fn again(mount: Mount) -> Self {
        let output = mount.run_again();
        assert!(output.status.success(), "{output:?}");
        Self(mount)
    }

    /// Processes of this mount that are a subcommand: `mount` is the daemon.
    pub fn processes(&self, subcommand: &str) -> Vec<Pid> {
        let mut all = daemons_of(&self.root);
        all.retain(|pid| {
            let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            let line = line.unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(subcommand.as_bytes())
        });
        all
    }

    #[track_caller]
    pub fn daemon(&self) -> Pid {
        let mut found = Vec::new();
        wait_until(WITHIN, "a daemon", || {
            found = self.processes("mount");
            !found.is_empty()
        });
        found[0]
    }

    #[track_caller]
    pub fn supervisor(&self) -> Pid {
        self.processes("supervise")[0]
    }

    /// Kills the daemon without warning; returns once another one serves.
    #[track_caller]
    pub fn kill_daemon(&self) {
        let killed = self.daemon();
        kill_process(killed, Signal::KILL).unwrap();
        self.wait_for_successor(killed);
    }

    #[track_caller]
    pub fn wait_for_successor(&self, of: Pid) {
        wait_until(WITHIN, "another daemon", || {
            self.processes("mount").iter().any(|pid| *pid != of)
        });
    }

    /// Has another client act between the death of the daemon, which a call brings about,
    /// and the start of its successor; what the call comes to.
    #[track_caller]
    pub fn change_amid_death(
        &self,
        call: impl FnOnce() -> io::Result<()> + Send,
        meanwhile: impl FnOnce(),
    ) -> io::Result<()> {
        let (supervisor, daemon) = (self.supervisor(), self.daemon());
        stop(supervisor);
        std::thread::scope(|scope| {
            let call = scope.spawn(call);
            wait_until(WITHIN, "the death of the daemon", || {
                !self.processes("mount").contains(&daemon)
            });
            meanwhile();
            kill_process(supervisor, Signal::CONT).unwrap();
            call.join().unwrap()
        })
    }

    /// Ends the mount with SIGTERM, and waits until nothing of it is left.
    #[track_caller]
    pub fn unmount(&self) {
        kill_process(self.daemon(), Signal::TERM).unwrap();
        let ended = happens_within(WITHIN, || {
            daemons_of(&self.root).is_empty() && !is_mounted(&self.root)
        });
        assert!(ended, "it has not ended\n{}", self.why_it_waits());
    }
}
