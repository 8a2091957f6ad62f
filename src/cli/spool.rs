//! `mediafs spool`: what a mount has not brought to S3, and what to do with it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail, ensure};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::shown::outln;
use crate::config::state_base;
use crate::session::mount_at;
use crate::write_path::{Entry, EntryState, SpoolView, discard_entry};

/// Longest name of a place that is read from a mount.
const PLACE_LIMIT_BYTES: usize = 4096;
/// Below the state directories of mounts: those of volumes of Kubernetes.
const VOLUMES: &str = "csi";

/// Show and handle files that are not in S3 yet, or could not be uploaded
///
/// A file is "writing" while a program has it open. It is "waiting" when it is
/// closed or synced: the mount uploads it. It is "kept" if it could not be
/// uploaded, or was open when mediafs ended: retry, export or discard it. See
/// 'mediafs help spool'.
#[derive(Debug, Args)]
pub struct SpoolCommand {
    #[command(subcommand)]
    action: Action,
    /// Spool to look at [default: those of every mount that has its spool in the default place]
    #[arg(long, value_name = "DIR", global = true)]
    spool: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all files, oldest first
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one file: key, state, why it is kept, where its bytes are
    Show {
        id: String,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write a kept file to its place in the mount, and forget it when it is there
    Retry {
        id: String,
        /// Replace a file that is there; if only some ranges of a file are kept,
        /// write these and leave the rest of it as it is
        #[arg(long)]
        force: bool,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Copy the bytes of one file out of the spool, and leave it there
    Export {
        id: String,
        /// A file that does not exist yet
        file: PathBuf,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Remove one file for good
    Discard {
        id: String,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
}

/// What became of one file, for programs.
#[derive(Debug, Serialize)]
struct Done<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    /// Where its bytes were written.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a Path>,
}

impl SpoolCommand {
    pub fn run(self) -> anyhow::Result<()> {
        let is_named = self.spool.is_some();
        let views = views(self.spool)?;
        match self.action {
            Action::List { json: true } => list_json(&views),
            Action::List { json: false } => list(&views, is_named),
            Action::Show { id, json } => show(&find(&views, &id)?.1, json),
            Action::Retry { id, force, json } => {
                let (view, entry) = find(&views, &id)?;
                tell(&entry, Some(&retry(view, &entry, force)?), json)
            }
            Action::Export { id, file, json } => {
                let (_, entry) = find(&views, &id)?;
                export(&entry, &file)?;
                tell(&entry, Some(&file), json)
            }
            Action::Discard { id, json } => {
                let (_, entry) = find(&views, &id)?;
                discard_entry(&entry)?;
                tell(&entry, None, json)
            }
        }
    }
}

/// Says that a file was written somewhere, or discarded.
fn tell(entry: &Entry, to: Option<&Path>, json: bool) -> anyhow::Result<()> {
    match to {
        _ if json => outln!("{}", serde_json::to_string_pretty(&Done { entry, to })?)?,
        Some(to) => outln!("{} written to {}", describe(entry), to.display())?,
        None => outln!("{} discarded", describe(entry))?,
    }
    Ok(())
}

fn views(spool: Option<PathBuf>) -> anyhow::Result<Vec<SpoolView>> {
    if let Some(dir) = spool {
        let dir = std::path::absolute(dir)?;
        let view = SpoolView::at(&dir);
        return Ok(vec![view.context(
            "name the directory that was given as --spool to 'mediafs mount'",
        )?]);
    }
    views_of_mounts(&state_base().map_err(anyhow::Error::msg)?)
}

fn views_of_mounts(base: &Path) -> anyhow::Result<Vec<SpoolView>> {
    let mut views = views_below(base)?;
    views.extend(views_below(&base.join(VOLUMES))?);
    Ok(views)
}

fn views_below(base: &Path) -> anyhow::Result<Vec<SpoolView>> {
    let states = match fs::read_dir(base) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        states => states.with_context(|| format!("cannot read {}", base.display()))?,
    };
    let mut views = Vec::new();
    for state in states {
        // A state directory may lack a spool: the mount has one elsewhere.
        if let Ok(view) = SpoolView::at(&state?.path().join("spool")) {
            views.push(view);
        }
    }
    Ok(views)
}

fn entries(views: &[SpoolView]) -> anyhow::Result<Vec<(&SpoolView, Entry)>> {
    let mut found = Vec::new();
    for view in views {
        let entries = view.entries()?;
        found.extend(entries.into_iter().map(|entry| (view, entry)));
    }
    Ok(found)
}

fn find<'a>(views: &'a [SpoolView], id: &str) -> anyhow::Result<(&'a SpoolView, Entry)> {
    let found = entries(views)?
        .into_iter()
        .find(|(_, entry)| entry.id == id);
    found.with_context(|| {
        format!("no file {id} in the spool: it is uploaded or discarded, or 'mediafs spool list' names others; a spool elsewhere is named with --spool DIR")
    })
}

fn list_json(views: &[SpoolView]) -> anyhow::Result<()> {
    let entries = entries(views)?.into_iter();
    let entries: Vec<Entry> = entries.map(|(_, entry)| entry).collect();
    Ok(outln!("{}", serde_json::to_string_pretty(&entries)?)?)
}

/// Spool by spool; those that hold nothing only where one was asked for.
fn list(views: &[SpoolView], is_named: bool) -> anyhow::Result<()> {
    let mut texts = Vec::new();
    for view in views {
        let (pending, entries) = (view.pending()?, view.entries()?);
        if pending.is_nothing() && entries.is_empty() && !is_named {
            continue;
        }
        let place = view.mount().map(|mount| mount.place.to_string());
        let place = place.as_deref().unwrap_or("a place that is not recorded");
        let spool = view.dir().display();
        let mut text = if pending.is_nothing() {
            format!("{spool}, of {place}: nothing waits for S3")
        } else {
            format!("{spool}, of {place}: waiting: {pending}")
        };
        if entries.is_empty() {
            text += ", nothing is kept";
        } else {
            text += &table(&entries);
        }
        texts.push(text);
    }
    if texts.is_empty() {
        return Ok(outln!("nothing waits for S3, nothing is kept")?);
    }
    Ok(outln!("{}", texts.join("\n\n"))?)
}

fn table(entries: &[Entry]) -> String {
    let mut text = format!(
        "\n{:16}  {:7}  {:>10}  {:20}  KEY",
        "ID", "STATE", "SIZE", "SINCE"
    );
    for entry in entries {
        let size = bytesize::ByteSize(entry.size_bytes).to_string();
        text += &format!(
            "\n{:16}  {:7}  {size:>10}  {:20}  {}",
            entry.id,
            state(entry.state),
            since(entry),
            key(entry),
        );
        if let Some(reason) = &entry.reason {
            text += &format!(" ({reason})");
        }
    }
    text
}

fn show(entry: &Entry, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(outln!("{}", serde_json::to_string_pretty(entry)?)?);
    }
    let mut text = format!(
        "id:     {}\nplace:  {}\nkey:    {}\nstate:  {}\nsize:   {} bytes\nsince:  {}\nfile:   {}",
        entry.id,
        place(entry),
        key(entry),
        state(entry.state),
        entry.size_bytes,
        since(entry),
        entry.path.display(),
    );
    if let Some(reason) = &entry.reason {
        text += &format!("\nreason: {reason}");
    }
    if let Some(written) = &entry.written {
        text += &format!("\nholds:  bytes {} of the file", ranges(written));
    }
    if let Some(missing) = &entry.missing {
        text += &format!("\ngone:   bytes {} of the file", ranges(missing));
    }
    Ok(outln!("{text}")?)
}

fn ranges(ranges: &[[u64; 2]]) -> String {
    let ranges = ranges.iter();
    let texts = ranges.map(|[from, to]| format!("{from}-{}", to.saturating_sub(1)));
    texts.collect::<Vec<_>>().join(", ")
}

fn export(entry: &Entry, file: &Path) -> anyhow::Result<()> {
    let outcome = entry.export(file);
    outcome.with_context(|| format!("cannot export to {}", file.display()))?;
    if !entry.whole {
        eprintln!(
            "mediafs: it is not all of the file: see 'mediafs spool show {}'",
            entry.id
        );
    }
    Ok(())
}

/// Writes a kept file through the mount, so that it gets there as any other does, and
/// says where.
fn retry(view: &SpoolView, entry: &Entry, force: bool) -> anyhow::Result<PathBuf> {
    let id = &entry.id;
    ensure!(
        entry.state == EntryState::Kept,
        "{} needs no retry: the mount uploads it by itself, as soon as it can",
        describe(entry)
    );
    let export = format!("'mediafs spool export {id} FILE'");
    if !entry.whole && !force {
        bail!(
            "{} may be only part of a file: look at it with {export}, then pass --force to write what there is",
            describe(entry)
        );
    }
    let key = entry.key.as_ref();
    let key = key.with_context(|| format!("its key is not known: get the bytes with {export}"))?;
    let mount = view.mount();
    let mount = mount.with_context(|| {
        format!("the spool records no mount: mount it once, or get the bytes with {export}")
    })?;
    let at = &mount.mountpoint;
    let mounted = mount_at(at)?.filter(|mounted| mounted.fs_type == "fuse.mediafs");
    ensure!(
        mounted.is_some(),
        "bucket {:?} is not mounted on {}: mount it first",
        mount.place.bucket,
        at.display()
    );
    check_place(entry, at, &export)?;
    let name = key
        .as_str()
        .strip_prefix(&mount.place.prefix)
        .map(Path::new);
    let inside = name.filter(|name| {
        name.components()
            .all(|part| matches!(part, Component::Normal(_)))
    });
    let path = at
        .join(inside.ok_or_else(|| anyhow!("key {key} is not in the mount on {}", at.display()))?);
    if let Err(error) = write_back(entry, &path, force) {
        let why = if error.kind() == io::ErrorKind::AlreadyExists {
            "it exists: compare the two, then pass --force to replace it".to_owned()
        } else {
            error.to_string()
        };
        bail!(
            "cannot write {}: {why}; the bytes stay in the spool",
            path.display()
        );
    }
    discard_entry(entry)?;
    Ok(path)
}

/// What is mounted there must show the place that the bytes are of.
fn check_place(entry: &Entry, at: &Path, export: &str) -> anyhow::Result<()> {
    let mut shown = [0; PLACE_LIMIT_BYTES];
    let len = rustix::fs::getxattr(at, "user.mediafs.place", &mut shown);
    let len = len.with_context(|| format!("{} does not say what it shows", at.display()))?;
    let shown = String::from_utf8_lossy(shown.get(..len).unwrap_or_default());
    let place = place(entry);
    ensure!(
        shown == place,
        "{} is of {place}, but {} shows {shown}: mount {place} with this spool, or get the bytes with {export}",
        describe(entry),
        at.display()
    );
    Ok(())
}

fn write_back(entry: &Entry, path: &Path, force: bool) -> io::Result<()> {
    let mut from = File::open(&entry.path)?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut options = OpenOptions::new();
    options.write(true);
    match (&entry.written, force) {
        (_, false) => options.create_new(true),
        // The rest of the file was never here: what is there stays.
        (Some(_), true) => options.create(true),
        (None, true) => options.create(true).truncate(true),
    };
    let mut into = options.open(path)?;
    let all = [[0, entry.size_bytes]];
    for &[start, end] in entry.written.as_deref().unwrap_or(&all) {
        from.seek(SeekFrom::Start(start))?;
        into.seek(SeekFrom::Start(start))?;
        io::copy(&mut (&mut from).take(end.saturating_sub(start)), &mut into)?;
    }
    // Its return says that the bytes are as safe as the mount makes them.
    into.sync_all()
}

fn state(state: EntryState) -> &'static str {
    match state {
        EntryState::Writing => "writing",
        EntryState::Waiting => "waiting",
        EntryState::Kept => "kept",
    }
}

fn since(entry: &Entry) -> String {
    let at = UNIX_EPOCH + Duration::from_secs(entry.since_unix_seconds);
    humantime::format_rfc3339_seconds(at).to_string()
}

fn key(entry: &Entry) -> String {
    let known = entry.key.as_ref();
    known.map_or_else(|| "(not known)".to_owned(), ToString::to_string)
}

fn place(entry: &Entry) -> String {
    let known = entry.place.as_ref();
    known.map_or_else(|| "(not recorded)".to_owned(), ToString::to_string)
}

fn describe(entry: &Entry) -> String {
    format!("{} ({})", entry.id, key(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spools_of_volumes_are_found_beside_those_of_mounts() {
        let base = tempfile::tempdir().unwrap();
        let spools = ["media/spool", "csi/volume/spool"].map(|it| base.path().join(it));
        for spool in &spools {
            fs::create_dir_all(spool.join("stage")).unwrap();
        }
        fs::create_dir_all(base.path().join("csi/bin")).unwrap();
        let views = views_of_mounts(base.path()).unwrap();
        let found: Vec<&Path> = views.iter().map(SpoolView::dir).collect();
        assert_eq!(found, spools);
        assert!(
            views_of_mounts(&base.path().join("none"))
                .unwrap()
                .is_empty()
        );
    }
}
