//! What a plan makes of names that are in one place alone, or look so.

use std::io;

use super::action::Action;
use super::directories::Marked;
use super::entry::{Object, Odd, Stat};
use super::job::Source;
use super::judge::Verdict;
use super::merge::{Pair, is_directory};
use super::odd_policy::OddPolicy;
use super::plan::Planner;
use super::plan_counts::{Extra, Sides, Work};
use super::report::{Line, Symbol};
use super::walk::one_of;
use crate::config::DirMarkersConfig;

/// Names in the way that are told.
const FOREIGN_LIMIT: usize = 20;

impl Planner<'_> {
    /// Why what lies under a mount is not sent: the mount shows an object of a name above.
    pub(super) fn would_hide(&mut self, pair: &Pair) -> Option<String> {
        if self.settings.source != Source::Hidden {
            return None;
        }
        let path = pair.path();
        if let Pair::There(object) | Pair::Both(_, object) = pair
            && !object.is_marker()
        {
            self.shown.push(path);
            return None;
        }
        let above = self.shown.of(path)?;
        Some(format!(
            "the mount shows a file {above}, which a directory of this name would hide"
        ))
    }

    /// A symlink that is as it is stored.
    pub(super) fn link(&mut self, path: &str, object: &Object, verdict: Verdict) -> io::Result<()> {
        self.counts.source += 1;
        self.counts.target += 1;
        self.counts.equal.add(object.size_bytes);
        let Verdict::Equal(proof) = verdict else {
            return Ok(());
        };
        self.report
            .line(&Line::proved(path, object.size_bytes, proof))
    }

    pub(super) fn directory_here(&mut self, path: String, is_empty: bool) -> io::Result<()> {
        let has_marker = self.settings.markers != DirMarkersConfig::Never;
        // Whether a mount shows the directory already that one lies under is not known.
        let is_described =
            self.settings.stores_directories && self.settings.source == Source::Directory;
        match self.settings.work {
            Work::Import if has_marker && (is_empty || is_described) => self.mark(path, None),
            Work::Verify(_) if has_marker && is_empty => {
                let line = Line::new(Symbol::OnlyHere, &path, 0);
                self.report.line(&line.because("an empty directory"))
            }
            Work::Export if self.is_removed_early() => self.act(&Action::RemoveDirectory { path }),
            Work::Import | Work::Export | Work::Verify(_) => Ok(()),
        }
    }

    fn mark(&mut self, path: String, etag: Option<String>) -> io::Result<()> {
        self.counts.directories += 1;
        self.act(&Action::Mark { path, etag })
    }

    /// Names what was not compared, or cannot be had.
    pub(super) fn failed(&mut self, path: &str, bytes: u64, why: String) -> io::Result<()> {
        self.counts.failed.add(bytes);
        self.report.line(&Line::error(path, why))
    }

    /// One that has a marker: whether it is as that says, where it is to be.
    pub(super) fn directory_in_both(
        &mut self,
        marker: Object,
        verdict: Option<Verdict>,
        stat: Option<Stat>,
    ) -> io::Result<()> {
        match (verdict, self.settings.work) {
            (None, _) => Ok(()),
            (Some(Verdict::Failed(why)), _) => self.failed(&marker.path, 0, why),
            (Some(Verdict::Equal(_)), Work::Export) => self.directories.push(&Marked {
                marker,
                equal: stat,
            }),
            (Some(Verdict::Equal(_)), Work::Import | Work::Verify(_)) => Ok(()),
            (Some(_), Work::Export) => self.make_directory(marker),
            (Some(Verdict::Different(why)), _) if self.only_names() => {
                let line = Line::new(Symbol::Different, &marker.path, 0).because(why);
                self.report.line(&line)
            }
            (Some(_), Work::Import | Work::Verify(_)) => self.mark(marker.path, Some(marker.etag)),
        }
    }

    /// It gets what is stored with its marker.
    fn make_directory(&mut self, marker: Object) -> io::Result<()> {
        self.counts.directories += 1;
        let path = marker.path.clone();
        if self.settings.stores_directories {
            self.directories.push(&Marked {
                marker,
                equal: None,
            })?;
        }
        self.act(&Action::MakeDirectory { path })
    }

    /// Names a file that has other names, and is sent under each.
    pub(super) fn hard_link(&mut self, path: &str, names: u64) -> io::Result<()> {
        if names == 1 || self.settings.work == Work::Export {
            return Ok(());
        }
        self.counts.hard_links += 1;
        let why = format!("{}: each is an object of its own", one_of(names));
        self.report.line(&Line {
            odd: Some(Odd::HardLink),
            ..Line::new(Symbol::OnlyHere, path, 0).because(why)
        })
    }

    /// What an export has left.
    pub(super) fn unfinished(&mut self, path: String) -> io::Result<()> {
        match self.settings.work {
            Work::Export => self.act(&Action::RemoveUnfinished { path }),
            Work::Import | Work::Verify(_) => {
                let why = "an export has left it, and the next one removes it";
                self.told(Symbol::OnlyHere, &path, Odd::Unfinished, why)
            }
        }
    }

    /// The same with an object of its name, which is somebody's.
    pub(super) fn beside_unfinished(
        &mut self,
        path: String,
        stat: Stat,
        object: Object,
    ) -> io::Result<()> {
        if self.settings.work == Work::Export {
            self.counts.source += 1;
            self.counts.changed.add(object.size_bytes);
            let replaces = Some(stat);
            return self.act(&Action::Fetch { object, replaces });
        }
        self.unfinished(path)?;
        self.only_there(object)
    }

    pub(super) fn only_here(&mut self, path: String, stat: Stat) -> io::Result<()> {
        let size_bytes = stat.size_bytes;
        match (self.settings.work, self.settings.extra) {
            (Work::Import, _) => {
                self.counts.source += 1;
                self.counts.new.add(size_bytes);
                self.act(&Action::Send {
                    path,
                    size_bytes,
                    etag: None,
                })
            }
            (Work::Export, Extra::Delete) => {
                self.counts.target += 1;
                self.counts.to_delete.add(size_bytes);
                self.act(&Action::DeleteFile { path, stat })
            }
            (Work::Export, Extra::Keep) => {
                self.counts.target += 1;
                self.report
                    .line(&Line::new(Symbol::OnlyHere, &path, size_bytes))
            }
            (Work::Verify(_), _) => {
                self.counts.source += 1;
                self.report
                    .line(&Line::new(Symbol::OnlyHere, &path, size_bytes))
            }
        }
    }

    pub(super) fn only_there(&mut self, object: Object) -> io::Result<()> {
        if let Some(why) = object.why_no_file() {
            return self.no_file(&object.path, why);
        }
        let size_bytes = object.size_bytes;
        match (self.settings.work, self.settings.extra) {
            (Work::Verify(Sides::Directory), _) => Ok(()),
            (Work::Export, _) if object.is_marker() => self.make_directory(object),
            (Work::Export, _) => {
                self.counts.source += 1;
                self.counts.new.add(size_bytes);
                self.act(&Action::Fetch {
                    object,
                    replaces: None,
                })
            }
            (Work::Import, Extra::Delete) => {
                self.counts.target += 1;
                if let Some(skipped) = self.skipped.of(&object.path) {
                    let why = format!("kept, since {skipped} is skipped in the directory");
                    let line = Line::new(Symbol::OnlyThere, &object.path, size_bytes);
                    return self.report.line(&line.because(why));
                }
                self.counts.to_delete.add(size_bytes);
                self.act(&Action::DeleteObject(object))
            }
            (Work::Import, Extra::Keep) | (Work::Verify(Sides::Both), _) => {
                self.counts.target += 1;
                let line = Line::new(Symbol::OnlyThere, &object.path, size_bytes);
                self.report.line(&line)
            }
        }
    }

    pub(super) fn odd(&mut self, path: &str, odd: Odd, why: &str) -> io::Result<()> {
        let policy = self.settings.odd.of(odd);
        if is_directory(path) || matches!(odd, Odd::Unreadable | Odd::Symlink) {
            match policy {
                OddPolicy::Skip if !matches!(path, "" | ".") => self.skipped.push(path),
                OddPolicy::Skip | OddPolicy::Refuse => self.counts.unseen += 1,
            }
        }
        self.told(Symbol::OnlyHere, path, odd, why)
    }

    /// One that only the bucket has.
    pub(super) fn no_file(&mut self, path: &str, why: &str) -> io::Result<()> {
        self.told(Symbol::OnlyThere, path, Odd::BadName, why)
    }

    /// What a mount shows cannot be there.
    pub(super) fn has_no_place(&mut self, path: &str, why: String) -> io::Result<()> {
        self.note_foreign(path, &why);
        self.failed(path, 0, why)
    }

    fn note_foreign(&mut self, path: &str, why: &str) {
        if self.foreign.len() < FOREIGN_LIMIT {
            self.foreign.push(format!("{path}: {why}"));
        }
    }

    pub(super) fn told(&mut self, side: Symbol, path: &str, odd: Odd, why: &str) -> io::Result<()> {
        let is_in_directory = match odd {
            Odd::Symlink | Odd::Special | Odd::Unreadable | Odd::BadName => {
                side == Symbol::OnlyHere
            }
            // They are in the bucket; the next export removes what is unfinished.
            Odd::BesideDirectory | Odd::HardLink | Odd::Unfinished => false,
        };
        if is_in_directory && self.settings.odd.wants_all() {
            self.note_foreign(path, why);
        }
        if self.settings.odd.of(odd) == OddPolicy::Refuse {
            self.counts.refused.add(0);
        }
        let line = self.settings.odd.line(side, path, odd, why);
        self.report.line(&line)
    }
}
