//! A help page: as much of Markdown as the files beside this one use.

use std::mem::take;

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// A run of text in one style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span {
    Plain(String),
    Strong(String),
    /// What is typed or printed as it stands there.
    Code(String),
    /// The end of a line in the source, which the text keeps.
    Break,
}

pub type Spans = Vec<Span>;

/// One block of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    Title(Spans),
    Heading(Spans),
    Paragraph(Spans),
    List(Vec<Spans>),
    /// The first row is the head.
    Table(Vec<Vec<Spans>>),
    Code(String),
}

/// Reads a page. What it has no block for is left out.
pub fn blocks(markdown: &str) -> Vec<Block> {
    let mut reading = Reading::default();
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        reading.take(event);
    }
    reading.blocks
}

#[derive(Debug, Default)]
struct Reading {
    blocks: Vec<Block>,
    spans: Spans,
    is_strong: bool,
    items: Vec<Spans>,
    in_list: bool,
    row: Vec<Spans>,
    rows: Vec<Vec<Spans>>,
    code: Option<String>,
}

impl Reading {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Text(text) => self.text(text.into_string()),
            Event::Code(code) => self.spans.push(Span::Code(code.into_string())),
            Event::SoftBreak | Event::HardBreak => self.spans.push(Span::Break),
            Event::Start(Tag::Strong) => self.is_strong = true,
            Event::Start(Tag::List(_)) => self.in_list = true,
            Event::Start(Tag::CodeBlock(_)) => self.code = Some(String::new()),
            Event::End(end) => self.end(end),
            _ => {}
        }
    }

    fn text(&mut self, text: String) {
        match &mut self.code {
            Some(code) => code.push_str(&text),
            None if self.is_strong => self.spans.push(Span::Strong(text)),
            None => self.spans.push(Span::Plain(text)),
        }
    }

    fn end(&mut self, end: TagEnd) {
        let block = match end {
            TagEnd::Strong => {
                self.is_strong = false;
                return;
            }
            TagEnd::Item => return self.items.push(take(&mut self.spans)),
            TagEnd::TableCell => return self.row.push(take(&mut self.spans)),
            TagEnd::TableHead | TagEnd::TableRow => return self.rows.push(take(&mut self.row)),
            // An item of a list may be one.
            TagEnd::Paragraph if self.in_list => return,
            TagEnd::Heading(HeadingLevel::H1) => Block::Title(take(&mut self.spans)),
            TagEnd::Heading(_) => Block::Heading(take(&mut self.spans)),
            TagEnd::Paragraph => Block::Paragraph(take(&mut self.spans)),
            TagEnd::List(_) => {
                self.in_list = false;
                Block::List(take(&mut self.items))
            }
            TagEnd::Table => Block::Table(take(&mut self.rows)),
            TagEnd::CodeBlock => Block::Code(self.code.take().unwrap_or_default()),
            _ => return,
        };
        self.blocks.push(block);
    }
}
