//! How every job runs: its settings, its folder, its end.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::connect::Bucket;
use super::entry::Odd;
use super::guards::{self, Refused};
use super::job::Job;
use super::judge::JudgeSettings;
use super::listing::{Listing, Unusable, list};
use super::object_types::ObjectTypes;
use super::operator::Asking;
use super::outcome::Outcome;
use super::plan::PlanSettings;
use super::plan_counts::{Extra, Work};
use super::report::{Counts, Report, Symbol};
use super::spill::Spill;
use super::throttle::Throttle;
use super::walk::{Symlinks, WalkSettings};
use crate::config::{AttributesMode, Config, config_files, in_words};
use crate::private;
use crate::session;
use crate::store::StoreErrorKind;

/// The last line of a report.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    pub summary: &'static str,
    pub outcome: Outcome,
    pub version: &'static str,
    pub bucket: String,
    pub prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Of a move, where the objects come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub seconds: f64,
    #[serde(flatten)]
    pub counts: Counts,
    /// By kind.
    pub requests: BTreeMap<&'static str, u64>,
    /// SHA-256 of the lines before.
    pub digest: String,
}

impl Summary {
    /// Without a place of its own beside the bucket, and without requests.
    pub fn new(
        command: &'static str,
        outcome: Outcome,
        config: &Config,
        report: &Report,
        began: Instant,
    ) -> Self {
        Self {
            summary: command,
            outcome,
            version: env!("CARGO_PKG_VERSION"),
            bucket: config.bucket.clone(),
            prefix: config.prefix.clone(),
            directory: None,
            source: None,
            seconds: rounded(began.elapsed()),
            counts: report.counts.clone(),
            requests: BTreeMap::new(),
            digest: report.digest(),
        }
    }

    pub fn with_requests(self, requests: BTreeMap<&'static str, u64>) -> Self {
        Self { requests, ..self }
    }
}

/// How many were sent to all of them, by kind.
pub fn requests_of(buckets: &[&Bucket]) -> BTreeMap<&'static str, u64> {
    let mut requests = BTreeMap::new();
    for (op, sent) in buckets.iter().flat_map(|it| it.counters.by_kind()) {
        *requests.entry(op.name()).or_default() += sent;
    }
    requests
}

/// Errors: why the bucket cannot be listed, and what to do.
pub async fn listing(config: &Config, bucket: &Bucket, scratch: &Path) -> anyhow::Result<Listing> {
    let listed = list(&*bucket.store, &config.prefix, scratch).await;
    let listed = listed.with_context(|| format!("cannot write in {}", scratch.display()))?;
    listed.map_err(|error| {
        let explained = session::explain_listing(&error, config, bucket.s3.endpoint());
        let word = config.name.is_none() && config.prefix.is_empty();
        if !word || error.kind != StoreErrorKind::NoSuchBucket {
            return explained;
        }
        let files = in_words(&config_files(&config.bucket));
        explained.context(format!("no mount has this name: there is no {files}"))
    })
}

/// Directory of the checkpoint of a job between these places, and of what does not fit
/// memory.
///
/// Errors: it cannot be made, or is not this user's alone.
pub fn scratch<'a>(
    state: &Path,
    places: impl IntoIterator<Item = &'a [u8]>,
) -> anyhow::Result<PathBuf> {
    let mut hash = crc32fast::Hasher::new();
    for part in places {
        hash.update(part);
        hash.update(b"\0");
    }
    let name = format!("migrate-{:08x}", hash.finalize());
    // Others may use what is above the spool for more.
    let directory = state.join(name);
    private::directory(&directory)?;
    Ok(directory)
}

/// What earlier runs of the same places have left. Errors: one of them still runs; the
/// disk's.
pub fn checkpoint(scratch: &Path) -> anyhow::Result<Arc<Checkpoint>> {
    match Checkpoint::open(scratch) {
        Ok(checkpoint) => Ok(Arc::new(checkpoint)),
        Err(CheckpointError::InUse) => Err(Refused(CheckpointError::InUse.to_string()).into()),
        Err(error) => Err(error.into()),
    }
}

impl Job<'_> {
    pub fn plan<'a>(
        &'a self,
        work: Work,
        extra: Extra,
        types: Option<ObjectTypes>,
        scratch: &'a Path,
    ) -> PlanSettings<'a> {
        PlanSettings {
            work,
            source: self.source,
            extra,
            odd: self.odd,
            selection: self.selection,
            types,
            markers: self.config.dir_markers,
            makes_links: work == Work::Export
                && self.symlinks != Symlinks::Name
                && self.config.attributes.mode == AttributesMode::Stored,
            stores_directories: self.config.attributes.mode == AttributesMode::Stored,
            scratch,
            operator: self.operator,
        }
    }

    pub fn judge(&self, work: Work, throttle: Arc<Throttle>) -> JudgeSettings {
        JudgeSettings {
            prefix: self.config.prefix.clone(),
            comparison: self.comparison,
            work,
            attributes: self.config.attributes.mode,
            throttle,
        }
    }

    pub fn walk_settings(&self) -> WalkSettings {
        WalkSettings {
            symlinks: self.symlinks,
            hard_links: self.odd.hard_links,
            selection: self.selection.clone(),
            prefix_bytes: self.config.prefix.len(),
        }
    }

    pub fn asking(&self) -> Asking<'_> {
        Asking {
            operator: self.operator,
            allow_empty: self.allow_empty,
            comparison: self.comparison,
        }
    }

    /// Directory of this job's checkpoint and of what does not fit memory.
    ///
    /// Errors: it cannot be made, or is not this user's alone.
    pub fn scratch(&self) -> anyhow::Result<PathBuf> {
        let endpoint = self.config.s3.endpoint_url.as_deref().unwrap_or("aws");
        let state = self.config.state_dir();
        guards::outside(self.directory, "the folder of --spool,", state)?;
        let places = [
            self.directory.as_os_str().as_encoded_bytes(),
            self.config.bucket.as_bytes(),
            self.config.prefix.as_bytes(),
            endpoint.as_bytes(),
        ];
        scratch(state, places)
    }

    /// Errors: why the bucket cannot be listed, and what to do.
    pub async fn listing(&self, bucket: &Bucket, scratch: &Path) -> anyhow::Result<Listing> {
        listing(self.config, bucket, scratch).await
    }

    /// Names what a listing has and cannot be compared. Errors: the disk's.
    pub fn name_unusable(&self, listing: &mut Listing, report: &mut Report) -> io::Result<()> {
        let unusable = listing.take_unusable().map(Spill::read).transpose()?;
        for entry in unusable.into_iter().flatten() {
            let Unusable { path, why } = entry?;
            if self.selection.takes(&path) {
                let line = self.odd.line(Symbol::OnlyThere, &path, Odd::BadName, &why);
                report.line(&line)?;
            }
        }
        Ok(())
    }

    /// Ends a report. Errors: the disk's.
    pub fn summary(
        &self,
        command: &'static str,
        outcome: Outcome,
        report: &mut Report,
        bucket: &Bucket,
        began: Instant,
    ) -> io::Result<Summary> {
        let summary = Summary {
            directory: Some(self.directory.to_owned()),
            ..Summary::new(command, outcome, self.config, report, began)
        };
        let summary = summary.with_requests(requests_of(&[bucket]));
        report.end(&summary)?;
        Ok(summary)
    }
}

/// Whether it was started to outlive its terminal, as nohup(1) does. Source: proc(5),
/// `SigIgn` of /proc/pid/status.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let ignored = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    // Signal 1 is the first bit.
    ignored.is_some_and(|bits| bits & 1 == 1)
}

fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Runs a job until it ends, or a signal ends it.
///
/// Errors: the job's; no runtime.
pub fn run<T>(job: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<Option<T>> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        // A terminal that goes away, or a lost connection to it.
        let mut hang_up = match ignores_hang_up() {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        let hung_up = async {
            match &mut hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = hung_up => Ok(None),
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
            outcome = job => outcome.map(Some),
        }
    });
    // A disk or a server that does not answer is not waited for.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_folder_of_a_job_is_its_users_alone_and_the_one_above_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let made = scratch(dir.path(), [&b"place"[..]]).unwrap();
        assert_eq!((mode(dir.path()), mode(&made)), (0o755, 0o700));
        let missing = dir.path().join("above/state");
        let made = scratch(&missing, [&b"place"[..]]).unwrap();
        assert_eq!((mode(&missing), mode(&made)), (0o700, 0o700));
    }
}
