//! What a failure of the SDK means.

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_smithy_checksums::body::validate;
use aws_smithy_http::endpoint::error::ResolveEndpointError;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use http_body_util::LengthLimitError;

use super::answer::{ANSWER_LIMIT_BYTES, ErrorIn200, root_of_whole};
use super::malformed::{NoDocument, described};
use super::region;
use crate::store::{Key, StoreError, StoreErrorKind, StoreOp};

/// Most of a server's words that are repeated.
const DETAIL_LIMIT_CHARS: usize = 1000;
/// Of an answer that cannot be read the name of its document tells what it is.
const ROOT_SHOWN_CHARS: usize = 64;

/// Translates an SDK error. What it tells never holds a secret: S3 echoes the
/// access key's name in some messages, never the key.
pub fn translate<E>(op: StoreOp, key: &Key, error: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + RequestId + Error + Send + Sync + 'static,
{
    if let Some(told) = cause::<ErrorIn200>(&error) {
        return of_error_in_200(op, key, told);
    }
    let (kind, detail) = meaning(&error);
    let mut translated = StoreError::new(kind, op, key.clone(), printable(&detail));
    if let SdkError::ServiceError(answer) = &error {
        translated.maybe_applied = answer.raw().status().is_success();
        let headers = answer.raw().headers();
        translated.region = region::named(answer.raw()).map(Into::into);
        translated.retry_after = headers.get("retry-after").and_then(seconds);
        translated.code = answer.err().code().map(printable).map(Into::into);
        translated.request_id = answer.err().request_id().map(printable).map(Into::into);
        if kind == StoreErrorKind::ClockSkew
            && let Some(difference) = headers.get("date").and_then(clock_difference)
        {
            translated.detail.push_str(&format!(" ({difference})"));
        }
    }
    translated
}

/// What it means, and how it is told.
fn meaning<E>(error: &SdkError<E, HttpResponse>) -> (StoreErrorKind, String)
where
    E: ProvideErrorMetadata + RequestId + Error + Send + Sync + 'static,
{
    match error {
        _ if has_cause::<LengthLimitError>(error) => (
            StoreErrorKind::Rejected,
            format!("the answer is longer than {ANSWER_LIMIT_BYTES} bytes"),
        ),
        // It may be whole the next time.
        _ if let Some(what) = cause::<NoDocument>(error) => {
            (StoreErrorKind::Malformed, what.to_string())
        }
        SdkError::ServiceError(answer) if is_whole_but_unreadable(answer.raw()) => {
            (StoreErrorKind::Rejected, of_unreadable(answer.raw()))
        }
        // Of a header that cannot be read, the SDK has the name.
        SdkError::ServiceError(answer)
            if answer.raw().status().is_success() && answer.err().code().is_none() =>
        {
            (StoreErrorKind::Malformed, chain(answer.err()))
        }
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let kind = match (answer.err().code(), region::named(answer.raw())) {
                // The answer to a HEAD has no body to say so.
                (None, Some(_)) if status == 400 => StoreErrorKind::WrongRegion,
                (code, _) => kind_of(status, code),
            };
            (kind, service_detail(status, answer.err(), answer.raw()))
        }
        SdkError::TimeoutError(_) => (StoreErrorKind::TimedOut, "no answer in time".to_owned()),
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_)
            if has_cause::<CredentialsError>(error) =>
        {
            (StoreErrorKind::Credentials, chain(error))
        }
        SdkError::DispatchFailure(_) if is_untrusted(error) => {
            (StoreErrorKind::Untrusted, chain(error))
        }
        // It never was a request.
        SdkError::DispatchFailure(failure)
            if failure.is_user() || has_cause::<ResolveEndpointError>(error) =>
        {
            (StoreErrorKind::Rejected, chain(error))
        }
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            (StoreErrorKind::TimedOut, chain(error))
        }
        SdkError::DispatchFailure(_) => (StoreErrorKind::Unreachable, chain(error)),
        SdkError::ResponseError(answer) => {
            (kind_of(answer.raw().status().as_u16(), None), chain(error))
        }
        _ => (StoreErrorKind::Rejected, chain(error)),
    }
}

fn of_unreadable(answer: &HttpResponse) -> String {
    let root = answer.body().bytes().and_then(root_of_whole);
    let root: String = root
        .unwrap_or_default()
        .chars()
        .take(ROOT_SHOWN_CHARS)
        .collect();
    format!("the answer has a form that S3 does not have: <{root}>")
}

/// An error that came with the status of a success.
pub fn of_error_in_200(op: StoreOp, key: &Key, told: &ErrorIn200) -> StoreError {
    let kind = kind_of_code(&told.code).unwrap_or(StoreErrorKind::Rejected);
    let id = told.request_id.as_deref().map(printable);
    let of_request = id
        .as_ref()
        .map_or_else(String::new, |id| format!(" (request {id})"));
    let detail = format!("{}{of_request}", printable(&told.to_string()));
    StoreError {
        code: Some(printable(&told.code).into()),
        request_id: id.map(Into::into),
        ..StoreError::new(kind, op, key.clone(), detail)
    }
}

/// A `Retry-After` in seconds; as a date it is of no use where clocks differ.
///
/// Source: RFC 9110, section 10.2.3.
fn seconds(header: &str) -> Option<Duration> {
    header.trim().parse().ok().map(Duration::from_secs)
}

/// How this machine's clock differs from that of a server that sent this `Date`.
fn clock_difference(date: &str) -> Option<String> {
    let theirs = DateTime::from_str(date, Format::HttpDate).ok()?;
    let theirs = SystemTime::try_from(theirs).ok()?;
    Some(match SystemTime::now().duration_since(theirs) {
        Ok(ahead) => format!("this machine's clock is {} ahead", whole(ahead)),
        Err(behind) => format!(
            "this machine's clock is {} behind",
            whole(behind.duration())
        ),
    })
}

fn whole(span: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(span.as_secs()))
}

/// A server's words, of which no log has more than a line.
fn printable(detail: &str) -> String {
    let shown: String = detail.chars().take(DETAIL_LIMIT_CHARS).collect();
    shown.escape_debug().to_string()
}

/// What it means that the body of an answer did not come to its end.
pub fn kind_of_broken_body(error: &(dyn Error + 'static)) -> StoreErrorKind {
    if has_cause::<validate::Error>(error) {
        StoreErrorKind::Corrupt
    } else {
        StoreErrorKind::Unreachable
    }
}

/// The error and its causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // Its `source` would leave out what it holds.
        match error.downcast_ref::<io::Error>() {
            Some(outer) => outer.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// The first cause of the error that is of this type.
pub(super) fn cause<'a, C: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a C> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Whether some cause of the error is of this type.
pub(super) fn has_cause<C: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    cause::<C>(error).is_some()
}

/// Whether the server's certificate was not trusted.
fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    let mut tls = causes(error).filter_map(|cause| cause.downcast_ref::<rustls::Error>());
    tls.any(|error| matches!(error, rustls::Error::InvalidCertificate(_)))
}

/// The error and its causes, each said once.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = causes(error).map(ToString::to_string).collect();
    parts.dedup();
    parts.join(": ")
}

/// Whether a request was carried out and its answer has come to its end, in a form of
/// the store's own: it would have it the next time too.
fn is_whole_but_unreadable(answer: &HttpResponse) -> bool {
    let root = answer.body().bytes().and_then(root_of_whole);
    // A page comes from a proxy, and an error is one that may pass.
    answer.status().is_success() && root.is_some_and(|root| !matches!(root, "Error" | "html"))
}

fn service_detail<E>(status: u16, error: &E, raw: &HttpResponse) -> String
where
    E: ProvideErrorMetadata + RequestId + Error,
{
    let mut detail = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => {
            let body = raw.body().bytes().unwrap_or_default();
            let page = described(raw.headers(), body).map(|what| format!(", {what}"));
            format!("HTTP {status}{}", page.unwrap_or_default())
        }
    };
    // Some stores name it in every error.
    let is_elsewhere = (300..400).contains(&status)
        || matches!(error.code(), None | Some("AuthorizationHeaderMalformed"));
    if let Some(region) = region::named(raw).filter(|_| is_elsewhere) {
        detail.push_str(&format!(" (the bucket is in region {region})"));
    }
    if let Some(id) = error.request_id() {
        detail.push_str(&format!(" (request {id})"));
    }
    detail
}

/// Meaning of an answer by its code, else by its HTTP status.
///
/// Source: S3 API, "Error responses".
pub fn kind_of(status: u16, code: Option<&str>) -> StoreErrorKind {
    let told = code.and_then(kind_of_code);
    told.unwrap_or_else(|| kind_of_status(status))
}

/// Meaning of a code that is known.
pub fn kind_of_code(code: &str) -> Option<StoreErrorKind> {
    use StoreErrorKind as Kind;
    Some(match code {
        "NoSuchKey" | "NotFound" => Kind::NotFound,
        "NoSuchUpload" | "InvalidPart" => Kind::NoSuchUpload,
        "NoSuchBucket" => Kind::NoSuchBucket,
        "PreconditionFailed" => Kind::PreconditionFailed,
        "ConditionalRequestConflict" | "OperationAborted" => Kind::Conflict,
        "InvalidRange" => Kind::InvalidRange,
        "AccessDenied" | "AllAccessDisabled" => Kind::AccessDenied,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired" => Kind::Credentials,
        "RequestTimeTooSkewed" => Kind::ClockSkew,
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => Kind::WrongRegion,
        "InvalidObjectState" => Kind::Archived,
        "EntityTooLarge" => Kind::TooLarge,
        "BadDigest"
        | "InvalidDigest"
        | "XAmzContentChecksumMismatch"
        | "XAmzContentSHA256Mismatch" => Kind::Corrupt,
        "NotImplemented" | "MethodNotAllowed" => Kind::Unsupported,
        // Ceph, Wasabi and others; MinIO; B2.
        "QuotaExceeded"
        | "StorageQuotaExceeded"
        | "XMinioAdminBucketQuotaExceeded"
        | "InsufficientStorageSpace"
        | "storage_cap_exceeded"
        | "cap_exceeded" => Kind::Quota,
        "InsufficientStorage" | "XMinioStorageFull" | "StorageFull" | "NoSpaceLeft" => Kind::Full,
        // Those of AWS: aws-runtime, `THROTTLING_ERRORS`; and of MinIO.
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "TooManyRequests"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "BandwidthLimitExceeded"
        | "ProvisionedThroughputExceededException"
        | "TransactionInProgressException"
        | "EC2ThrottledException"
        | "PriorRequestNotComplete"
        | "KMS.ThrottlingException"
        // The body did not arrive whole: it may the next time.
        | "IncompleteBody" => Kind::Throttled,
        "RequestTimeout" => Kind::TimedOut,
        "InternalError" | "ServiceUnavailable" => Kind::Server,
        _ => return None,
    })
}

fn kind_of_status(status: u16) -> StoreErrorKind {
    use StoreErrorKind as Kind;
    match status {
        301 | 307 => Kind::WrongRegion,
        401 | 403 => Kind::AccessDenied,
        404 => Kind::NotFound,
        408 => Kind::TimedOut,
        412 => Kind::PreconditionFailed,
        416 => Kind::InvalidRange,
        429 => Kind::Throttled,
        405 | 501 => Kind::Unsupported,
        507 => Kind::Full,
        // A 200 whose body is an error that no code explains.
        200..=299 | 500..=599 => Kind::Server,
        _ => Kind::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_decides_before_the_status() {
        assert_eq!(
            kind_of(403, Some("RequestTimeTooSkewed")),
            StoreErrorKind::ClockSkew
        );
        assert_eq!(
            kind_of(403, Some("SignatureDoesNotMatch")),
            StoreErrorKind::Credentials
        );
        assert_eq!(
            kind_of(404, Some("NoSuchBucket")),
            StoreErrorKind::NoSuchBucket
        );
        assert_eq!(kind_of(404, None), StoreErrorKind::NotFound);
        assert_eq!(kind_of(503, Some("SlowDown")), StoreErrorKind::Throttled);
        assert_eq!(kind_of(200, Some("InternalError")), StoreErrorKind::Server);
        assert_eq!(kind_of(400, Some("MadeUp")), StoreErrorKind::Rejected);
        assert_eq!(kind_of(403, Some("QuotaExceeded")), StoreErrorKind::Quota);
    }

    #[test]
    fn a_status_without_a_known_code_means_no_more_than_it_says() {
        let meaning = |status| kind_of(status, Some("MadeUp"));
        // Of a lost race S3 says 412, or a code of 409; a proxy's limit is not S3's.
        assert_eq!(meaning(409), StoreErrorKind::Rejected);
        assert_eq!(meaning(413), StoreErrorKind::Rejected);
        assert_eq!(meaning(412), StoreErrorKind::PreconditionFailed);
        assert_eq!(meaning(507), StoreErrorKind::Full);
        assert_eq!(meaning(405), StoreErrorKind::Unsupported);
        assert_eq!(kind_of(413, None), StoreErrorKind::Rejected);
    }

    #[test]
    fn a_servers_date_tells_how_far_the_clock_is_off() {
        let ago = DateTime::from(SystemTime::now() - Duration::from_secs(7200));
        let date = ago.fmt(Format::HttpDate).unwrap();
        let told = clock_difference(&date).unwrap();
        assert!(told.starts_with("this machine's clock is 2h"), "{told}");
        assert!(told.ends_with(" ahead"), "{told}");
        let later = DateTime::from(SystemTime::now() + Duration::from_secs(90));
        let told = clock_difference(&later.fmt(Format::HttpDate).unwrap()).unwrap();
        assert!(told.ends_with(" behind"), "{told}");
        assert_eq!(clock_difference("yesterday"), None);
    }
}
