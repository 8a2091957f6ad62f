//! What requests would cost at AWS.
//!
//! Source: aws.amazon.com/s3/pricing, S3 Standard, US East (N. Virginia), requests:
//! PUT, COPY, POST and LIST $0.005 for 1,000; GET and all other $0.0004 for 1,000;
//! DELETE and cancelled uploads nothing.

use std::time::Duration;

use super::answers::Cost;
use crate::store::StoreOp;

const WRITE_USD: f64 = 0.005 / 1000.0;
const READ_USD: f64 = 0.0004 / 1000.0;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The start of a mount tells nothing of a day.
const PACE_FROM: Duration = Duration::from_secs(60);
const PRICES: &str = "requests only, without storage and traffic: S3 Standard, us-east-1, USD 0.005 for 1,000 PUT, COPY, POST or LIST, USD 0.0004 for 1,000 GET and other, DELETE free (aws.amazon.com/s3/pricing)";

pub fn of(requests: impl Iterator<Item = (StoreOp, u64)>, uptime: Duration) -> Cost {
    let spent: f64 = requests.map(|(op, count)| price(op) * count as f64).sum();
    let days = uptime.max(PACE_FROM).as_secs_f64() / DAY.as_secs_f64();
    Cost {
        requests_usd: spent,
        requests_usd_per_day: spent / days,
        prices: PRICES.to_owned(),
    }
}

fn price(op: StoreOp) -> f64 {
    match op {
        StoreOp::Head
        | StoreOp::Tags
        | StoreOp::Get
        | StoreOp::GetVersioning
        | StoreOp::GetCors
        | StoreOp::BucketSettings => READ_USD,
        StoreOp::Put
        | StoreOp::Copy
        | StoreOp::List
        | StoreOp::CreateMultipart
        | StoreOp::UploadPart
        | StoreOp::UploadPartCopy
        | StoreOp::CompleteMultipart
        | StoreOp::ListParts
        | StoreOp::ListUploads => WRITE_USD,
        // Bulk deletes are POST requests, and free all the same.
        StoreOp::Delete | StoreOp::DeleteMany | StoreOp::AbortMultipart => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_costs_what_its_requests_do() {
        let half_a_day = DAY / 2;
        let requests = [
            (StoreOp::Put, 1000),
            (StoreOp::Get, 10_000),
            (StoreOp::DeleteMany, 1_000_000),
        ];
        let cost = of(requests.into_iter(), half_a_day);
        assert!((cost.requests_usd_per_day - 2.0 * (0.005 + 0.004)).abs() < 1e-9);
        let first = of([(StoreOp::List, 1)].into_iter(), Duration::ZERO);
        assert!((first.requests_usd_per_day - 0.005 / 1000.0 * 1440.0).abs() < 1e-9);
    }
}
