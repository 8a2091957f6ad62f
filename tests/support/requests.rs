//! What a request of S3 is and which keys it is for.

/// The keys that a request changes or reads, without the bucket; the prefix of a listing.
pub fn keys(head: &str, body: &[u8]) -> Vec<String> {
    let target = head.split(' ').nth(1).unwrap();
    let path = target.split('?').next().unwrap();
    let decode = |text: &str| {
        let bytes = percent_encoding::percent_decode_str(text);
        bytes.decode_utf8_lossy().into_owned()
    };
    if operation(head) == "DeleteObjects" {
        let body = String::from_utf8_lossy(body);
        let keys = body.split("<Key>").skip(1);
        return keys
            .filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned()))
            .collect();
    }
    if matches!(operation(head), "ListObjectsV2" | "ListObjects") {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let prefix = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("prefix="));
        return vec![decode(prefix.unwrap_or_default())];
    }
    let key = path.trim_start_matches('/').split_once('/');
    key.map(|(_, key)| decode(key)).into_iter().collect()
}

/// The S3 operation that a request is. Source: Amazon S3 API Reference, "Actions".
pub fn operation(head: &str) -> &'static str {
    let (method, rest) = head.split_once(' ').unwrap();
    let target = rest.split(' ').next().unwrap();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let has = |name: &str| {
        let mut names = query.split('&').map(|pair| pair.split('=').next().unwrap());
        names.any(|found| found == name)
    };
    let settings = [
        ("lifecycle", "GetBucketLifecycle", "PutBucketLifecycle"),
        ("cors", "GetBucketCors", "PutBucketCors"),
        ("versioning", "GetBucketVersioning", "PutBucketVersioning"),
        ("encryption", "GetBucketEncryption", "PutBucketEncryption"),
        (
            "publicAccessBlock",
            "GetPublicAccessBlock",
            "PutPublicAccessBlock",
        ),
        ("acl", "GetBucketAcl", "PutBucketAcl"),
    ];
    if let Some((_, get, put)) = settings.into_iter().find(|(name, _, _)| has(name)) {
        return if method == "GET" { get } else { put };
    }
    let path = target.split('?').next().unwrap().trim_matches('/');
    let copies = header(head, "x-amz-copy-source").is_some();
    match method {
        "PUT" if has("partNumber") && copies => "UploadPartCopy",
        "PUT" if has("partNumber") => "UploadPart",
        "PUT" if copies => "CopyObject",
        "PUT" if !path.contains('/') => "CreateBucket",
        "PUT" => "PutObject",
        "POST" if has("uploads") => "CreateMultipartUpload",
        "POST" if has("uploadId") => "CompleteMultipartUpload",
        "POST" if has("delete") => "DeleteObjects",
        "DELETE" if has("uploadId") => "AbortMultipartUpload",
        "DELETE" => "DeleteObject",
        "HEAD" => "HeadObject",
        "GET" if has("list-type") => "ListObjectsV2",
        "GET" if has("uploadId") => "ListParts",
        "GET" if has("uploads") => "ListMultipartUploads",
        "GET" if has("tagging") => "GetObjectTagging",
        "GET" if has("uploads") => "ListMultipartUploads",
        "GET" if has("prefix") || has("max-keys") => "ListObjects",
        "GET" => "GetObject",
        other => panic!("{other} {target}"),
    }
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(found, _)| found.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
}
