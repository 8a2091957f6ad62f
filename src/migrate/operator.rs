//! Who gave the command, and is told how it goes.

use std::io;
use std::sync::Arc;

use super::judge::Comparison;
use super::local_file::blocking;
use super::plan_counts::PlanCounts;

/// What a run with `--fast` is.
const BY_SIZE_AND_TIME: &str =
    "--fast: the same size and time counts as equal, and no checksum is compared then";

/// Whoever gave the command.
pub trait Operator: Send + Sync {
    /// Says something on the way.
    fn tell(&self, text: &str);

    /// Whether what is planned may be done.
    fn approves(&self, plan: &PlanCounts) -> bool;

    /// So much is to be moved; it begins.
    fn begins(&self, names: u64, bytes: u64);

    /// So much more is moved.
    fn moved(&self, names: u64, bytes: u64);

    fn ends(&self);
}

/// Who is asked, and about what kind of source.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    pub operator: &'a Arc<dyn Operator>,
    pub allow_empty: bool,
    pub comparison: Comparison,
}

impl Asking<'_> {
    /// Says what is not proved by the way of comparing.
    pub fn tell_of_comparison(&self) {
        if self.comparison == Comparison::SizeAndTime {
            self.operator.tell(BY_SIZE_AND_TIME);
        }
    }

    /// Asks; a signal ends the wait for an answer too.
    pub async fn is_approved(&self, plan: &PlanCounts) -> io::Result<bool> {
        let (operator, plan) = (self.operator.clone(), plan.clone());
        blocking(move || Ok(operator.approves(&plan))).await
    }
}
