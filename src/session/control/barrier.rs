//! A barrier for writes, on behalf of who brings the mount's files elsewhere: it lasts as
//! long as was asked, whatever becomes of who asked.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use super::Served;
use super::commands::{BarrierEnd, EndBarrier, Flushed, Held, HoldRequest, Opener};
use super::flush::flush;
use crate::fuse::WriteBarrier;
use crate::ops::OpenFor;
use crate::session::{FS_TYPE, mount_at};

/// Longest time that calls are held.
const HOLD_LIMIT: Duration = Duration::from_secs(3600);
/// In which another directory takes the mount's place.
const REPLACING_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const NOT_REPLACED: &str = "no directory has taken the mount's place";
const NOT_HELD: &str =
    "changes are not held any more: the time limit was over, or the daemon was replaced";

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
    let barrier = &served.running.adapter.barrier;
    let number = served.barrier.begin(barrier, until);
    let number = number.ok_or("changes are held already")?;
    tokio::spawn(expire(served.clone(), number));
    let quiet = quiet(served, until).await;
    let held = quiet.is_ok() && served.barrier.until(number).is_some();
    if !held {
        // Nobody knows its number yet, so nobody can extend it.
        let end = WriteBarrier::lift;
        served.barrier.end_by(barrier, number, until, end);
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
        let is_any_writer = || !running.ops.controls().openers(OpenFor::Writing).is_empty();
        if running.adapter.barrier.hold_all(is_any_writer) {
            break;
        }
        if Instant::now() >= until {
            let writers = running.ops.controls().openers(OpenFor::Writing);
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
    let barrier = &served.running.adapter.barrier;
    while let Some(until) = served.barrier.until(number) {
        sleep_until(until).await;
        let end = match is_in_place(&served) {
            true => WriteBarrier::lift,
            // Whoever did it has died before it said so.
            false => WriteBarrier::send_away,
        };
        if served.barrier.end_by(barrier, number, Instant::now(), end) {
            tracing::warn!("held changes go on: the time limit is over");
        }
    }
}

fn is_in_place(served: &Served) -> bool {
    let there = mount_at(&served.running.notifier.mountpoint())
        .ok()
        .flatten();
    there.is_none_or(|there| there.fs_type == FS_TYPE)
}

impl Barrier {
    /// None where changes are held already, or go elsewhere.
    fn begin(&self, barrier: &WriteBarrier, until: Instant) -> Option<u64> {
        let mut lease = self.0.lock();
        barrier.gather().then(|| {
            lease.number += 1;
            lease.until = Some(until);
            lease.number
        })
    }

    fn until(&self, number: u64) -> Option<Instant> {
        let lease = self.0.lock();
        lease.until.filter(|_| lease.number == number)
    }

    /// Ends this one by this time at the latest, and no other that has begun since.
    /// Returns whether that ended it.
    fn end_by(
        &self,
        barrier: &WriteBarrier,
        number: u64,
        now: Instant,
        end: impl Fn(&WriteBarrier),
    ) -> bool {
        let mut lease = self.0.lock();
        let until = lease.until.filter(|_| lease.number == number);
        let ends = until.is_some_and(|until| until <= now);
        if ends {
            end(barrier);
            lease.until = None;
        }
        ends
    }

    /// Errors: it is over already, in words.
    pub fn end(&self, served: &Served, request: EndBarrier) -> Result<(), String> {
        let mut lease = self.0.lock();
        let barrier = &served.running.adapter.barrier;
        if request.how == BarrierEnd::Found {
            if barrier.is_held() && !is_in_place(served) {
                barrier.send_away();
                lease.until = None;
            }
            return match barrier.is_replaced() {
                true => Ok(()),
                false => Err(NOT_REPLACED.to_owned()),
            };
        }
        // It saw by itself what is in the mount's place when its time was over.
        let is_last = lease.number == request.number;
        if is_last && request.how == BarrierEnd::Replaced && barrier.is_replaced() {
            return Ok(());
        }
        let is_there = is_last && lease.until.is_some();
        if !is_there || !barrier.is_held() {
            return Err(NOT_HELD.to_owned());
        }
        match request.how {
            BarrierEnd::Replacing => {
                lease.until = lease.until.max(Some(Instant::now() + REPLACING_WITHIN));
                return Ok(());
            }
            BarrierEnd::Lift => barrier.lift(),
            BarrierEnd::Replaced | BarrierEnd::Found => barrier.send_away(),
        }
        lease.until = None;
        Ok(())
    }
}
