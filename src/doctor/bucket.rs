//! The bucket: credentials, endpoint, clock, what the store can do, what it is set to.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{
    Examination, Findings, LeftScratch, NO_ANSWER, checksums, left, objects, permissions, scratch,
    shown,
};
use crate::config::{Config, S3Config};
use crate::session;
use crate::store::s3::inspect::{self, Signer, Versioning};
use crate::store::s3::{OnNetworkError, S3Store};
use crate::store::{
    FoldDirectories, GivenKeys, KeySource, ListRequest, Metered, ObjectStore, Retry, StoreError,
    StoreErrorKind, StoreHealth,
};

/// An operator waits for the report: a request is not repeated for longer.
const MAX_WAIT: Duration = Duration::from_secs(10);

pub(super) async fn examine(config: &Config, mut asked: Examination, report: &mut Findings) {
    let s3 = match session::s3(config, OnNetworkError::Refuse).await {
        Ok(s3) => Arc::new(s3),
        Err(error) => {
            report.fail(
                "network",
                format!("{error}"),
                "change the setting that it names",
            );
            return;
        }
    };
    proxy(config, &s3, report);
    let signer = match inspect::signer(&s3).await {
        _ if config.s3.requests.anonymous => "none: requests are not signed".to_owned(),
        Ok(signer) => signer_text(&signer, config),
        Err(error) => {
            report.fail(
                "credentials",
                error,
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with --profile",
            );
            return;
        }
    };
    let max_wait = config.s3.request_timeout.min(MAX_WAIT);
    let metered = Arc::new(Metered::new(s3.clone(), Arc::default()));
    let store = Retry::new(metered, max_wait, StoreHealth::default());
    let listing = ListRequest {
        prefix: config.prefix.clone(),
        fold_directories: FoldDirectories::No,
        token: None,
        max_keys: 1000,
    };
    let page = match store.list(listing).await {
        Ok(page) => page,
        Err(error) => {
            let advice = session::explain_listing(&error, config, s3.endpoint());
            if error.kind == StoreErrorKind::Credentials {
                report.fail(
                    "credentials",
                    format!("{signer}: {error}"),
                    advice.to_string(),
                );
            } else {
                report.ok("credentials", signer);
                report.fail(check_of(&error), error.to_string(), advice.to_string());
            }
            return;
        }
    };
    report.ok("credentials", signer);
    listed(config, &s3, report);
    let told_at = tried(config, &s3, &store, report).await;
    // By this host's clock alone nothing is old enough to be deleted.
    if told_at.is_none() {
        asked.left_scratch = LeftScratch::Tell;
    }
    let now = told_at.unwrap_or_else(SystemTime::now);
    scratch::examine(&store, &config.prefix, (now, asked.left_scratch), report).await;
    objects::examine(&store, config, page, asked.extent, report).await;
    versioning(&s3, report).await;
    cors(&s3, report).await;
}

/// Tries each request that changes something. Returns the store's time, where it took one.
async fn tried(
    config: &Config,
    s3: &S3Store,
    store: &dyn ObjectStore,
    report: &mut Findings,
) -> Option<SystemTime> {
    if config.read_only {
        report.ok("permissions", "a read-only mount writes nothing: not tried");
        return None;
    }
    let told_at = permissions::examine(store, &config.prefix, report).await;
    left::abort_left(s3, &config.prefix, told_at, report).await;
    let told_at = told_at?;
    left::remove_left(store, &config.prefix, told_at, report).await;
    clock(told_at, report);
    checksums::examine(s3, store, &config.prefix, report).await;
    Some(told_at)
}

/// The way to the store.
fn proxy(config: &Config, s3: &S3Store, report: &mut Findings) {
    let found = match session::proxy(config, s3.endpoint()) {
        Some(proxy) => format!("{} ({})", proxy.url, proxy.named_by),
        None => "none for the endpoint".to_owned(),
    };
    report.ok("proxy", found);
}

fn listed(config: &Config, s3: &S3Store, report: &mut Findings) {
    let endpoint = s3.endpoint().url().unwrap_or("AWS").to_owned();
    report.ok("endpoint", format!("{endpoint} answers"));
    report.ok(
        "bucket",
        format!("{}/{} can be listed", config.bucket, config.prefix),
    );
}

fn signer_text(signer: &Signer, config: &Config) -> String {
    let of_authentik = config.s3.authentik.as_ref().map(KeySource::read);
    let from = match &config.s3 {
        _ if matches!(of_authentik, Some(Ok(GivenKeys::Keys(_)))) => {
            "authentik's settings".to_owned()
        }
        S3Config {
            credentials_file: Some(file),
            ..
        } => shown(file),
        S3Config {
            profile: Some(profile),
            ..
        } => format!("profile {profile}"),
        _ if let Some(Ok(GivenKeys::Profile(profile))) = &of_authentik => {
            format!("profile {profile}, which authentik's settings name")
        }
        _ if std::env::var_os("AWS_ACCESS_KEY_ID").is_some() => "the environment".to_owned(),
        _ => "the AWS chain".to_owned(),
    };
    let temporary = if signer.is_temporary {
        ", temporary"
    } else {
        ""
    };
    format!("access key {}, from {from}{temporary}", signer.access_key)
}

/// Which check a failed listing belongs to.
fn check_of(error: &StoreError) -> &'static str {
    match error.kind {
        StoreErrorKind::ClockSkew => "clock",
        StoreErrorKind::WrongRegion => "region",
        StoreErrorKind::Untrusted => "certificate",
        StoreErrorKind::Unreachable | StoreErrorKind::TimedOut => "endpoint",
        _ => "bucket",
    }
}

/// S3 refuses what is 15 minutes off. Source: S3 API, "RequestTimeTooSkewed".
fn clock(told_at: SystemTime, report: &mut Findings) {
    const WORTH_TELLING: Duration = Duration::from_secs(60);
    let now = SystemTime::now();
    let behind = told_at.duration_since(now);
    let off = behind
        .or_else(|_| now.duration_since(told_at))
        .unwrap_or_default();
    if off < WORTH_TELLING {
        report.ok("clock", "agrees with the server's");
    } else {
        report.warn(
            "clock",
            format!("differs from the server's by {} s", off.as_secs()),
            "set it, for example with 'timedatectl set-ntp true': S3 refuses requests that are 15 minutes off",
        );
    }
}

async fn versioning(s3: &S3Store, report: &mut Findings) {
    match inspect::versioning(s3).await {
        Ok(Versioning::Off) => report.ok("versioning", "off"),
        Ok(versioning) => {
            let found = match versioning {
                Versioning::On => "on: each close and each delete keeps the old version",
                Versioning::Suspended | Versioning::Off => {
                    "suspended: existing versions are still kept"
                }
            };
            report.warn(
                "versioning",
                found,
                "let a lifecycle rule expire noncurrent versions, or the bucket grows without end",
            );
        }
        Err(error) => {
            let permission = "s3:GetBucketVersioning";
            let advice = "ask the store by its own tools: where it keeps versions, each close and each delete adds one";
            unknown("versioning", (permission, advice), &error, report);
        }
    }
}

async fn cors(s3: &S3Store, report: &mut Findings) {
    match inspect::cors_origins(s3).await {
        Ok(origins) => {
            let bare: Vec<&str> = origins
                .iter()
                .map(String::as_str)
                .filter(|origin| *origin != "*" && !origin.contains("://"))
                .collect();
            if bare.is_empty() {
                let found = match origins.len() {
                    0 => "no rules: an application on its file backend needs none".to_owned(),
                    _ => format!("browsers may ask from {}", origins.join(", ")),
                };
                report.ok("cors", found);
            } else {
                let whole: Vec<String> =
                    bare.iter().map(|host| format!("https://{host}")).collect();
                report.warn(
                    "cors",
                    format!("{} has no scheme: no browser matches it", bare.join(", ")),
                    format!("write {} into the bucket's rules", whole.join(", ")),
                );
            }
        }
        Err(error) => {
            let permission = "s3:GetBucketCORS";
            let advice = "nothing to do: an application on its file backend needs no rules";
            unknown("cors", (permission, advice), &error, report);
        }
    }
}

/// A mount needs neither the setting nor the permission to read it.
fn unknown(
    check: &'static str,
    (permission, advice): (&str, &str),
    error: &StoreError,
    report: &mut Findings,
) {
    let found = match error.kind {
        StoreErrorKind::AccessDenied => {
            format!("not known: these credentials lack {permission}, which a mount does not need")
        }
        StoreErrorKind::Unsupported | StoreErrorKind::NotFound => {
            "the store has no such setting, which a mount does not need".to_owned()
        }
        StoreErrorKind::Rejected => {
            report.warn(check, format!("not known: {error}"), advice);
            return;
        }
        _ => {
            report.warn(check, format!("not known: {error}"), NO_ANSWER);
            return;
        }
    };
    report.ok(check, found);
}
