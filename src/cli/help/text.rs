//! A help page as plain text.

use super::page::{Block, Span, Spans, blocks};

/// Before each line of code, and of a table.
const INDENT: &str = "  ";
/// Between the columns of a table.
const GAP: usize = 2;

/// Lines end where those of the source end.
pub fn render(markdown: &str) -> String {
    let mut out = String::new();
    for block in blocks(markdown) {
        if !out.is_empty() {
            out.push('\n');
        }
        match block {
            Block::Title(title) => out += &format!("{}\n", plain(&title)),
            Block::Heading(heading) => out += &format!("{}\n", plain(&heading).to_uppercase()),
            Block::Paragraph(text) => out += &format!("{}\n", quoted(&text)),
            Block::List(items) => {
                for item in items {
                    out += &format!("- {}\n", quoted(&item).replace('\n', "\n  "));
                }
            }
            Block::Table(rows) => out += &indented(&table(&rows)),
            Block::Code(code) => out += &indented(&code),
        }
    }
    out
}

/// The words alone.
pub fn plain(spans: &[Span]) -> String {
    let words = spans.iter().map(|span| match span {
        Span::Plain(text) | Span::Strong(text) | Span::Code(text) => text.as_str(),
        Span::Break => "\n",
    });
    words.collect()
}

/// A command in the middle of a sentence stands in quotes.
fn quoted(spans: &[Span]) -> String {
    let words = spans.iter().map(|span| match span {
        Span::Code(text) if text.contains(' ') => format!("'{text}'"),
        Span::Plain(text) | Span::Strong(text) | Span::Code(text) => text.clone(),
        Span::Break => "\n".to_owned(),
    });
    words.collect()
}

/// Columns side by side, with a line below the head.
pub fn table(rows: &[Vec<Spans>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| plain(cell)).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths);
        let padded: Vec<String> = padded
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", padded.join(&" ".repeat(GAP)).trim_end())
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut lines: Vec<String> = rows.iter().map(|row| line(row)).collect();
    if !lines.is_empty() {
        lines.insert(1, line(&rule));
    }
    lines.concat()
}

fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| format!("{INDENT}{line}\n"));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_readable_without_its_marks() {
        let page = "# spool: where bytes wait\n\n## In `it`\n\nSee `mediafs spool list`,\n**or** `--spool`.\n\n- one\n  more\n- two\n\n| a | b |\n|---|---|\n| `--long` | c |\n|  | d |\n\n```console run\n$ ls\n```\n";
        let text = "spool: where bytes wait\n\nIN IT\n\nSee 'mediafs spool list',\nor --spool.\n\n- one\n  more\n- two\n\n  a       b\n  ------  -\n  --long  c\n          d\n\n  $ ls\n";
        assert_eq!(render(page), text);
    }
}
