//! What is wrong with a store's listings, told once each.

use std::sync::Once;

#[derive(Debug)]
pub struct ListQuirks {
    order: Once,
    end: Once,
}

impl ListQuirks {
    pub fn new() -> Self {
        Self {
            order: Once::new(),
            end: Once::new(),
        }
    }

    /// A page is in no order that keys have.
    pub fn log_unordered(&self, prefix: &str) {
        self.order.call_once(|| {
            tracing::error!(
                prefix,
                "this store's listings are not in the order of keys (a directory bucket?): mediafs cannot tell from them what is not there; they are EIO"
            );
        });
    }

    /// A page is not the last, and nothing leads to the next.
    pub fn log_no_next_page(&self, prefix: &str) {
        self.end.call_once(|| {
            tracing::error!(
                prefix,
                "this store's listings do not go on: it names no next page, and heeds neither start-after nor marker; directories of more than one page are EIO"
            );
        });
    }
}
