//! A barrier for writes, on behalf of who brings the mount's files elsewhere: it lasts as
//! long as was asked, whatever becomes of who asked.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use super::Served;
use super::commands::{BarrierEnd, EndBarrier, Flushed, Held, HoldRequest, Opener};
use super::flush::flush;
use crate::ops::OpenFor;
use crate::session::{FS_TYPE, mount_at};

/// Longest time that calls are held.
const HOLD_LIMIT: Duration = Duration::from_secs(3600);
/// In which another directory takes the mount's place.
const REPLACING_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const NOT_HELD: &str =
    "the barrier for writes is not there any more: its time was over, or the daemon was replaced";

#[derive(Debug, Default)]
pub struct Barrier(Mutex<Lease>);

#[derive(Debug, Default)]
struct Lease {
    /// Of the last one.
    number: u64,
    until: Option<Instant>,
}

/// Holds changes back, and waits for a time at which there is nothing that S3 does not
/// have. Where that does not come, they go on.
///
/// Errors: they are held already, in words.
pub async fn hold(served: &Arc<Served>, request: HoldRequest) -> Result<Held, String> {
    let within = Duration::from_millis(request.within_ms).min(HOLD_LIMIT);
    let until = Instant::now() + within;
    if !served.running.adapter.barrier.hold() {
        return Err("changes are held already".to_owned());
    }
    let number = served.barrier.begin(until);
    tokio::spawn(expire(served.clone(), number));
    let quiet = quiet(served, until).await;
    let held = quiet.is_ok() && served.running.adapter.barrier.is_held();
    if !held {
        served.running.adapter.barrier.lift();
    }
    let (writers, unsent) = quiet.err().unwrap_or_default();
    Ok(Held {
        held,
        number,
        writers,
        unsent,
    })
}

/// Errors: who still writes, and what is not sent.
async fn quiet(served: &Served, until: Instant) -> Result<(), (Vec<Opener>, Option<Flushed>)> {
    let running = &served.running;
    loop {
        // In this order: a call that had passed may have opened one.
        let is_quiet = running.adapter.barrier.is_quiet();
        let writers = running.ops.openers(OpenFor::Writing);
        if is_quiet && writers.is_empty() {
            break;
        }
        if Instant::now() >= until {
            return Err((writers.into_iter().map(Opener::from).collect(), None));
        }
        sleep(LOOK_EVERY).await;
    }
    let left = until.saturating_duration_since(Instant::now());
    match flush(served, "", left).await {
        Ok(flushed) if flushed.done => Ok(()),
        flushed => Err((Vec::new(), flushed.ok())),
    }
}

/// Ends a barrier whose time is over: whoever asked for it may be dead.
async fn expire(served: Arc<Served>, number: u64) {
    while let Some(until) = served.barrier.until(number) {
        sleep_until(until).await;
        if !served.barrier.is_over(number) {
            continue;
        }
        if !served.running.adapter.barrier.is_held() {
            return;
        }
        match is_in_place(&served) {
            true => {
                tracing::warn!("the barrier for writes is lifted: its time is over");
                served.running.adapter.barrier.lift();
            }
            // Whoever did it has died before it said so.
            false => served.running.adapter.barrier.send_away(),
        }
    }
}

fn is_in_place(served: &Served) -> bool {
    let there = mount_at(&served.running.mounted.mountpoint).ok().flatten();
    there.is_none_or(|there| there.fs_type == FS_TYPE)
}

impl Barrier {
    fn begin(&self, until: Instant) -> u64 {
        let mut lease = self.0.lock();
        lease.number += 1;
        lease.until = Some(until);
        lease.number
    }

    fn until(&self, number: u64) -> Option<Instant> {
        let lease = self.0.lock();
        lease.until.filter(|_| lease.number == number)
    }

    /// Whether the time of this one is over, which ends it.
    fn is_over(&self, number: u64) -> bool {
        let mut lease = self.0.lock();
        let until = lease.until.filter(|_| lease.number == number);
        let is_over = until.is_some_and(|until| until <= Instant::now());
        if is_over {
            lease.until = None;
        }
        is_over
    }

    /// Errors: it is over already, in words.
    pub fn end(&self, served: &Served, request: EndBarrier) -> Result<(), String> {
        let mut lease = self.0.lock();
        let barrier = &served.running.adapter.barrier;
        let is_there = lease.number == request.number && lease.until.is_some();
        if !is_there || !barrier.is_held() {
            return Err(NOT_HELD.to_owned());
        }
        match request.how {
            BarrierEnd::Replacing => {
                lease.until = lease.until.max(Some(Instant::now() + REPLACING_WITHIN));
                return Ok(());
            }
            BarrierEnd::Lift => barrier.lift(),
            BarrierEnd::Replaced => barrier.send_away(),
        }
        lease.until = None;
        Ok(())
    }
}
