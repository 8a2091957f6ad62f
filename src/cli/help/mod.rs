//! `mediafs help`: what a command takes, or a page about a topic.
//!
//! A topic is one Markdown file beside this one. It is shown as text here, and
//! installed as a man page.

mod man;
mod page;
mod pager;
mod text;
mod topic;

use clap::{Args, Command};

use crate::config::nearest;
pub use man::ManCommand;
pub use topic::list as topics;
use topic::{TOPICS, Topic};

/// Show a command's options, or a page about a topic
///
/// Without arguments it lists commands and topics. 'spool' is both: this shows
/// the page, 'mediafs spool --help' the options.
#[derive(Debug, Args)]
pub struct HelpCommand {
    /// A topic, or a command with its subcommands
    #[arg(value_name = "TOPIC|COMMAND")]
    words: Vec<String>,
}

/// There is no such page.
#[derive(Debug, thiserror::Error)]
#[error("no command or topic {asked:?}: {hint}'mediafs help' lists both")]
pub struct NoSuchPage {
    asked: String,
    hint: String,
}

impl HelpCommand {
    /// Errors: `NoSuchPage`; the terminal's.
    pub fn run(self, cli: Command) -> anyhow::Result<()> {
        let text = match self.words.as_slice() {
            [name] if Topic::named(name).is_some() => {
                let topic = Topic::named(name);
                topic.map_or_else(String::new, |topic| text::render(topic.markdown))
            }
            words => help_of(cli, words)?,
        };
        Ok(pager::show(&text)?)
    }
}

/// What clap says of a command.
fn help_of(mut cli: Command, words: &[String]) -> Result<String, NoSuchPage> {
    // Names and usage of subcommands are complete after this.
    cli.build();
    let mut command = &mut cli;
    for word in words {
        let known: Vec<String> = names(command).collect();
        command = match command.find_subcommand_mut(word) {
            Some(found) => found,
            None => return Err(no_such_page(words, word, &known)),
        };
    }
    // As `--help` decides for our commands.
    let text = match command.get_long_about() {
        Some(_) => command.render_long_help(),
        None => command.render_help(),
    };
    Ok(text.to_string())
}

fn names(command: &Command) -> impl Iterator<Item = String> {
    let shown = command.get_subcommands().filter(|it| !it.is_hide_set());
    shown.map(|it| it.get_name().to_owned())
}

fn no_such_page(words: &[String], unknown: &str, commands: &[String]) -> NoSuchPage {
    let topics = TOPICS.iter().map(|topic| topic.name);
    let known = commands.iter().map(String::as_str).chain(topics);
    let nearest = nearest(unknown, known);
    NoSuchPage {
        asked: words.join(" "),
        hint: nearest.map_or_else(String::new, |name| format!("did you mean {name:?}? ")),
    }
}
