//! What a plan makes of names that are in one place alone, or look so.

use std::io;

use super::action::Action;
use super::entry::{Object, Stat};
use super::job::Source;
use super::judge::Verdict;
use super::merge::Pair;
use super::plan::Planner;
use super::plan_counts::{Extra, Sides, Work};
use super::report::{Line, Symbol};
use crate::config::DirMarkersConfig;

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
        let is_marked = is_empty && self.settings.markers != DirMarkersConfig::Never;
        match self.settings.work {
            Work::Import if is_marked => {
                self.counts.directories += 1;
                self.actions.push(&Action::Mark { path })
            }
            Work::Verify(_) if is_marked => {
                let line = Line::new(Symbol::OnlyHere, &path, 0);
                self.report.line(&line.because("an empty directory"))
            }
            Work::Import | Work::Export | Work::Verify(_) => Ok(()),
        }
    }

    pub(super) fn only_here(&mut self, path: String, stat: Stat) -> io::Result<()> {
        let size_bytes = stat.size_bytes;
        match (self.settings.work, self.settings.extra) {
            (Work::Import, _) => {
                self.counts.source += 1;
                self.counts.new.add(size_bytes);
                self.actions.push(&Action::Send {
                    path,
                    size_bytes,
                    etag: None,
                })
            }
            (Work::Export, Extra::Delete) => {
                self.counts.target += 1;
                self.counts.to_delete.add(size_bytes);
                self.actions.push(&Action::DeleteFile { path, stat })
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
            (Work::Export, _) if object.is_marker() => {
                self.counts.directories += 1;
                let path = object.path;
                self.actions.push(&Action::MakeDirectory { path })
            }
            (Work::Export, _) => {
                self.counts.source += 1;
                self.counts.new.add(size_bytes);
                self.actions.push(&Action::Fetch {
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
                self.deleted.push(&object.path);
                self.actions.push(&Action::DeleteObject(object))
            }
            (Work::Import, Extra::Keep) | (Work::Verify(Sides::Both), _) => {
                self.counts.target += 1;
                let line = Line::new(Symbol::OnlyThere, &object.path, size_bytes);
                self.report.line(&line)
            }
        }
    }
}
