//! The permissions of IAM that requests take: the one list of what a mount needs.
//!
//! Source: Amazon S3 User Guide, "Required permissions for Amazon S3 API operations".

pub const LIST: &str = "s3:ListBucket";
pub const LIST_UPLOADS: &str = "s3:ListBucketMultipartUploads";
pub const READ: &str = "s3:GetObject";
pub const WRITE: &str = "s3:PutObject";
pub const DELETE: &str = "s3:DeleteObject";
pub const ABORT: &str = "s3:AbortMultipartUpload";
pub const LIST_PARTS: &str = "s3:ListMultipartUploadParts";
pub const READ_TAGS: &str = "s3:GetObjectTagging";
pub const WRITE_TAGS: &str = "s3:PutObjectTagging";
/// For `--acl` alone.
pub const WRITE_ACL: &str = "s3:PutObjectAcl";

/// Of a mount that writes, on its objects.
pub const ON_OBJECTS: [&str; 7] = [
    READ, WRITE, DELETE, ABORT, LIST_PARTS, READ_TAGS, WRITE_TAGS,
];
/// Of a mount that reads, on its objects.
pub const ON_OBJECTS_READ_ONLY: [&str; 1] = [READ];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_about_privileges_has_every_permission() {
        let page = include_str!("../cli/help/privileges.md");
        for permission in ON_OBJECTS.into_iter().chain([LIST, LIST_UPLOADS]) {
            assert!(page.contains(permission), "{permission}");
        }
    }
}
