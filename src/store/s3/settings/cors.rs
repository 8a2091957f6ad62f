//! Rules that let browsers read from a bucket, among the rules of others.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{CorsConfiguration, CorsRule};

use super::super::S3Store;
use super::super::whole::{ElementNames, unknown_elements};
use super::{Setting, change, read, setting};
use crate::store::{Key, StoreError, StoreErrorKind, StoreOp};

const ID: &str = "mediafs";
const METHOD: &str = "GET";
const HEADER: &str = "Authorization";
const MAX_AGE_SECONDS: i32 = 3000;
const ANY: &str = "*";
/// Elements that the SDK reads and writes again. Source: S3 API, `PutBucketCors`.
const KNOWN: [&str; 8] = [
    "CORSConfiguration",
    "CORSRule",
    "ID",
    "AllowedOrigin",
    "AllowedMethod",
    "AllowedHeader",
    "ExposeHeader",
    "MaxAgeSeconds",
];

/// The CORS rules of a bucket.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CorsRules(Vec<CorsRule>);

impl CorsRules {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether browsers may read from this origin.
    pub fn allow(&self, origin: &str) -> bool {
        let has = |list: &[String], wanted: &str| {
            list.iter()
                .any(|it| it == ANY || it.eq_ignore_ascii_case(wanted))
        };
        self.0.iter().any(|rule| {
            has(rule.allowed_origins(), origin)
                && has(rule.allowed_methods(), METHOD)
                && has(rule.allowed_headers(), HEADER)
        })
    }

    /// How a rule of our name differs from what we write, whatever its origins.
    pub fn changed_by_others(&self) -> Vec<String> {
        let Some(ours) = self.ours() else {
            return Vec::new();
        };
        let age = ours.max_age_seconds().map(|age| age.to_string());
        let fields = [
            (
                "AllowedMethod",
                ours.allowed_methods().join(", "),
                METHOD.to_owned(),
            ),
            (
                "AllowedHeader",
                ours.allowed_headers().join(", "),
                HEADER.to_owned(),
            ),
            (
                "ExposeHeader",
                ours.expose_headers().join(", "),
                String::new(),
            ),
            (
                "MaxAgeSeconds",
                age.unwrap_or_default(),
                MAX_AGE_SECONDS.to_string(),
            ),
        ];
        let differ = fields.into_iter().filter(|(_, is, wanted)| is != wanted);
        let lines = differ.flat_map(|(name, is, wanted)| {
            [format!("- {name}: {is}"), format!("+ {name}: {wanted}")]
        });
        lines.collect()
    }

    fn ours(&self) -> Option<&CorsRule> {
        self.0.iter().find(|rule| rule.id() == Some(ID))
    }

    /// The same rules, and ours for these origins and those that it has.
    ///
    /// Errors: `Rejected`, for what is no rule.
    pub fn with(&self, origins: &[String]) -> Result<Self, StoreError> {
        let before = self.ours().map(CorsRule::allowed_origins);
        let mut all = before.unwrap_or_default().to_vec();
        let new = origins
            .iter()
            .filter(|origin| !before.unwrap_or_default().contains(origin));
        all.extend(new.cloned());
        let rule = CorsRule::builder()
            .id(ID)
            .set_allowed_origins(Some(all))
            .allowed_methods(METHOD)
            .allowed_headers(HEADER)
            .max_age_seconds(MAX_AGE_SECONDS)
            .build();
        let rule = rule.map_err(|error| refused(&error.to_string()))?;
        let others = self.0.iter().filter(|rule| rule.id() != Some(ID));
        Ok(Self(others.cloned().chain([rule]).collect()))
    }

    /// Whether every rule of `before` is there as it was, but for ours.
    pub fn keeps(&self, before: &Self) -> bool {
        let mut others = before.0.iter().filter(|rule| rule.id() != Some(ID));
        others.all(|rule| self.0.contains(rule))
    }
}

fn refused(why: &str) -> StoreError {
    let (kind, op) = (StoreErrorKind::Rejected, StoreOp::BucketSettings);
    StoreError::new(kind, op, Key::new(""), why)
}

/// Errors: also rules with elements that writing them again would lose.
pub async fn get(store: &S3Store) -> Result<Setting<CorsRules>, StoreError> {
    let names = ElementNames::default();
    let answer = read(store, async |client: Client| {
        let get = client.get_bucket_cors().bucket(&store.bucket).customize();
        get.interceptor(names.clone()).send().await
    });
    let found = setting(answer.await, "NoSuchCORSConfiguration")?;
    Ok(match found {
        Setting::Is(answer) => {
            unknown_elements(store, &names, &KNOWN)?;
            Setting::Is(CorsRules(answer.cors_rules().to_vec()))
        }
        Setting::Absent => Setting::Absent,
        Setting::Unknown(why) => Setting::Unknown(why),
        Setting::Denied => Setting::Denied,
    })
}

/// Writes all rules of the bucket.
pub async fn put(store: &S3Store, rules: &CorsRules) -> Result<(), StoreError> {
    let all = CorsConfiguration::builder().set_cors_rules(Some(rules.0.clone()));
    let all = all.build().map_err(|error| refused(&error.to_string()))?;
    let put = change(store, async |client: Client| {
        let put = client.put_bucket_cors().bucket(&store.bucket);
        put.cors_configuration(all.clone()).send().await
    });
    put.await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_others_are_kept_and_origins_are_added_to_ours() {
        let theirs = CorsRule::builder()
            .allowed_origins("https://other")
            .allowed_methods("PUT")
            .build()
            .unwrap();
        let others = CorsRules(vec![theirs]);
        assert!(!others.allow("https://other"));
        let one = others.with(&["https://a".to_owned()]).unwrap();
        let two = one.with(&["https://b".to_owned()]).unwrap();
        for origin in ["https://a", "https://b"] {
            assert!(two.allow(origin));
        }
        assert!(!two.allow("https://c"));
        assert!(two.keeps(&others) && two.keeps(&one));
        assert_eq!(two.count(), 2);
        assert_eq!(two.changed_by_others(), Vec::<String>::new());
    }

    #[test]
    fn what_somebody_has_changed_of_our_rule_is_told_line_by_line() {
        let mut rules = CorsRules::default()
            .with(&["https://a".to_owned()])
            .unwrap();
        rules.0[0].allowed_methods.push("DELETE".to_owned());
        let told = rules.changed_by_others();
        assert_eq!(
            told,
            ["- AllowedMethod: GET, DELETE", "+ AllowedMethod: GET"]
        );
    }
}
