//! What came of each name: lines of JSON, counts, and a digest of the lines.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::entry::Odd;
use super::proof::Proof;
use crate::vocabulary::hex;

/// How a name stands at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Symbol {
    #[serde(rename = "=")]
    Equal,
    /// Only in the directory.
    #[serde(rename = "+")]
    OnlyHere,
    /// Only in the bucket.
    #[serde(rename = "-")]
    OnlyThere,
    #[serde(rename = "*")]
    Different,
    #[serde(rename = "!")]
    Error,
}

impl Symbol {
    pub const ALL: [Self; 5] = [
        Self::Equal,
        Self::OnlyHere,
        Self::OnlyThere,
        Self::Different,
        Self::Error,
    ];

    pub fn text(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::OnlyHere => "+",
            Self::OnlyThere => "-",
            Self::Different => "*",
            Self::Error => "!",
        }
    }
}

/// What was done about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Done {
    Sent,
    Fetched,
    /// By the store itself.
    Copied,
    Deleted,
    /// Its Content-Type was set.
    Mended,
}

impl Done {
    pub fn word(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Fetched => "fetched",
            Self::Copied => "copied",
            Self::Deleted => "deleted",
            Self::Mended => "mended",
        }
    }
}

/// What the same command would make of a name that was not moved, if it ran again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Again {
    /// It may move it.
    #[default]
    Helps,
    /// It would fail in the same way.
    Fails,
    /// It would replace what somebody else has written meanwhile.
    Replaces,
}

/// One name.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub symbol: Symbol,
    pub path: String,
    pub size_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<Done>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub odd: Option<Odd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Of an error.
    #[serde(skip)]
    pub again: Again,
}

impl Line {
    pub fn new(symbol: Symbol, path: &str, size_bytes: u64) -> Self {
        Self {
            symbol,
            path: path.to_owned(),
            size_bytes,
            proof: None,
            done: None,
            odd: None,
            why: None,
            again: Again::default(),
        }
    }

    pub fn proved(path: &str, size_bytes: u64, proof: Proof) -> Self {
        Self {
            proof: Some(proof),
            ..Self::new(Symbol::Equal, path, size_bytes)
        }
    }

    pub fn error(path: &str, why: impl Into<String>) -> Self {
        Self::new(Symbol::Error, path, 0).because(why)
    }

    pub fn is_error(&self) -> bool {
        self.symbol == Symbol::Error
    }

    pub fn because(self, why: impl Into<String>) -> Self {
        Self {
            why: Some(why.into()),
            ..self
        }
    }

    pub fn done(self, done: Done) -> Self {
        Self {
            done: Some(done),
            ..self
        }
    }
}

/// A number of names, and the bytes of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub names: u64,
    pub bytes: u64,
}

impl Tally {
    pub fn add(&mut self, bytes: u64) {
        self.names += 1;
        self.bytes += bytes;
    }
}

/// Counts of a report.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    pub equal: Tally,
    /// Of those, the ones that only their size and time say it of.
    pub by_size_and_time: Tally,
    pub only_here: Tally,
    pub only_there: Tally,
    pub different: Tally,
    pub errors: Tally,
    pub sent: Tally,
    pub fetched: Tally,
    pub copied: Tally,
    pub deleted: Tally,
    pub mended: Tally,
    /// By what they are, those that a policy skips too.
    pub odd: BTreeMap<Odd, u64>,
}

impl Counts {
    pub fn of(&self, symbol: Symbol) -> Tally {
        match symbol {
            Symbol::Equal => self.equal,
            Symbol::OnlyHere => self.only_here,
            Symbol::OnlyThere => self.only_there,
            Symbol::Different => self.different,
            Symbol::Error => self.errors,
        }
    }

    fn add(&mut self, line: &Line) {
        let is_deleted = line.done == Some(Done::Deleted);
        let is_skipped = line.odd.is_some() && line.symbol != Symbol::Error;
        let of_symbol = match line.symbol {
            _ if is_deleted || is_skipped => None,
            Symbol::Equal => Some(&mut self.equal),
            Symbol::OnlyHere => Some(&mut self.only_here),
            Symbol::OnlyThere => Some(&mut self.only_there),
            Symbol::Different => Some(&mut self.different),
            Symbol::Error => Some(&mut self.errors),
        };
        of_symbol.into_iter().for_each(|it| it.add(line.size_bytes));
        if line.proof == Some(Proof::SizeAndTime) {
            self.by_size_and_time.add(line.size_bytes);
        }
        let of_done = line.done.map(|done| match done {
            Done::Sent => &mut self.sent,
            Done::Fetched => &mut self.fetched,
            Done::Copied => &mut self.copied,
            Done::Deleted => &mut self.deleted,
            Done::Mended => &mut self.mended,
        });
        of_done.into_iter().for_each(|it| it.add(line.size_bytes));
        if let Some(odd) = line.odd {
            *self.odd.entry(odd).or_default() += 1;
        }
    }
}

/// Takes lines as they come to be known.
pub struct Report {
    /// Lines of JSON.
    out: Option<Box<dyn Write + Send>>,
    /// Told to people.
    tell: Box<dyn Fn(&Line) + Send + Sync>,
    digest: Sha256,
    pub counts: Counts,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Report").field(&self.counts).finish()
    }
}

impl Report {
    pub fn new(out: Option<Box<dyn Write + Send>>, tell: Box<dyn Fn(&Line) + Send + Sync>) -> Self {
        Self {
            out,
            tell,
            digest: Sha256::new(),
            counts: Counts::default(),
        }
    }

    /// Errors: the disk's.
    pub fn line(&mut self, line: &Line) -> io::Result<()> {
        self.counts.add(line);
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.digest.update(&text);
        if let Some(out) = &mut self.out {
            out.write_all(&text)?;
        }
        (self.tell)(line);
        Ok(())
    }

    /// SHA-256 of all lines so far.
    pub fn digest(&self) -> String {
        hex(&self.digest.clone().finalize())
    }

    /// The last line. Errors: the disk's.
    pub fn end(&mut self, summary: &impl Serialize) -> io::Result<()> {
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        serde_json::to_writer(&mut *out, summary)?;
        out.write_all(b"\n")?;
        out.flush()
    }
}
