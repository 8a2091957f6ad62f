//! Long texts on a terminal.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{MemfdFlags, memfd_create};

const PAGER: &str = "less";
/// For less: print what fits one screen and end, keep it there. Source: less(1), "OPTIONS".
const LESS_OPTIONS: &str = "FRX";

/// Shows a text: with $PAGER or less on a terminal, else as it is.
///
/// Returns only where there is no pager: it takes the place of this process, so
/// that a Ctrl-C in it is for it alone.
pub fn show(text: &str) -> io::Result<()> {
    if io::stdout().is_terminal()
        && let Some(mut pager) = pager()
    {
        let mut held = File::from(memfd_create("mediafs-help", MemfdFlags::CLOEXEC)?);
        held.write_all(text.as_bytes())?;
        held.rewind()?;
        let error = pager.stdin(held).exec();
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
    }
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// None where $PAGER is empty.
fn pager() -> Option<Command> {
    let mut command = match env::var_os("PAGER") {
        Some(pager) if pager.is_empty() => return None,
        // It may have arguments: environ(7).
        Some(pager) => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(pager);
            shell
        }
        None => Command::new(PAGER),
    };
    if env::var_os("LESS").is_none() {
        command.env("LESS", LESS_OPTIONS);
    }
    Some(command)
}
