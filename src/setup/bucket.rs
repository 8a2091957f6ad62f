//! The bucket: that it is there, private, and does not keep what nobody finishes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use bytes::Bytes;

use super::plan::{Found, Lacking, Task};
use crate::config::{Config, check_new_bucket};
use crate::session;
use crate::store::s3::S3Store;
use crate::store::s3::settings::{self, AbortRule, CorsRules, LifecycleRules, Setting};
use crate::store::{
    DeleteRequest, FoldDirectories, Key, ListRequest, ObjectHeaders, ObjectStore, PutRequest,
    StoreError, StoreErrorKind, WriteCondition,
};

/// Parts that nobody completes are paid for until somebody aborts them.
const ABORT_AFTER_DAYS: i32 = 7;
/// How long a bucket may take to be found after it was made.
const FOUND_WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(300);

/// What the tasks of a bucket share.
#[derive(Debug)]
pub struct Bucket {
    pub s3: Arc<S3Store>,
    /// The same, with deadlines and repetitions.
    pub store: Arc<dyn ObjectStore>,
    pub config: Config,
}

impl Bucket {
    async fn list(&self) -> Result<(), StoreError> {
        let listing = ListRequest {
            prefix: self.config.prefix.clone(),
            fold_directories: FoldDirectories::Yes,
            token: None,
            max_keys: 1,
        };
        self.store.list(listing).await.map(drop)
    }

    /// Whether objects can be put, tried with one that is removed again.
    pub(super) async fn takes_an_object(&self) -> Result<(), StoreError> {
        let number = fastrand::u64(..);
        let name = format!("{}.mediafs-setup-{number:016x}", self.config.prefix);
        let key = Key::new(name);
        let request = PutRequest {
            key: key.clone(),
            body: Bytes::from_static(b"mediafs setup"),
            headers: ObjectHeaders::default(),
            condition: WriteCondition::Always,
        };
        self.store.put(request).await?;
        self.store.delete(DeleteRequest::any(key)).await.map(drop)
    }
}

pub fn is_missing(error: &StoreError) -> bool {
    matches!(
        error.kind,
        StoreErrorKind::NoSuchBucket | StoreErrorKind::NotFound
    )
}

/// What a setting is; otherwise what its task stands at.
pub(super) fn known<T>(
    answer: Result<Setting<T>, StoreError>,
    permission: &str,
    wanted: &str,
) -> Result<Option<T>, Found> {
    match answer {
        Ok(Setting::Is(found)) => Ok(Some(found)),
        Ok(Setting::Absent) => Ok(None),
        Ok(Setting::Unknown(why)) => Err(Found::Skipped(format!(
            "the store has no such setting ({why})"
        ))),
        Ok(Setting::Denied) => Err(Found::Skipped(format!(
            "these credentials may not ask ({permission})"
        ))),
        // It is made first.
        Err(error) if is_missing(&error) => Err(Found::ToDo(wanted.to_owned())),
        Err(error) if error.kind.is_no_answer() || error.kind.is_transient() => Err(
            Found::Unknown(format!("not known: {}: run the setup again", error.detail)),
        ),
        Err(error) => Err(Found::Skipped(format!("not known: {}", error.detail))),
    }
}

/// What a change that failed means. Errors: `Lacking` where the store has no such setting.
pub(super) fn changed(answer: Result<(), StoreError>, permission: &str) -> anyhow::Result<()> {
    let Err(error) = answer else { return Ok(()) };
    if settings::is_unknown(&error) {
        return Err(Lacking(format!("the store has no such setting ({})", error.detail)).into());
    }
    if error.kind == StoreErrorKind::AccessDenied {
        bail!("these credentials may not ({permission}): {}", error.detail);
    }
    Err(error.into())
}

#[derive(Debug)]
pub struct Create(pub Arc<Bucket>);

#[async_trait(?Send)]
impl Task for Create {
    fn name(&self) -> &'static str {
        "bucket"
    }

    async fn look(&self) -> anyhow::Result<Found> {
        let config = &self.0.config;
        match self.0.list().await {
            Ok(()) => Ok(Found::Done(format!("{} is there", config.bucket))),
            Err(error) if is_missing(&error) && !config.read_only => {
                check_new_bucket(&config.bucket)?;
                Ok(Found::ToDo(format!("create {}", config.bucket)))
            }
            Err(error) => Err(session::explain_listing(
                &error,
                config,
                self.0.s3.endpoint(),
            )),
        }
    }

    async fn change(&self) -> anyhow::Result<()> {
        let made = settings::create_bucket(&self.0.s3).await;
        made.context("it cannot be created: another name may be free; an existing bucket needs s3:ListBucket")?;
        let deadline = tokio::time::Instant::now() + FOUND_WITHIN;
        while let Err(error) = self.0.list().await {
            if !is_missing(&error) || tokio::time::Instant::now() > deadline {
                return Err(error).context("it was created, and is not found");
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn is_needed(&self) -> bool {
        true
    }
}

/// Why rules are not written.
const UNTOLD: &str = "the store does not tell the rules of others, which would be lost";

#[derive(Debug)]
pub struct PublicAccess(pub Arc<Bucket>);

#[async_trait(?Send)]
impl Task for PublicAccess {
    fn name(&self) -> &'static str {
        "public access"
    }

    async fn look(&self) -> anyhow::Result<Found> {
        const WANTED: &str = "block it";
        let asked = settings::public_access_block(&self.0.s3).await;
        let may_be_open = matches!(asked, Ok(Setting::Is(false) | Setting::Absent));
        if may_be_open
            && matches!(
                settings::policy_is_public(&self.0.s3).await,
                Ok(Setting::Is(true))
            )
        {
            let lines = vec![
                "- the bucket's policy lets everybody in".to_owned(),
                format!("+ {WANTED}"),
            ];
            let text = "everybody may use the bucket".to_owned();
            return Ok(Found::Conflict(text, lines));
        }
        Ok(
            match known(asked, "s3:GetBucketPublicAccessBlock", WANTED) {
                Ok(Some(true)) => Found::Done("blocked".to_owned()),
                Ok(Some(false)) => {
                    let lines = vec![
                        "- not all of it is blocked".to_owned(),
                        format!("+ {WANTED}"),
                    ];
                    Found::Conflict(
                        "the block that is set leaves some public access".to_owned(),
                        lines,
                    )
                }
                Ok(None) => Found::ToDo(WANTED.to_owned()),
                Err(found) => found,
            },
        )
    }

    async fn change(&self) -> anyhow::Result<()> {
        let put = settings::block_public_access(&self.0.s3).await;
        changed(put, "s3:PutBucketPublicAccessBlock")
    }
}

#[derive(Debug)]
pub struct PrivateAcl(pub Arc<Bucket>);

#[async_trait(?Send)]
impl Task for PrivateAcl {
    fn name(&self) -> &'static str {
        "ACL"
    }

    async fn look(&self) -> anyhow::Result<Found> {
        let asked = settings::public_grants(&self.0.s3).await;
        Ok(match known(asked, "s3:GetBucketAcl", "") {
            Ok(grants) => {
                let grants = grants.unwrap_or_default();
                if grants.is_empty() {
                    Found::Done("private".to_owned())
                } else {
                    let lines = grants.iter().map(|grant| format!("- {grant}"));
                    Found::Conflict("everybody may use the bucket".to_owned(), lines.collect())
                }
            }
            // A bucket that is made is private.
            Err(Found::ToDo(_)) => Found::Done("private, as every new bucket".to_owned()),
            Err(found) => found,
        })
    }

    async fn change(&self) -> anyhow::Result<()> {
        let put = settings::end_public_grants(&self.0.s3).await;
        changed(put, "s3:PutBucketAcl")
    }
}

#[derive(Debug)]
pub struct KeepVersions(pub Arc<Bucket>);

#[async_trait(?Send)]
impl Task for KeepVersions {
    fn name(&self) -> &'static str {
        "versioning"
    }

    async fn look(&self) -> anyhow::Result<Found> {
        const WANTED: &str = "keep what is replaced and deleted";
        let asked = settings::versioning(&self.0.s3).await;
        Ok(match known(asked, "s3:GetBucketVersioning", WANTED) {
            Ok(Some(true)) => Found::Done("on".to_owned()),
            Ok(_) => Found::ToDo(WANTED.to_owned()),
            Err(found) => found,
        })
    }

    async fn change(&self) -> anyhow::Result<()> {
        let put = settings::keep_versions(&self.0.s3).await;
        changed(put, "s3:PutBucketVersioning")
    }
}

/// Ends multipart uploads that nobody completes.
#[derive(Debug)]
pub struct AbortUploads(pub Arc<Bucket>);

#[async_trait(?Send)]
impl Task for AbortUploads {
    fn name(&self) -> &'static str {
        "lifecycle rule"
    }

    async fn look(&self) -> anyhow::Result<Found> {
        let wanted =
            format!("abort uploads that nobody has completed after {ABORT_AFTER_DAYS} days");
        let asked = settings::lifecycle::get(&self.0.s3).await;
        let rules = match known(asked, "s3:GetLifecycleConfiguration", &wanted) {
            Ok(rules) => rules.unwrap_or_default(),
            Err(found) => return Ok(found),
        };
        Ok(match rules.of_uploads(&self.0.config.prefix) {
            AbortRule::After(days) => {
                let days = match days {
                    1 => "1 day".to_owned(),
                    days => format!("{days} days"),
                };
                Found::Done(format!("unfinished uploads are aborted after {days}"))
            }
            AbortRule::None if rules.count() > 0 => {
                Found::ToDo(format!("{wanted}; {}", kept(rules.count())))
            }
            AbortRule::None => Found::ToDo(wanted),
            AbortRule::Off { id } => {
                let lines = vec![format!("- {id}: off"), format!("+ {id}: {wanted}")];
                Found::Conflict("somebody has switched the rule off".to_owned(), lines)
            }
        })
    }

    async fn change(&self) -> anyhow::Result<()> {
        let before = match settings::lifecycle::get(&self.0.s3).await? {
            Setting::Is(rules) => rules,
            Setting::Absent => LifecycleRules::default(),
            Setting::Unknown(_) | Setting::Denied => bail!(UNTOLD),
        };
        let wanted = before.with_abort(&self.0.config.prefix, ABORT_AFTER_DAYS)?;
        let put = settings::lifecycle::put(&self.0.s3, &wanted).await;
        changed(put, "s3:PutLifecycleConfiguration")?;
        match settings::lifecycle::get(&self.0.s3).await? {
            Setting::Is(after) if after.keeps(&wanted) || after.keeps(&before) => Ok(()),
            // Shown a moment later, perhaps: the next look tells.
            Setting::Absent => Ok(()),
            _ => {
                bail!("rules of others are not as they were before: look at the bucket's lifecycle")
            }
        }
    }
}

/// Lets browsers read from these origins.
#[derive(Debug)]
pub struct Cors(pub Arc<Bucket>, pub Vec<String>);

#[async_trait(?Send)]
impl Task for Cors {
    fn name(&self) -> &'static str {
        "CORS"
    }

    async fn look(&self) -> anyhow::Result<Found> {
        let Self(bucket, origins) = self;
        let wanted = format!("let browsers read from {}", origins.join(", "));
        let asked = settings::cors::get(&bucket.s3).await;
        let rules = match known(asked, "s3:GetBucketCORS", &wanted) {
            Ok(rules) => rules.unwrap_or_default(),
            Err(found) => return Ok(found),
        };
        let changed = rules.changed_by_others();
        Ok(if !changed.is_empty() {
            Found::Conflict(
                "somebody has changed the rule \"mediafs\"".to_owned(),
                changed,
            )
        } else if origins.iter().all(|origin| rules.allow(origin)) {
            Found::Done(format!("browsers may read from {}", origins.join(", ")))
        } else if rules.count() > 0 {
            Found::ToDo(format!("{wanted}; {}", kept(rules.count())))
        } else {
            Found::ToDo(wanted)
        })
    }

    async fn change(&self) -> anyhow::Result<()> {
        let Self(bucket, origins) = self;
        let before = match settings::cors::get(&bucket.s3).await? {
            Setting::Is(rules) => rules,
            Setting::Absent => CorsRules::default(),
            Setting::Unknown(_) | Setting::Denied => bail!(UNTOLD),
        };
        let wanted = before.with(origins)?;
        let put = settings::cors::put(&bucket.s3, &wanted).await;
        changed(put, "s3:PutBucketCORS")?;
        match settings::cors::get(&bucket.s3).await? {
            Setting::Is(after) if after.keeps(&before) => Ok(()),
            Setting::Absent => Ok(()),
            _ => bail!(
                "rules of others are not as they were before: look at the bucket's CORS rules"
            ),
        }
    }
}

fn kept(rules: usize) -> String {
    match rules {
        1 => "the rule that is there is kept".to_owned(),
        _ => format!("the {rules} rules that are there are kept"),
    }
}
