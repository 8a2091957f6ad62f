//! Rules that abort old multipart uploads, among the rules of others.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, ExpirationStatus, LifecycleRule,
    LifecycleRuleFilter, TransitionDefaultMinimumObjectSize,
};

use super::super::S3Store;
use super::super::whole::{ElementNames, unknown_elements};
use super::{Setting, change, read, setting};
use crate::store::{Key, StoreError, StoreErrorKind, StoreOp};

/// Longest ID of a rule, in characters. Source: S3 API, `LifecycleRule`.
const ID_LIMIT: usize = 255;
/// Elements that the SDK reads and writes again. Source: S3 API,
/// `PutBucketLifecycleConfiguration`.
const KNOWN: [&str; 27] = [
    "LifecycleConfiguration",
    "Rule",
    "ID",
    "Prefix",
    "Filter",
    "And",
    "Tag",
    "Key",
    "Value",
    "ObjectSizeGreaterThan",
    "ObjectSizeLessThan",
    "Status",
    "Expiration",
    "Date",
    "Days",
    "ExpiredObjectDeleteMarker",
    "Transition",
    "Transitions",
    "StorageClass",
    "NoncurrentVersionTransition",
    "NoncurrentVersionTransitions",
    "NoncurrentVersionExpiration",
    "NoncurrentDays",
    "NewerNoncurrentVersions",
    "AbortIncompleteMultipartUpload",
    "DaysAfterInitiation",
    "TransitionDefaultMinimumObjectSize",
];

/// The lifecycle rules of a bucket.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LifecycleRules {
    rules: Vec<LifecycleRule>,
    minimum: Option<TransitionDefaultMinimumObjectSize>,
}

/// What the rules say of unfinished uploads below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbortRule {
    /// They are aborted after so many days.
    After(i32),
    /// Our own rule is switched off, or aborts nothing.
    Off {
        id: String,
    },
    None,
}

fn id_of(prefix: &str) -> String {
    let id = if prefix.is_empty() {
        "mediafs: abort unfinished uploads".to_owned()
    } else {
        format!("mediafs: abort unfinished uploads of {prefix}")
    };
    id.chars().take(ID_LIMIT).collect()
}

/// The prefix that a rule is for; none where it is for objects with a tag or size.
#[expect(deprecated, reason = "rules of before 2016 have their prefix there")]
fn prefix_of(rule: &LifecycleRule) -> Option<&str> {
    let Some(filter) = rule.filter() else {
        return Some(rule.prefix().unwrap_or_default());
    };
    let is_of_some = filter.tag().is_some()
        || filter.and().is_some()
        || filter.object_size_greater_than().is_some()
        || filter.object_size_less_than().is_some();
    (!is_of_some).then(|| filter.prefix().unwrap_or_default())
}

impl LifecycleRules {
    pub fn count(&self) -> usize {
        self.rules.len()
    }

    pub fn of_uploads(&self, prefix: &str) -> AbortRule {
        let days = |rule: &LifecycleRule| {
            let abort = rule.abort_incomplete_multipart_upload()?;
            let is_on = *rule.status() == ExpirationStatus::Enabled;
            let covers = prefix_of(rule).is_some_and(|of| prefix.starts_with(of));
            abort.days_after_initiation().filter(|_| is_on && covers)
        };
        if let Some(days) = self.rules.iter().filter_map(days).min() {
            return AbortRule::After(days);
        }
        let id = id_of(prefix);
        let is_ours = |rule: &LifecycleRule| rule.id() == Some(&id);
        if self.rules.iter().any(is_ours) {
            AbortRule::Off { id }
        } else {
            AbortRule::None
        }
    }

    /// The same rules, and ours, in the place of one of its name.
    ///
    /// Errors: `Rejected`, for what is no rule.
    pub fn with_abort(&self, prefix: &str, days: i32) -> Result<Self, StoreError> {
        let id = id_of(prefix);
        let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(days);
        let rule = LifecycleRule::builder()
            .id(&id)
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
            .abort_incomplete_multipart_upload(abort.build())
            .build();
        let rule = rule.map_err(|error| refused(&error.to_string()))?;
        let others = self.rules.iter().filter(|rule| rule.id() != Some(&id));
        Ok(Self {
            rules: others.cloned().chain([rule]).collect(),
            minimum: self.minimum.clone(),
        })
    }

    /// Whether every rule of `before` is there as it was.
    pub fn keeps(&self, before: &Self) -> bool {
        before.rules.iter().all(|rule| self.rules.contains(rule))
    }
}

fn refused(why: &str) -> StoreError {
    let (kind, op) = (StoreErrorKind::Rejected, StoreOp::BucketSettings);
    StoreError::new(kind, op, Key::new(""), why)
}

/// Errors: also rules with elements that writing them again would lose.
pub async fn get(store: &S3Store) -> Result<Setting<LifecycleRules>, StoreError> {
    let names = ElementNames::default();
    let answer = read(store, async |client: Client| {
        let get = client.get_bucket_lifecycle_configuration();
        let get = get.bucket(&store.bucket).customize();
        get.interceptor(names.clone()).send().await
    });
    let found = setting(answer.await, "NoSuchLifecycleConfiguration")?;
    Ok(match found {
        Setting::Is(answer) => {
            unknown_elements(store, &names, &KNOWN)?;
            Setting::Is(LifecycleRules {
                rules: answer.rules().to_vec(),
                minimum: answer.transition_default_minimum_object_size().cloned(),
            })
        }
        Setting::Absent => Setting::Absent,
        Setting::Unknown(why) => Setting::Unknown(why),
        Setting::Denied => Setting::Denied,
    })
}

/// Writes all rules of the bucket.
pub async fn put(store: &S3Store, rules: &LifecycleRules) -> Result<(), StoreError> {
    let all = BucketLifecycleConfiguration::builder().set_rules(Some(rules.rules.clone()));
    let all = all.build().map_err(|error| refused(&error.to_string()))?;
    let put = change(store, async |client: Client| {
        let put = client.put_bucket_lifecycle_configuration();
        put.bucket(&store.bucket)
            .lifecycle_configuration(all.clone())
            .set_transition_default_minimum_object_size(rules.minimum.clone())
            .send()
            .await
    });
    put.await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str, prefix: &str, days: Option<i32>) -> LifecycleRule {
        let abort = days.map(|days| {
            let abort = AbortIncompleteMultipartUpload::builder();
            abort.days_after_initiation(days).build()
        });
        LifecycleRule::builder()
            .id(id)
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
            .set_abort_incomplete_multipart_upload(abort)
            .build()
            .unwrap()
    }

    #[test]
    fn a_rule_of_others_that_covers_the_prefix_suffices_and_all_are_kept() {
        let others = LifecycleRules {
            rules: vec![rule("theirs", "logs/", Some(3)), rule("expiry", "", None)],
            minimum: None,
        };
        assert_eq!(others.of_uploads("logs/app/"), AbortRule::After(3));
        assert_eq!(others.of_uploads("media/"), AbortRule::None);
        let with = others.with_abort("media/", 7).unwrap();
        assert_eq!(with.of_uploads("media/"), AbortRule::After(7));
        assert_eq!(with.of_uploads(""), AbortRule::None);
        assert!(with.keeps(&others));
        assert!(!others.keeps(&with));
        assert_eq!(with.with_abort("media/", 7).unwrap(), with);
        assert_eq!(with.with_abort("reports/", 7).unwrap().count(), 4);
    }

    #[test]
    fn a_rule_of_ours_that_somebody_has_switched_off_is_told() {
        let mut rules = LifecycleRules::default().with_abort("m/", 7).unwrap();
        rules.rules[0].status = ExpirationStatus::Disabled;
        let id = id_of("m/");
        assert_eq!(rules.of_uploads("m/"), AbortRule::Off { id });
        let long = id_of(&"ü/".repeat(300));
        assert_eq!(long.chars().count(), ID_LIMIT);
    }
}
