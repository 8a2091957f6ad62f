//! Who gave the command, and is told how it goes.

use super::plan_counts::PlanCounts;

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
