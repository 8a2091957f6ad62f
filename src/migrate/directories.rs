//! Owner, mode and time of directories, as `--attributes=stored` keeps them with markers.
//!
//! A directory gets its owner and mode before anything is in it, so that what is private
//! is so at every moment; and all of it once more at the end, what is in it first.

use futures::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};

use super::entry::{Object, Stat};
use super::export_run::ExportRun;
use super::failures::NotMoved;
use super::fetch::Fetcher;
use super::local_file::blocking;
use super::spill::Spill;
use super::target_tree::Ownership;

/// Markers that are asked about at once.
const ASKED_AT_ONCE: usize = 16;
/// Of a mode, what a directory is given: no bit that hands on a group.
const GRANTED_BITS: u32 = 0o1777;

/// A directory that has a marker.
#[derive(Debug, Serialize, Deserialize)]
pub struct Marked {
    pub marker: Object,
    /// As it is, where that is as its marker says.
    pub equal: Option<Stat>,
}

/// What a directory is to have.
type Owned = (Object, Ownership);

/// Makes the directories that differ, each private from its beginning.
pub async fn own(
    run: &mut ExportRun<'_>,
    directories: Spill<Marked>,
) -> anyhow::Result<Spill<Owned>> {
    let mut owned = Spill::new(run.scratch, "directories")?;
    let fetcher = run.fetcher;
    let asked = stream::iter(directories.read()?).map(|marked| async move {
        let marked = marked?;
        let is_equal = marked.equal.is_some();
        let ownership = ownership(fetcher, &marked).await;
        std::io::Result::Ok((marked.marker, is_equal, ownership))
    });
    let mut asked = std::pin::pin!(asked.buffered(ASKED_AT_ONCE));
    while let Some(next) = asked.next().await {
        let (marker, is_equal, ownership) = next?;
        let ownership = match ownership {
            Ok(ownership) => ownership,
            Err(failed) => {
                let line = failed.line(&marker.path);
                run.failures.add(&line);
                run.report.line(&line)?;
                continue;
            }
        };
        if !is_equal {
            let (tree, path) = (fetcher.tree.clone(), marker.path.clone());
            let made = blocking(move || tree.make_private(&path, &ownership)).await;
            // It is told where the directory is made.
            if let Err(error) = made {
                tracing::debug!(path = marker.path, %error, "not made yet");
            }
        }
        owned.push(&(marker, ownership))?;
    }
    Ok(owned)
}

async fn ownership(fetcher: &Fetcher, marked: &Marked) -> Result<Ownership, NotMoved> {
    if let Some(stat) = &marked.equal {
        return Ok(Ownership {
            uid: stat.uid,
            gid: stat.gid,
            mode: stat.mode & GRANTED_BITS,
            modified: stat.modified(),
        });
    }
    let path = &marked.marker.path;
    let described = fetcher.judge.attributes_of(path).await;
    let (_, described) = described.map_err(NotMoved::now)?;
    let defaults = &fetcher.attributes;
    let mode = described.mode.unwrap_or(defaults.dir_mode);
    Ok(Ownership {
        uid: described.uid.unwrap_or(defaults.uid),
        gid: described.gid.unwrap_or(defaults.gid),
        mode: u32::from(mode) & GRANTED_BITS,
        modified: described.mtime,
    })
}

/// Gives every directory what it is to have, those in it first.
pub async fn give(run: &mut ExportRun<'_>, owned: Spill<Owned>) -> anyhow::Result<()> {
    let mut above: Vec<Owned> = Vec::new();
    for next in owned.read()? {
        let next = next?;
        let is_over = |it: &mut Owned| !next.0.path.starts_with(it.0.path.as_str());
        while let Some(owned) = above.pop_if(is_over) {
            give_one(run, owned).await?;
        }
        above.push(next);
    }
    while let Some(owned) = above.pop() {
        give_one(run, owned).await?;
    }
    Ok(())
}

async fn give_one(run: &mut ExportRun<'_>, (marker, ownership): Owned) -> anyhow::Result<()> {
    let (tree, path) = (run.fetcher.tree.clone(), marker.path.clone());
    match blocking(move || tree.give_directory(&path, &ownership)).await {
        Ok(Some(stat)) => {
            let judge = &run.fetcher.judge;
            if let Some(checkpoint) = &judge.checkpoint {
                checkpoint.note_equal(&marker.path, judge.equal(&stat, &marker));
            }
        }
        // It could not be made, which is told.
        Ok(None) => {}
        Err(error) => {
            let line = NotMoved::from(error).line(&marker.path);
            run.failures.add(&line);
            run.report.line(&line)?;
        }
    }
    Ok(())
}
