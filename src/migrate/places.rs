//! Two places of objects side by side, key by key in one order.

use std::io;
use std::sync::Arc;

use super::entry::Object;
use super::listing::Listing;
use crate::store::{Key, ObjectStore};

/// A bucket, and where in it.
#[derive(Debug, Clone)]
pub struct ObjectPlace {
    pub store: Arc<dyn ObjectStore>,
    pub prefix: String,
}

impl ObjectPlace {
    pub fn key_of(&self, path: &str) -> Key {
        Key::new(format!("{}{path}", self.prefix))
    }
}

/// A path, and in which of both places it is.
#[derive(Debug, Clone)]
pub enum ObjectPair {
    Source(Object),
    Target(Object),
    Both(Object, Object),
}

impl ObjectPair {
    pub fn path(&self) -> &str {
        match self {
            Self::Source(object) | Self::Target(object) | Self::Both(object, _) => &object.path,
        }
    }
}

#[derive(Debug)]
pub struct Listings {
    source: Listing,
    target: Listing,
    next: (Option<Object>, Option<Object>),
}

impl Listings {
    pub fn new(mut source: Listing, mut target: Listing) -> io::Result<Self> {
        Ok(Self {
            next: (source.next()?, target.next()?),
            source,
            target,
        })
    }

    /// The next path in the order of bytes. Errors: the disk's.
    pub fn next(&mut self) -> io::Result<Option<ObjectPair>> {
        let (source, target) = (self.next.0.take(), self.next.1.take());
        let pair = match (source, target) {
            (None, None) => return Ok(None),
            (Some(source), None) => ObjectPair::Source(source),
            (None, Some(target)) => ObjectPair::Target(target),
            (Some(source), Some(target)) => match source.path.cmp(&target.path) {
                std::cmp::Ordering::Equal => ObjectPair::Both(source, target),
                std::cmp::Ordering::Less => {
                    self.next.1 = Some(target);
                    ObjectPair::Source(source)
                }
                std::cmp::Ordering::Greater => {
                    self.next.0 = Some(source);
                    ObjectPair::Target(target)
                }
            },
        };
        match &pair {
            ObjectPair::Source(_) => self.next.0 = self.source.next()?,
            ObjectPair::Target(_) => self.next.1 = self.target.next()?,
            ObjectPair::Both(..) => self.next = (self.source.next()?, self.target.next()?),
        }
        Ok(Some(pair))
    }
}
