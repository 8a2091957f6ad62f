//! Names of buckets, and what stands for one: the alias or the ARN of an access point.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use super::ConfigError;

/// How long the name of a new bucket may be.
const NEW_NAME_CHARS: RangeInclusive<usize> = 3..=63;
/// S3 keeps them for itself.
const RESERVED_BEGINS: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const RESERVED_ENDS: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];
/// How the names of directory buckets end, and those of their access points.
/// Source: S3 User Guide, "Directory bucket naming rules".
const DIRECTORY_ENDS: [&str; 2] = ["--x-s3", "--xa-s3"];
/// What is before the name of an access point in its ARN; AWS takes a slash too.
const ACCESS_POINT: &str = ":accesspoint:";
const ACCESS_POINT_SLASH: &str = ":accesspoint/";

/// `BUCKET[/PREFIX]`, with or without `s3://`, in its two parts.
pub fn split_place(place: &str) -> (String, String) {
    let place = place.strip_prefix("s3://").unwrap_or(place);
    let place = canonical_bucket(place.to_owned());
    let (bucket, prefix) = place.split_once('/').unwrap_or((&place, ""));
    (bucket.to_owned(), prefix.to_owned())
}

/// The ARN of an access point in the form that has no slash.
pub fn canonical_bucket(bucket: String) -> String {
    if bucket.starts_with("arn:") {
        bucket.replacen(ACCESS_POINT_SLASH, ACCESS_POINT, 1)
    } else {
        bucket
    }
}

/// Source: S3 User Guide, "Bucket naming rules", without what other services allow beyond them.
pub fn check_bucket(bucket: &str) -> Result<(), String> {
    if DIRECTORY_ENDS.iter().any(|end| bucket.ends_with(end)) {
        return Err(format!(
            "{bucket:?} is a directory bucket (S3 Express One Zone): its listings are in no order, so that mediafs could not tell what is not there, and its ETags say nothing of the bytes: name a general purpose bucket"
        ));
    }
    if bucket.starts_with("arn:") {
        return check_arn(bucket);
    }
    let fits = (1..=255).contains(&bucket.len())
        && bucket
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':'));
    if fits {
        Ok(())
    } else {
        Err(format!("{bucket:?} is not a bucket name"))
    }
}

/// Refuses a name that no new bucket can have. One that is there may have it.
///
/// Source: S3 User Guide, "General purpose bucket naming rules".
pub fn check_new_bucket(bucket: &str) -> Result<(), ConfigError> {
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = NEW_NAME_CHARS.contains(&bucket.len())
        && bucket.chars().all(|c| is_end(c) || matches!(c, '-' | '.'))
        && bucket.starts_with(is_end)
        && bucket.ends_with(is_end)
        && !bucket.contains("..")
        && bucket.parse::<Ipv4Addr>().is_err()
        && !RESERVED_BEGINS.iter().any(|it| bucket.starts_with(it))
        && !RESERVED_ENDS.iter().any(|it| bucket.ends_with(it));
    if fits {
        return Ok(());
    }
    Err(ConfigError(format!(
        "bucket: there is none called {bucket:?}, and none can be created: the name of a new bucket has 3 to 63 characters (lower-case letters, digits, '-' and single '.'), begins and ends with a letter or digit, is no IP address, and has no beginning or end that S3 keeps for itself: name another"
    )))
}

/// Source: AWS Service Authorization Reference, "Resource types defined by Amazon S3".
fn check_arn(arn: &str) -> Result<(), String> {
    let fields: Vec<&str> = arn.split(':').collect();
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    match *fields.as_slice() {
        ["arn", _, "s3", "", _, "accesspoint", _] => Err(format!(
            "{arn:?} is an access point of several regions, whose buckets agree only later: name the access point of one region"
        )),
        ["arn", partition, "s3", region, account, "accesspoint", name]
            if [partition, region, account, name].into_iter().all(is_name) =>
        {
            Ok(())
        }
        [
            "arn",
            _,
            "s3-object-lambda" | "s3-outposts" | "s3express",
            ..,
        ] => Err(format!(
            "{arn:?}: access points of this kind lack conditional writes, or change what is read: name an access point of S3 itself, or the bucket"
        )),
        _ => Err(format!(
            "{arn:?} is no ARN of an access point, as in arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/PREFIX: name the bucket, or the alias of the access point (it ends in -s3alias)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_point_is_named_by_its_arn_with_a_prefix_behind_it() {
        let arn = "arn:aws:s3:eu-west-1:123456789012:accesspoint";
        for (place, prefix) in [
            (format!("{arn}/ap"), ""),
            (format!("{arn}:ap"), ""),
            (format!("s3://{arn}/ap/media/x"), "media/x"),
            (format!("{arn}:ap/media"), "media"),
        ] {
            let split = split_place(&place);
            assert_eq!(split, (format!("{arn}:ap"), prefix.to_owned()), "{place}");
            assert_eq!(check_bucket(&split.0), Ok(()));
        }
        assert_eq!(check_bucket("ap-abc123-s3alias"), Ok(()));
        let plain = split_place("s3://bucket/a/b");
        assert_eq!(plain, ("bucket".to_owned(), "a/b".to_owned()));
    }

    #[test]
    fn what_cannot_be_kept_is_refused_with_the_reason() {
        for (bucket, why) in [
            ("media--use1-az5--x-s3", "directory bucket"),
            ("ap--use1-az5--xa-s3", "no order"),
            ("arn:aws:s3:::bucket", "-s3alias"),
            (
                "arn:aws:s3::123456789012:accesspoint:a.mrap",
                "several regions",
            ),
            (
                "arn:aws:s3-object-lambda:eu-west-1:123456789012:accesspoint:ap",
                "conditional",
            ),
            ("arn:aws:s3:eu-west-1:1:accesspoint:", "is no ARN"),
            ("a/b", "is not a bucket name"),
            ("", "is not a bucket name"),
        ] {
            let told = check_bucket(bucket).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn a_new_bucket_has_a_name_that_s3_allows() {
        let longest = "a".repeat(63);
        for name in ["abc", "media-2.eu", "1a1", &longest, "a-.b"] {
            assert!(check_new_bucket(name).is_ok(), "{name}");
        }
        let too_long = "a".repeat(64);
        for name in [
            "",
            "ab",
            &too_long,
            "Media",
            "my_media",
            "m\u{fc}ll",
            "-abc",
            "abc-",
            ".abc",
            "a..b",
            "192.168.5.4",
            "xn--abc",
            "ap-1-s3alias",
            "arn:aws:s3:r:1:accesspoint:a",
        ] {
            let told = check_new_bucket(name).unwrap_err().to_string();
            assert!(told.contains("3 to 63 characters"), "{told}");
        }
    }
}
