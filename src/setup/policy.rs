//! The IAM policy that suffices for a mount.

use serde_json::{Value, json};

use crate::config::{Config, SseConfig};
use crate::store::permissions::{LIST, LIST_UPLOADS, ON_OBJECTS, ON_OBJECTS_READ_ONLY, WRITE_ACL};
use crate::store::s3::settings::Encryption;

/// Of KMS, for objects that are encrypted with its keys.
const ON_KEY: [&str; 2] = ["kms:Decrypt", "kms:GenerateDataKey"];
/// What algorithms that take them begin with.
const KMS: &str = "aws:kms";
const VERSION: &str = "2012-10-17";

/// As IAM takes it. Source: IAM User Guide, "IAM JSON policy elements reference".
pub fn policy(config: &Config, default_encryption: Option<&Encryption>) -> Value {
    let (bucket, objects) = resources(&config.bucket, &config.s3.region);
    let prefix = &literal(&config.prefix);
    let mut on_objects = if config.read_only {
        ON_OBJECTS_READ_ONLY.to_vec()
    } else {
        ON_OBJECTS.to_vec()
    };
    let requests = &config.s3.requests;
    if requests.acl.is_some() && !config.read_only {
        on_objects.push(WRITE_ACL);
    }
    let below = format!("{prefix}*");
    let condition = (!prefix.is_empty()).then(|| json!({ "StringLike": { "s3:prefix": below } }));
    let mut list = serde_json::Map::from_iter([
        ("Sid".to_owned(), json!("MediafsList")),
        ("Effect".to_owned(), json!("Allow")),
        ("Action".to_owned(), json!([LIST])),
        ("Resource".to_owned(), json!(bucket)),
    ]);
    list.extend(condition.map(|it| ("Condition".to_owned(), it)));
    let mut statements = vec![
        Value::Object(list),
        json!({
            "Sid": "MediafsObjects",
            "Effect": "Allow",
            "Action": on_objects,
            "Resource": format!("{objects}/{prefix}*"),
        }),
    ];
    if !config.read_only {
        // It has no condition for a prefix.
        statements.push(json!({
            "Sid": "MediafsUploads",
            "Effect": "Allow",
            "Action": [LIST_UPLOADS],
            "Resource": bucket,
        }));
    }
    let of_requests = matches!(requests.sse, Some(SseConfig::Kms | SseConfig::KmsDsse));
    let of_bucket = default_encryption.filter(|it| it.algorithm.starts_with(KMS));
    if of_requests || of_bucket.is_some() {
        let key = requests.sse_kms_key_id.as_deref();
        let key = key.or_else(|| of_bucket?.kms_key.as_deref());
        let key = key.filter(|key| key.starts_with("arn:")).unwrap_or("*");
        statements.push(json!({
            "Sid": "MediafsKey",
            "Effect": "Allow",
            "Action": ON_KEY,
            "Resource": key,
        }));
    }
    json!({ "Version": VERSION, "Statement": statements })
}

/// Characters that stand for others in a policy, as themselves. Source: IAM User Guide,
/// "IAM policy elements: variables and tags".
fn literal(text: &str) -> String {
    let of = |c: char| match c {
        '*' | '?' | '$' => format!("${{{c}}}"),
        c => c.to_string(),
    };
    text.chars().map(of).collect()
}

/// What stands for the bucket, and what before its keys.
fn resources(bucket: &str, region: &Option<String>) -> (String, String) {
    if let Some((account, name)) = bucket.split_once(":accesspoint:") {
        let point = format!("{account}:accesspoint/{name}");
        let objects = format!("{point}/object");
        return (point, objects);
    }
    let region = region.as_deref().unwrap_or_default();
    let partition = match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    let bucket = format!("arn:{partition}:s3:::{bucket}");
    (bucket.clone(), bucket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigSource, Options, Target};

    fn of(bucket: &str, change: impl FnOnce(&mut Options)) -> Value {
        let mut options = Options::default();
        change(&mut options);
        let target = Target::Place {
            bucket: bucket.to_owned(),
            mountpoint: "/srv/m".into(),
        };
        let source = ConfigSource::new(target, None, options, "/".into()).unwrap();
        policy(&source.load().unwrap(), None)
    }

    #[test]
    fn a_mount_may_do_what_it_needs_below_its_prefix_alone() {
        let policy = of("b/media", |_| ());
        let statements = policy["Statement"].as_array().unwrap();
        assert_eq!(
            statements[0]["Condition"]["StringLike"]["s3:prefix"],
            "media/*"
        );
        assert_eq!(statements[0]["Resource"], "arn:aws:s3:::b");
        assert_eq!(statements[1]["Resource"], "arn:aws:s3:::b/media/*");
        assert_eq!(
            statements[1]["Action"].as_array().unwrap().len(),
            ON_OBJECTS.len()
        );
        let odd = of("b/a*b$c", |_| ());
        let objects = "arn:aws:s3:::b/a${*}b${$}c/*";
        assert_eq!(odd["Statement"][1]["Resource"], objects);
        let whole = of("b", |it| it.region = Some("cn-north-1".into()));
        assert_eq!(whole["Statement"][0].get("Condition"), None);
        assert_eq!(whole["Statement"][1]["Resource"], "arn:aws-cn:s3:::b/*");
    }

    #[test]
    fn less_and_more_is_allowed_where_the_options_say_so() {
        let read_only = of("b", |it| it.read_only = Some(true));
        assert_eq!(read_only["Statement"][1]["Action"], json!(["s3:GetObject"]));
        assert_eq!(read_only["Statement"].as_array().unwrap().len(), 2);
        let kms = of("b", |it| it.sse = Some(SseConfig::Kms));
        assert_eq!(kms["Statement"][3]["Resource"], "*");
        let source = ConfigSource::new(
            Target::Place {
                bucket: "b".to_owned(),
                mountpoint: "/srv/m".into(),
            },
            None,
            Options::default(),
            "/".into(),
        );
        let encryption = Encryption {
            algorithm: "aws:kms".to_owned(),
            kms_key: Some("arn:aws:kms:eu-west-1:1:key/k".to_owned()),
        };
        let of_bucket = super::policy(&source.unwrap().load().unwrap(), Some(&encryption));
        let key = &of_bucket["Statement"][3]["Resource"];
        assert_eq!(key, "arn:aws:kms:eu-west-1:1:key/k");
        let point = of("arn:aws:s3:eu-west-1:123456789012:accesspoint/ap/m", |_| ());
        let arn = "arn:aws:s3:eu-west-1:123456789012:accesspoint/ap";
        assert_eq!(point["Statement"][0]["Resource"], arn);
        assert_eq!(
            point["Statement"][1]["Resource"],
            format!("{arn}/object/m/*")
        );
    }
}
