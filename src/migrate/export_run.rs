//! What an export does, in its order: directories that are private, files, what is removed
//! for others to have its place, what waited for that, deletes, attributes of directories.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use futures::stream::{self, StreamExt};

use super::action::Action;
use super::entry::Stat;
use super::failures::{Failures, NotMoved};
use super::fetch::Fetcher;
use super::local_file::blocking;
use super::obstacles::{Obstacles, Ordered};
use super::report::{Again, Done, Line, Report, Symbol};
use super::spill::Spill;

/// Objects that are on their way at once.
const OBJECTS_AT_ONCE: usize = 16;

/// Brings what a plan has.
pub struct ExportRun<'a> {
    pub fetcher: &'a Fetcher,
    pub scratch: &'a Path,
    pub report: &'a mut Report,
    pub failures: Failures,
    /// Their objects are not to be brought.
    pub beside: BTreeSet<String>,
    /// Some of what is listed cannot be told: then nothing is removed.
    pub has_unseen: bool,
}

/// What is removed once files are brought.
struct Later {
    deletes: Spill<(String, Stat)>,
    unfinished: Vec<String>,
}

impl ExportRun<'_> {
    /// Brings everything. Returns what is to be deleted. Errors: the disk's.
    pub async fn all(
        &mut self,
        actions: Spill<Action>,
        obstacles: Obstacles,
    ) -> anyhow::Result<Spill<(String, Stat)>> {
        let Ordered {
            first,
            removals,
            blocked,
        } = obstacles.ordered(actions, self.scratch)?;
        let mut later = Later {
            deletes: Spill::new(self.scratch, "deletes")?,
            unfinished: Vec::new(),
        };
        self.bring(first, &mut later).await?;
        match self.why_not_remove(removals.len()) {
            None => {
                self.remove_first(removals).await?;
                self.bring(blocked, &mut later).await?;
            }
            Some((why, again)) => self.keep(removals, blocked, (why, again))?,
        }
        // Those of objects that were fetched have taken their places.
        for path in later.unfinished {
            self.remove_unfinished(path).await?;
        }
        Ok(later.deletes)
    }

    async fn bring(&mut self, actions: Spill<Action>, later: &mut Later) -> anyhow::Result<()> {
        let (fetcher, beside) = (self.fetcher, &self.beside);
        let lines = stream::iter(actions.read()?).map(|action| async move {
            let action = action?;
            let line = match &action {
                _ if beside.contains(action.path()) => None,
                Action::Fetch { object, replaces } => {
                    let line = fetcher.fetch(object, replaces.as_ref()).await;
                    fetcher.operator.moved(1, 0);
                    Some(line)
                }
                Action::MakeDirectory { path } => fetcher.make_directory(path).await,
                _ => None,
            };
            io::Result::Ok((action, line))
        });
        let mut lines = std::pin::pin!(lines.buffer_unordered(OBJECTS_AT_ONCE));
        while let Some(next) = lines.next().await {
            match next? {
                (Action::DeleteFile { path, stat }, _) => later.deletes.push(&(path, stat))?,
                (Action::RemoveUnfinished { path }, _) => later.unfinished.push(path),
                (_, Some(line)) => {
                    self.failures.add(&line);
                    self.report.line(&line)?;
                }
                (_, None) => {}
            }
        }
        Ok(())
    }

    fn why_not_remove(&self, removals: u64) -> Option<(&'static str, Again)> {
        if self.failures.any() {
            return Some(("something was not fetched", Again::Helps));
        }
        let why = "some listed keys cannot be read";
        (self.has_unseen && removals > 0).then_some((why, Again::Fails))
    }

    /// Removes what is in the way: a directory once all in it is.
    async fn remove_first(&mut self, removals: Spill<Action>) -> anyhow::Result<()> {
        let mut directories: Vec<String> = Vec::new();
        for removal in removals.read()? {
            let removal = removal?;
            let is_left = |above: &mut String| !removal.path().starts_with(above.as_str());
            while let Some(above) = directories.pop_if(is_left) {
                self.remove_directory(above).await?;
            }
            match removal {
                Action::RemoveDirectory { path } => directories.push(path),
                Action::DeleteFile { path, stat } => self.delete(path, stat).await?,
                Action::RemoveUnfinished { path } => self.remove_unfinished(path).await?,
                _ => {}
            }
        }
        while let Some(path) = directories.pop() {
            self.remove_directory(path).await?;
        }
        Ok(())
    }

    /// Names what stays, and what it is in the way of.
    fn keep(
        &mut self,
        removals: Spill<Action>,
        blocked: Spill<Action>,
        (why, again): (&str, Again),
    ) -> anyhow::Result<()> {
        for removal in removals.read()? {
            if let Action::DeleteFile { path, stat } = removal? {
                let line = Line::new(Symbol::OnlyHere, &path, stat.size_bytes);
                self.report
                    .line(&line.because(format!("not deleted, since {why}")))?;
            }
        }
        for action in blocked.read()? {
            let why = format!("not fetched: what is in its place is not deleted, since {why}");
            let line = NotMoved { why, again }.line(action?.path());
            self.failures.add(&line);
            self.report.line(&line)?;
        }
        Ok(())
    }

    async fn remove_directory(&mut self, path: String) -> anyhow::Result<()> {
        let (tree, own) = (self.fetcher.tree.clone(), path.clone());
        match blocking(move || tree.remove_directory(&own)).await {
            Err(error)
                if error.kind() == io::ErrorKind::DirectoryNotEmpty && self.is_beside(&path) =>
            {
                Ok(())
            }
            removed => self.was_removed(&path, None, removed),
        }
    }

    /// Whether a directory stays because the object of its name, or of one above, has no
    /// place beside it.
    fn is_beside(&self, directory: &str) -> bool {
        let mut ends = directory.match_indices('/');
        ends.any(|(end, _)| self.beside.contains(&directory[..end]))
    }

    async fn remove_unfinished(&mut self, path: String) -> anyhow::Result<()> {
        let (tree, own) = (self.fetcher.tree.clone(), path.clone());
        match blocking(move || tree.remove(&own, None)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => self.was_removed(&path, None, removed),
        }
    }

    async fn delete(&mut self, path: String, stat: Stat) -> anyhow::Result<()> {
        let (tree, own) = (self.fetcher.tree.clone(), path.clone());
        let removed = blocking(move || tree.remove(&own, Some(&stat))).await;
        self.was_removed(&path, Some(&stat), removed)
    }

    /// Only a file has a line of its own where all went well.
    fn was_removed(
        &mut self,
        path: &str,
        file: Option<&Stat>,
        removed: io::Result<()>,
    ) -> anyhow::Result<()> {
        let line = match (removed, file) {
            (Ok(()), None) => return Ok(()),
            (Ok(()), Some(stat)) => {
                Line::new(Symbol::OnlyHere, path, stat.size_bytes).done(Done::Deleted)
            }
            (Err(error), _) => {
                let NotMoved { why, again } = error.into();
                let why = format!("not deleted: {why}");
                NotMoved { why, again }.line(path)
            }
        };
        self.failures.add(&line);
        Ok(self.report.line(&line)?)
    }

    /// Removes files that the bucket does not have, unless something `keeps` them.
    pub async fn remove(
        &mut self,
        deletes: Spill<(String, Stat)>,
        keeps: Option<&str>,
    ) -> anyhow::Result<()> {
        for delete in deletes.read()? {
            let (path, stat) = delete?;
            match keeps {
                None => self.delete(path, stat).await?,
                Some(why) => {
                    let line = Line::new(Symbol::OnlyHere, &path, stat.size_bytes);
                    self.report
                        .line(&line.because(format!("not deleted, since {why}")))?;
                }
            }
        }
        Ok(())
    }
}
