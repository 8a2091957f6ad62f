//! The requests that were carried out last.

use std::collections::VecDeque;

/// More than are ever carried out and not answered yet, so that a successor is asked
/// for none that is older.
const DONE_LIMIT: usize = 4096;

/// Numbers of requests in the order in which they were carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DoneRequests(VecDeque<u64>);

impl DoneRequests {
    pub(super) fn add(&mut self, request: u64) {
        if self.0.back() == Some(&request) {
            return;
        }
        if self.0.len() == DONE_LIMIT {
            self.0.pop_front();
        }
        self.0.push_back(request);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_requests_are_kept_each_once_where_it_is_recorded_twice() {
        let mut done = DoneRequests::default();
        for request in 0..DONE_LIMIT as u64 + 2 {
            done.add(request);
            done.add(request);
        }
        let kept: Vec<_> = done.iter().collect();
        assert_eq!(kept, (2..DONE_LIMIT as u64 + 2).collect::<Vec<_>>());
    }
}
