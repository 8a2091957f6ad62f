//! Man pages: of the commands from what clap knows of them, of the topics from
//! the text of `mediafs help`.
//!
//! Source: man-pages(7), groff_man(7).

use std::fs;
use std::io;
use std::path::Path;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::page::{Block, Span, blocks};
use super::text::{plain, table};
use super::topic::{TOPICS, Topic};
use crate::cli::{Cli, fstab};

const PROGRAM: &str = "mediafs";
const COMMANDS: &str = "1";
const TOPIC_PAGES: &str = "7";
const SYSTEM_COMMANDS: &str = "8";
/// A build is the same whenever it is made. An empty argument would be left out.
const NO_DATE: &str = " ";
/// What a command's `after_help` begins with where it has examples.
const EXAMPLES: &str = "Examples:\n";

/// Write the man pages into a directory; scripts/install runs it
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct ManCommand {
    dir: std::path::PathBuf,
}

impl ManCommand {
    pub fn run(self) -> anyhow::Result<()> {
        let mut cli = Cli::command().mut_subcommands(of_all_options);
        cli.build();
        write_commands(&self.dir, &cli)?;
        for topic in TOPICS {
            let name = format!("{PROGRAM}-{}.{TOPIC_PAGES}", topic.name);
            fs::write(self.dir.join(name), topic_page(topic).render())?;
        }
        let helper = format!("{}.{SYSTEM_COMMANDS}", fstab::PROGRAM);
        let same = format!(".so man{COMMANDS}/{PROGRAM}-mount.{COMMANDS}\n");
        Ok(fs::write(self.dir.join(helper), same)?)
    }
}

/// As `--help` shows it, not `-h`; without clap's own `help`.
fn of_all_options(command: Command) -> Command {
    let command = command.disable_help_subcommand(true);
    command.mut_args(|arg| arg.hide_short_help(false))
}

/// The page of a command, and those of its subcommands.
fn write_commands(dir: &Path, command: &Command) -> io::Result<()> {
    let man = Man::new(command.clone())
        .section(COMMANDS)
        .date(NO_DATE)
        .source(format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION")))
        .manual(PROGRAM);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    ragged(&mut Roff::new()).to_writer(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if subcommands(command).next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    let more = command.get_after_help().map(ToString::to_string);
    let mut end = Roff::new();
    if let Some(examples) = more.as_deref().and_then(|it| it.strip_prefix(EXAMPLES)) {
        end.control("SH", ["EXAMPLES"]);
        as_it_stands(&mut end, examples);
    }
    end.control("SH", ["SEE ALSO"]);
    let topics = TOPICS.map(|topic| format!("{PROGRAM}-{}({TOPIC_PAGES})", topic.name));
    end.text([roman(topics.join(", "))]);
    end.to_writer(&mut page)?;
    fs::write(dir.join(man.get_filename()), page)?;
    for sub in subcommands(command) {
        write_commands(dir, sub)?;
    }
    Ok(())
}

fn subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|it| !it.is_hide_set())
}

/// Words are not broken, nor lines stretched. Source: groff_man(7), "Options".
fn ragged(page: &mut Roff) -> &mut Roff {
    page.control("nr", ["HY", "0"]).control("nh", []);
    page.control("ad", ["l"])
}

fn topic_page(topic: Topic) -> Roff {
    let name = format!("{PROGRAM}-{}", topic.name);
    let source = format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION"));
    let mut page = Roff::new();
    let title = name.to_uppercase();
    page.control("TH", [&*title, TOPIC_PAGES, NO_DATE, &*source, PROGRAM]);
    ragged(&mut page);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - {}", topic.summary()))]);
    let body = blocks(topic.markdown);
    let body = body.get(1..).unwrap_or_default();
    if !matches!(body.first(), Some(Block::Heading(_))) {
        page.control("SH", ["DESCRIPTION"]);
    }
    for block in body {
        add(&mut page, block);
    }
    page
}

fn add(page: &mut Roff, block: &Block) {
    match block {
        Block::Title(text) | Block::Heading(text) => {
            page.control("SH", [plain(text).to_uppercase().as_str()]);
        }
        Block::Paragraph(text) => {
            page.control("PP", []);
            page.text(inline(text));
        }
        Block::List(items) => {
            for item in items {
                page.control("IP", ["\\(bu", "2"]);
                page.text(inline(item));
            }
        }
        Block::Table(rows) => as_it_stands(page, &table(rows)),
        Block::Code(code) => as_it_stands(page, code),
    }
}

/// Lines that are not filled, further left than paragraphs: as wide as a terminal.
fn as_it_stands(page: &mut Roff, text: &str) {
    page.control("PP", []);
    page.control("in", ["2n"]);
    page.control("EX", []);
    for line in text.lines() {
        page.text([roman(line)]);
    }
    page.control("EE", []);
    page.control("in", []);
}

/// What starts a line of its own keeps one.
fn inline(spans: &[Span]) -> Vec<Inline> {
    let mut out = Vec::new();
    let mut after_strong = false;
    for span in spans {
        match span {
            Span::Break if after_strong => out.push(Inline::LineBreak),
            Span::Break => out.push(roman(" ")),
            Span::Plain(text) => out.push(roman(text)),
            Span::Strong(text) | Span::Code(text) => out.push(bold(text)),
        }
        after_strong = matches!(span, Span::Strong(_));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_becomes_a_page_of_section_7() {
        let topic = Topic {
            name: "spool",
            markdown: "# spool: where bytes wait\n\nSee `mediafs spool list`,\nor wait.\n\n## More\n\n**It is full.**\nMake room.\n\n- one\n\n```console\n.dot\n```\n",
        };
        let page = topic_page(topic).to_roff();
        let lines: Vec<&str> = page.lines().collect();
        let head = lines.iter().position(|line| line.starts_with(".TH"));
        let version = env!("CARGO_PKG_VERSION");
        let wanted = [
            &*format!(".TH MEDIAFS-SPOOL 7 \" \" \"mediafs {version}\" mediafs"),
            ".nr HY 0",
            ".nh",
            ".ad l",
            ".SH NAME",
            "mediafs\\-spool \\- where bytes wait",
            ".SH DESCRIPTION",
            ".PP",
            "See \\fBmediafs spool list\\fR, or wait.",
            ".SH MORE",
            ".PP",
            "\\fBIt is full.\\fR",
            ".br",
            "Make room.",
            ".IP \\(bu 2",
            "one",
            ".PP",
            ".in 2n",
            ".EX",
            "\\&.dot",
            ".EE",
            ".in",
        ];
        assert_eq!(lines[head.unwrap()..], wanted);
    }
}
