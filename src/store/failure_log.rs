//! Failures in the log: the store's own words as fields, and what to do.

use super::{StoreError, StoreErrorKind, StoreOp};

/// What a line about a failure has beside the error's text.
#[derive(Debug, Default, Clone, Copy)]
pub struct FailureFacts<'a> {
    pub op: Option<&'static str>,
    pub key: Option<&'a str>,
    pub code: Option<&'a str>,
    pub request_id: Option<&'a str>,
    pub advice: Option<&'static str>,
}

/// Logs that something failed, in one line: `log_failure!(warn, &error, [ino,], "failed")`.
/// The error has `facts()`.
macro_rules! log_failure {
    ($level:ident, $error:expr, [$($fields:tt)*], $($message:tt)+) => {{
        let error = $error;
        let facts = error.facts();
        tracing::$level!(
            $($fields)*
            %error,
            s3.op = facts.op,
            s3.key = facts.key,
            s3.code = facts.code,
            s3.request_id = facts.request_id,
            advice = facts.advice,
            $($message)+
        );
    }};
}
pub(crate) use log_failure;

impl StoreError {
    pub fn facts(&self) -> FailureFacts<'_> {
        FailureFacts {
            op: Some(self.op.name()),
            key: Some(self.key.as_str()),
            code: self.code.as_deref(),
            request_id: self.request_id.as_deref(),
            advice: advice(self.op, self.kind),
        }
    }
}

/// What an operator can do about it; none where it passes by itself, or nothing is wrong.
fn advice(op: StoreOp, kind: StoreErrorKind) -> Option<&'static str> {
    use StoreErrorKind as Kind;
    Some(match kind {
        Kind::AccessDenied => "'mediafs doctor' names the permission that is missing",
        Kind::Credentials => "renew the credentials; 'mediafs reload' has them read at once",
        Kind::ClockSkew => "set this machine's clock, for example 'timedatectl set-ntp true'",
        Kind::NoSuchBucket => "check the name of the bucket and endpoint-url",
        Kind::WrongRegion => "set the region of the bucket with --region",
        Kind::Archived => "restore the object (S3 RestoreObject), then read again",
        Kind::TooLarge => "see 'mediafs help limits'",
        Kind::Quota | Kind::Full => "make room in S3: what waits in the spool is sent then",
        Kind::Unreachable | Kind::TimedOut => {
            "check network, DNS and proxy: 'mediafs doctor'; see 'mediafs help outages'"
        }
        Kind::Untrusted => "name the file of the server's CA with --ca-bundle",
        Kind::Corrupt if op.asks() => {
            "read it again; if it stays so, restore the object from a backup"
        }
        Kind::Corrupt => {
            "the store says that the bytes came damaged: look for what changes them on the way (a proxy, memory), or try another --upload-checksum"
        }
        Kind::Malformed => {
            "check endpoint-url, and what is before the store: that is no answer of S3; see 'mediafs help stores'"
        }
        Kind::Unsupported | Kind::Rejected => {
            "'mediafs doctor' tries each request; see 'mediafs help stores'"
        }
        Kind::NotFound
        | Kind::NoSuchUpload
        | Kind::PreconditionFailed
        | Kind::Conflict
        | Kind::InvalidRange
        | Kind::Throttled
        | Kind::Server => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_bytes_of_a_write_are_no_matter_of_a_backup() {
        let of = |op| advice(op, StoreErrorKind::Corrupt).unwrap();
        assert!(of(StoreOp::Get).contains("backup"));
        for op in [StoreOp::Put, StoreOp::UploadPart] {
            assert!(!of(op).contains("backup"), "{op}");
            assert!(of(op).contains("--upload-checksum"), "{op}");
        }
    }
}
