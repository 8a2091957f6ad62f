//! Names of buckets, and what stands for one: the alias or the ARN of an access point.

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
        Err(format!("{bucket:?} is no bucket name"))
    }
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
            ("a/b", "is no bucket name"),
            ("", "is no bucket name"),
        ] {
            let told = check_bucket(bucket).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}
