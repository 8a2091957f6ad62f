//! Inodes as replies to the kernel.

use crate::files::{Attr, AttrValidity, AttributeView};
use crate::namespace::Pin;

/// An inode given to the kernel, which counts it as one more reference.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub attr: Attr,
    pub validity: AttrValidity,
}

/// Counts the reference that the kernel gets by it.
pub fn reply_entry(inode: &Pin, attributes: &AttributeView) -> Entry {
    let table = attributes.namespace.table();
    table.add_lookup(inode.ino);
    table.commit();
    let (attr, validity) = attributes.attr(inode);
    Entry { attr, validity }
}
