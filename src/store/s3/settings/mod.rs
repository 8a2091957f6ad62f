//! Settings of a bucket, for `mediafs setup`: read, and written whole.
//!
//! Owns: what an answer means (set, not set, unknown to the store, not allowed). Each
//! request has a deadline; reads are repeated, writes never: S3 has no conditions for
//! them, and one that is carried out late could undo what somebody else sets meanwhile.

pub mod cors;
pub mod lifecycle;

pub use cors::CorsRules;
pub use lifecycle::{AbortRule, LifecycleRules};

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_sdk_s3::operation::get_bucket_acl::GetBucketAclOutput;
use aws_sdk_s3::types::{
    AccessControlPolicy, BucketCannedAcl, BucketLocationConstraint, BucketVersioningStatus,
    CreateBucketConfiguration, Grant, PublicAccessBlockConfiguration, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
    VersioningConfiguration,
};

use super::S3Store;
use super::error::translate;
use crate::backoff::Backoff;
use crate::store::{Key, StoreError, StoreErrorKind, StoreOp};

const DEADLINE: Duration = Duration::from_secs(15);
const READ_ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Groups that are everybody. Source: S3 User Guide, "Amazon S3 predefined groups".
const EVERYBODY: [&str; 2] = ["/global/AllUsers", "/global/AuthenticatedUsers"];
/// Region whose buckets are made without a location. Source: S3 API `CreateBucket`.
const REGION_WITHOUT_LOCATION: &str = "us-east-1";
/// Code of the answer where the location is not that of the request's region.
const WRONG_LOCATION: &str = "IllegalLocationConstraint";

/// What a store says of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting<T> {
    Is(T),
    /// Nothing is set.
    Absent,
    /// The store has no such setting: its words.
    Unknown(String),
    /// These credentials may not ask.
    Denied,
}

/// Default encryption of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub algorithm: String,
    pub kms_key: Option<String>,
}

/// Whether the store has no such setting, rather than a reason against this one.
pub fn is_unknown(error: &StoreError) -> bool {
    let has = |word: &str| error.detail.contains(word);
    error.kind == StoreErrorKind::Unsupported || has("AccessControlListNotSupported")
}

/// What a failed read means, where `absent` is the code for nothing.
fn setting<T>(answer: Result<T, StoreError>, absent: &str) -> Result<Setting<T>, StoreError> {
    let error = match answer {
        Ok(found) => return Ok(Setting::Is(found)),
        Err(error) => error,
    };
    if error.detail.contains(absent) {
        return Ok(Setting::Absent);
    }
    match error.kind {
        StoreErrorKind::AccessDenied => Ok(Setting::Denied),
        StoreErrorKind::NotFound => Ok(Setting::Absent),
        // A store that does not know the parameter takes it for another request.
        StoreErrorKind::Rejected => Ok(Setting::Unknown(error.detail)),
        _ if is_unknown(&error) => Ok(Setting::Unknown(error.detail)),
        _ => Err(error),
    }
}

/// Sends one request that changes something.
async fn change<T, E>(
    store: &S3Store,
    send: impl AsyncFn(Client) -> Result<T, SdkError<E, HttpResponse>>,
) -> Result<T, StoreError>
where
    E: ProvideErrorMetadata + RequestId + std::error::Error + Send + Sync + 'static,
{
    let key = Key::new(store.bucket.as_str());
    answered(StoreOp::BucketSettings, &key, send(store.client())).await
}

/// The answer to one request, within the deadline.
pub(super) async fn answered<T, E>(
    op: StoreOp,
    key: &Key,
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, StoreError>
where
    E: ProvideErrorMetadata + RequestId + std::error::Error + Send + Sync + 'static,
{
    match tokio::time::timeout(DEADLINE, request).await {
        Ok(answer) => answer.map_err(|error| translate(op, key, error)),
        Err(_) => {
            let detail = format!("no answer within {} s", DEADLINE.as_secs());
            Err(StoreError::new(
                StoreErrorKind::TimedOut,
                op,
                key.clone(),
                detail,
            ))
        }
    }
}

/// Sends a request that changes nothing, as often as it takes.
async fn read<T, E>(
    store: &S3Store,
    send: impl AsyncFn(Client) -> Result<T, SdkError<E, HttpResponse>>,
) -> Result<T, StoreError>
where
    E: ProvideErrorMetadata + RequestId + std::error::Error + Send + Sync + 'static,
{
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut attempt = 1;
    loop {
        match change(store, &send).await {
            Err(error) if error.kind.is_transient() && attempt < READ_ATTEMPTS => {
                tokio::time::sleep(backoff.next_pause()).await;
                attempt += 1;
            }
            answer => return answer,
        }
    }
}

/// Makes the bucket. One that is ours already is left as it is.
///
/// Errors: `Rejected` where somebody else has a bucket of that name.
pub async fn create_bucket(store: &S3Store) -> Result<(), StoreError> {
    let client = store.client();
    let region = client.config().region().map(|region| region.to_string());
    let region = region.filter(|region| region != REGION_WITHOUT_LOCATION);
    let location = region.map(|region| {
        CreateBucketConfiguration::builder()
            .location_constraint(BucketLocationConstraint::from(region.as_str()))
            .build()
    });
    // Most other services have one place, or a name of their own for each.
    let of_aws = location.clone().filter(|_| store.endpoint.url().is_none());
    let create = async |location: Option<CreateBucketConfiguration>| {
        let made = change(store, async |client: Client| {
            let create = client.create_bucket().bucket(&store.bucket);
            create
                .set_create_bucket_configuration(location.clone())
                .send()
                .await
        });
        made.await.map(drop)
    };
    let made = match create(of_aws).await {
        // It has regions as AWS has them.
        Err(error) if error.detail.contains(WRONG_LOCATION) && location.is_some() => {
            create(location).await
        }
        made => made,
    };
    match made {
        Err(error) if error.detail.contains("BucketAlreadyOwnedByYou") => Ok(()),
        made => made,
    }
}

/// Whether all of public access is blocked.
pub async fn public_access_block(store: &S3Store) -> Result<Setting<bool>, StoreError> {
    let answer = read(store, async |client: Client| {
        let get = client.get_public_access_block().bucket(&store.bucket);
        get.send().await
    });
    let is_whole = answer.await.map(|answer| {
        answer
            .public_access_block_configuration()
            .is_some_and(|block| {
                let all = [
                    block.block_public_acls(),
                    block.ignore_public_acls(),
                    block.block_public_policy(),
                    block.restrict_public_buckets(),
                ];
                all.iter().all(|it| *it == Some(true))
            })
    });
    setting(is_whole, "NoSuchPublicAccessBlockConfiguration")
}

/// Whether the bucket's policy lets everybody in.
pub async fn policy_is_public(store: &S3Store) -> Result<Setting<bool>, StoreError> {
    let answer = read(store, async |client: Client| {
        let get = client.get_bucket_policy_status().bucket(&store.bucket);
        get.send().await
    });
    let is_public = answer.await.map(|answer| {
        let status = answer.policy_status();
        status
            .and_then(|status| status.is_public())
            .unwrap_or(false)
    });
    setting(is_public, "NoSuchBucketPolicy")
}

pub async fn block_public_access(store: &S3Store) -> Result<(), StoreError> {
    let block = PublicAccessBlockConfiguration::builder()
        .block_public_acls(true)
        .ignore_public_acls(true)
        .block_public_policy(true)
        .restrict_public_buckets(true)
        .build();
    let put = change(store, async |client: Client| {
        let put = client.put_public_access_block().bucket(&store.bucket);
        put.public_access_block_configuration(block.clone())
            .send()
            .await
    });
    put.await.map(drop)
}

async fn acl(store: &S3Store) -> Result<GetBucketAclOutput, StoreError> {
    let answer = read(store, async |client: Client| {
        client.get_bucket_acl().bucket(&store.bucket).send().await
    });
    answer.await
}

/// The group of everybody that a grant is for; none where it is for somebody.
fn everybody(grant: &Grant) -> Option<&'static str> {
    let group = grant.grantee()?.uri()?;
    EVERYBODY.into_iter().find(|end| group.ends_with(end))
}

/// What the bucket's ACL lets everybody do.
pub async fn public_grants(store: &S3Store) -> Result<Setting<Vec<String>>, StoreError> {
    let public = acl(store).await.map(|acl| {
        let grants = acl.grants().iter().filter_map(|grant| {
            let group = everybody(grant)?.trim_start_matches("/global/");
            let permission = grant.permission()?.as_str();
            Some(format!("{permission} for {group}"))
        });
        grants.collect()
    });
    setting(public, "AccessControlListNotSupported")
}

/// Takes away what everybody may do. What others were given stays.
pub async fn end_public_grants(store: &S3Store) -> Result<(), StoreError> {
    let acl = acl(store).await?;
    let owner = acl.owner().and_then(|owner| owner.id());
    let of_owner = |grant: &Grant| {
        let id = grant.grantee().and_then(|it| it.id());
        id.is_some() && id == owner
    };
    let grants = acl.grants().iter().filter(|it| everybody(it).is_none());
    let kept: Vec<Grant> = grants.cloned().collect();
    let is_private = kept.iter().all(of_owner);
    let put = change(store, async |client: Client| {
        let put = client.put_bucket_acl().bucket(&store.bucket);
        // Some stores take an ACL by its name alone.
        let put = if is_private {
            put.acl(BucketCannedAcl::Private)
        } else {
            let policy = AccessControlPolicy::builder()
                .set_owner(acl.owner().cloned())
                .set_grants(Some(kept.clone()));
            put.access_control_policy(policy.build())
        };
        put.send().await
    });
    put.await.map(drop)
}

/// Whether versions are kept.
pub async fn versioning(store: &S3Store) -> Result<Setting<bool>, StoreError> {
    let answer = read(store, async |client: Client| {
        let get = client.get_bucket_versioning().bucket(&store.bucket);
        get.send().await
    });
    let is_on = answer.await;
    let is_on = is_on.map(|answer| answer.status() == Some(&BucketVersioningStatus::Enabled));
    setting(is_on, "NoSuchVersioningConfiguration")
}

pub async fn keep_versions(store: &S3Store) -> Result<(), StoreError> {
    let on = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    let put = change(store, async |client: Client| {
        let put = client.put_bucket_versioning().bucket(&store.bucket);
        put.versioning_configuration(on.clone()).send().await
    });
    put.await.map(drop)
}

pub async fn encryption(store: &S3Store) -> Result<Setting<Encryption>, StoreError> {
    let answer = read(store, async |client: Client| {
        let get = client.get_bucket_encryption().bucket(&store.bucket);
        get.send().await
    });
    let found = answer.await.map(|answer| {
        let rules = answer.server_side_encryption_configuration();
        let rule = rules.and_then(|rules| rules.rules().first());
        let default = rule.and_then(|rule| rule.apply_server_side_encryption_by_default());
        default.map(|default| Encryption {
            algorithm: default.sse_algorithm().as_str().to_owned(),
            kms_key: default.kms_master_key_id().map(str::to_owned),
        })
    });
    let absent = "ServerSideEncryptionConfigurationNotFoundError";
    Ok(match setting(found, absent)? {
        Setting::Is(Some(found)) => Setting::Is(found),
        Setting::Is(None) | Setting::Absent => Setting::Absent,
        Setting::Unknown(why) => Setting::Unknown(why),
        Setting::Denied => Setting::Denied,
    })
}

pub async fn set_encryption(store: &S3Store, wanted: &Encryption) -> Result<(), StoreError> {
    let refused = |error: aws_sdk_s3::error::BuildError| {
        let (kind, op) = (StoreErrorKind::Rejected, StoreOp::BucketSettings);
        StoreError::new(kind, op, Key::new(store.bucket.as_str()), error.to_string())
    };
    let default = ServerSideEncryptionByDefault::builder()
        .sse_algorithm(ServerSideEncryption::from(wanted.algorithm.as_str()))
        .set_kms_master_key_id(wanted.kms_key.clone())
        .build()
        .map_err(refused)?;
    // A key of the bucket saves requests to KMS: it stays as somebody has set it.
    let before = read(store, async |client: Client| {
        let get = client.get_bucket_encryption().bucket(&store.bucket);
        get.send().await
    });
    let bucket_key = before.await.ok().and_then(|answer| {
        let rules = answer.server_side_encryption_configuration()?;
        rules.rules().first()?.bucket_key_enabled()
    });
    let rule = ServerSideEncryptionRule::builder()
        .apply_server_side_encryption_by_default(default)
        .set_bucket_key_enabled(bucket_key)
        .build();
    let rules = ServerSideEncryptionConfiguration::builder()
        .rules(rule)
        .build()
        .map_err(refused)?;
    let put = change(store, async |client: Client| {
        let put = client.put_bucket_encryption().bucket(&store.bucket);
        put.server_side_encryption_configuration(rules.clone())
            .send()
            .await
    });
    put.await.map(drop)
}

/// From then on objects are as the store has them by itself.
pub async fn remove_encryption(store: &S3Store) -> Result<(), StoreError> {
    let removed = change(store, async |client: Client| {
        let delete = client.delete_bucket_encryption().bucket(&store.bucket);
        delete.send().await
    });
    removed.await.map(drop)
}
