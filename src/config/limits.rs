//! Sizes, counts and times within their limits, and what to say of those that are not.

use std::fs;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{ByteSize, Options, Period, Wrong};

const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// More threads only wait for each other: requests that wait hold none.
pub(super) const FUSE_THREADS_LIMIT: usize = 64;
/// Each request holds a part in memory.
pub(super) const UPLOAD_CONCURRENCY_LIMIT: usize = 256;
/// Ten years: far from the end of what a clock can add.
pub(super) const PERIOD_LIMIT: Duration = Duration::from_secs(3650 * 24 * 3600);

pub(super) fn block_size(size: Option<ByteSize>) -> Result<u64, Wrong> {
    const LIMITS: RangeInclusive<u64> = 4 * KIB..=16 * MIB;
    let bytes = size.map_or(128 * KIB, |size| size.0);
    if bytes.is_power_of_two() && LIMITS.contains(&bytes) {
        return Ok(bytes);
    }
    let limits = "a power of two from 4KiB to 16MiB";
    Err(("block-size", must_be(limits, bytes)))
}

pub(super) fn part_size(size: Option<ByteSize>) -> Result<u64, Wrong> {
    let bytes = size.map_or(8 * MIB, |size| size.0);
    if (5 * MIB..=512 * MIB).contains(&bytes) {
        return Ok(bytes);
    }
    Err(("part-size", must_be("from 5MiB to 512MiB", bytes)))
}

pub(super) fn copy_part_size(size: Option<ByteSize>) -> Result<u64, Wrong> {
    let bytes = size.map_or(512 * MIB, |size| size.0);
    if (5 * MIB..=5 * GIB).contains(&bytes) {
        return Ok(bytes);
    }
    Err(("copy-part-size", must_be("from 5MiB to 5GiB", bytes)))
}

pub(super) fn spool_size(size: Option<ByteSize>) -> Result<u64, Wrong> {
    match size {
        None => Ok(u64::MAX),
        Some(size) if size.0 < MIB => Err(("spool-size", must_be("at least 1MiB", size.0))),
        Some(size) => Ok(size.0),
    }
}

pub(super) fn memory_cache(size: Option<ByteSize>) -> Result<(), Wrong> {
    match (memory_of_machine(), size) {
        (Some(memory), Some(ByteSize(bytes))) if bytes > memory => {
            let has = format!(
                "at most this machine's memory, {} MiB",
                grouped(memory / MIB)
            );
            Err(("memory-cache", must_be(&has, bytes)))
        }
        _ => Ok(()),
    }
}

pub(super) fn cache_size(size: Option<ByteSize>) -> Result<u64, Wrong> {
    match size {
        None => Ok(10 * GIB),
        Some(size) if size.0 < 16 * MIB => Err(("cache-size", must_be("at least 16MiB", size.0))),
        Some(size) => Ok(size.0),
    }
}

/// Memory of the machine. Source: proc_meminfo(5).
pub(super) fn memory_of_machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(KIB)
}

/// What a size must be, and what was understood.
pub(super) fn must_be(limits: &str, bytes: u64) -> String {
    let meant = binary_twin(bytes).map_or_else(String::new, |(text, twin)| {
        format!("; {text} would be {}", grouped(twin))
    });
    format!("must be {limits}: this is {} bytes{meant}", grouped(bytes))
}

/// For 8M, which is 8,000,000: what 8MiB is, which was most likely meant.
fn binary_twin(bytes: u64) -> Option<(String, u64)> {
    let units = [("TiB", 4), ("GiB", 3), ("MiB", 2), ("KiB", 1)];
    let (unit, power, count) = units.into_iter().find_map(|(unit, power)| {
        let decimal = 1000_u64.pow(power);
        (bytes >= decimal && bytes.is_multiple_of(decimal)).then(|| (unit, power, bytes / decimal))
    })?;
    let twin = count.checked_mul(1024_u64.pow(power))?;
    Some((format!("{count}{unit}"), twin))
}

/// With a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What is set above its limit, in words.
pub(super) fn capped(options: &Options) -> Vec<String> {
    let counts = [
        ("fuse-threads", options.fuse_threads, FUSE_THREADS_LIMIT),
        (
            "upload-concurrency",
            options.upload_concurrency,
            UPLOAD_CONCURRENCY_LIMIT,
        ),
    ];
    let counts = counts.into_iter().filter_map(|(key, count, limit)| {
        let count = usize::from(count?);
        (count > limit).then(|| format!("{key} = {count} is above the limit: {limit} is used"))
    });
    let periods = [
        ("ttl", options.ttl),
        ("negative-ttl", options.negative_ttl),
        ("stale-ttl", options.stale_ttl),
        ("request-timeout", options.request_timeout),
        ("drain-timeout", options.drain_timeout),
        ("watchdog", options.watchdog),
    ];
    let periods = periods.into_iter().filter_map(|(key, period)| {
        let period = period?;
        let limit = Period(PERIOD_LIMIT);
        (period.0 > limit.0).then(|| format!("{key} is above the limit: {limit} is used"))
    });
    counts.chain(periods).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Option<ByteSize> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_size_in_powers_of_ten_is_told_with_the_one_that_was_meant() {
        let (key, told) = block_size(size("8M")).unwrap_err();
        assert_eq!(key, "block-size");
        assert_eq!(
            told,
            "must be a power of two from 4KiB to 16MiB: this is 8,000,000 bytes; 8MiB would be 8,388,608"
        );
        assert_eq!(block_size(size("8MiB")), Ok(8 << 20));
        let (_, told) = block_size(size("3MiB")).unwrap_err();
        assert!(told.ends_with("this is 3,145,728 bytes"), "{told}");
        let (_, told) = part_size(size("1G")).unwrap_err();
        assert!(told.contains("1GiB would be 1,073,741,824"), "{told}");
        assert_eq!(copy_part_size(size("1G")), Ok(1_000_000_000));
        let (_, told) = spool_size(size("500k")).unwrap_err();
        assert!(told.contains("500KiB would be 512,000"), "{told}");
    }

    #[test]
    fn a_cache_that_the_machine_has_no_memory_for_is_refused() {
        let (key, told) = memory_cache(size("1000TB")).unwrap_err();
        assert_eq!(key, "memory-cache");
        assert!(told.contains("this machine's memory"), "{told}");
        assert!(told.contains("1,000,000,000,000,000 bytes"), "{told}");
        assert_eq!(memory_cache(size("1MiB")), Ok(()));
    }
}
