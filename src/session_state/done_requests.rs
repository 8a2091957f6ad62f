//! The requests that were carried out last, or begun.

use std::collections::{BTreeMap, VecDeque};

use super::record::{Basis, Record};

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

/// What requests were about to change that may not be carried out yet, by their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BegunRequests(BTreeMap<u64, Basis>);

impl BegunRequests {
    pub(super) fn add(&mut self, request: u64, basis: Basis) {
        // One that failed does not end. The kernel counts upwards.
        if self.0.len() == DONE_LIMIT {
            self.0.pop_first();
        }
        self.0.insert(request, basis);
    }

    pub(super) fn remove(&mut self, request: u64) {
        self.0.remove(&request);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&u64, &Basis)> {
        self.0.iter()
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        self.iter().map(|(request, basis)| Record::Changes {
            request: *request,
            basis: basis.clone(),
        })
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
