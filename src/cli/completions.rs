//! `mediafs completions`.

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use super::shown::print;

/// Print completions for a shell; scripts/install installs those of bash, zsh and fish
#[derive(Debug, Args)]
pub struct CompletionsCommand {
    shell: Shell,
}

impl CompletionsCommand {
    /// What nobody types is not completed.
    pub fn run(self, cli: Command) -> anyhow::Result<()> {
        let shown = cli
            .get_subcommands()
            .filter(|it| !it.is_hide_set())
            .cloned();
        let shown: Vec<Command> = shown.collect();
        let mut command = Command::new("mediafs")
            .version(env!("CARGO_PKG_VERSION"))
            .disable_help_subcommand(true)
            .subcommands(shown);
        let mut text = Vec::new();
        generate(self.shell, &mut command, "mediafs", &mut text);
        Ok(print(&String::from_utf8(text)?)?)
    }
}
