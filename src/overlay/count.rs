//! How much of the old directory is to be sent.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::core::{Core, of_old};
use super::marks::hash_of;
use super::old_directory::OldDirectory;
use super::watch::Watch;
use crate::store::{Key, StoreError, StoreOp};

/// Tells how much there is to do, and what is no file; watches what it meets.
///
/// Errors: the disk's.
pub async fn count(core: &Arc<Core>, watch: &Watch) -> Result<(), StoreError> {
    let (counting, watched) = (core.clone(), watch.clone());
    let counted = core.on_disk(move |old| {
        let mut count = Count::default();
        // What cannot be read is told of by the walk.
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) =
            count_below(&counting, old, "", &watched, &mut count);
        Ok(count)
    });
    let root = Key::new(core.parts.prefix.as_str());
    let counted = counted
        .await
        .map_err(|error| of_old(StoreOp::List, &root, &error))?;
    let Count { files, bytes, odd } = counted;
    core.progress.begin_walk(files, bytes, odd);
    Ok(())
}

#[derive(Debug, Default)]
struct Count {
    files: u64,
    bytes: u64,
    odd: Vec<String>,
}

fn count_below(
    core: &Core,
    old: &OldDirectory,
    directory: &str,
    watch: &Watch,
    count: &mut Count,
) -> ControlFlow<()> {
    watch.add(old, directory);
    let Ok(Some(names)) = old.names(directory) else {
        return ControlFlow::Break(());
    };
    let odd = names.odd.iter().map(|name| format!("{directory}{name}"));
    count.odd.extend(odd);
    for name in &names.names {
        let path = format!("{directory}{name}");
        if name.ends_with('/') {
            let (ControlFlow::Continue(()) | ControlFlow::Break(())) =
                count_below(core, old, &path, watch, count);
            continue;
        }
        let hash = hash_of(&path);
        if core.marks.with(|marks| marks.counts(hash))
            && let Ok(Some(stat)) = old.stat(&path)
        {
            count.files += 1;
            count.bytes += stat.size_bytes;
        }
    }
    ControlFlow::Continue(())
}
