//! symlink and readlink: an object whose bytes are the target, as s3fs stores it.

use std::sync::Arc;

use bytes::Bytes;

use super::Ops;
use super::lookup::Entry;
use crate::error::FsError;
use crate::files::{Caller, Delivery, LowerLayer, check_awaited, whole_seconds};
use crate::namespace::{Attributes, Name, Pin};
use crate::store::{
    ETag, GetRequest, ObjectHeaders, ObjectStore, PutRequest, StoreErrorKind, WriteCondition,
};
use crate::vocabulary::{Ino, Kind, ObjectVersion};

/// Longest target. Source: limits.h, `PATH_MAX`, with its final NUL.
const TARGET_LIMIT_BYTES: u64 = 4095;
/// Permissions that symlinks have in Linux. Source: symlink(7).
const SYMLINK_MODE: u16 = 0o777;

impl Ops {
    /// Errors: `NotPermitted` where attributes are not stored with objects;
    /// `Exists`, `ReadOnly`, `NameTooLong`, the store's.
    pub async fn symlink(
        &self,
        parent: Ino,
        name: &Name,
        target: Bytes,
        maker: Caller,
    ) -> Result<Entry, FsError> {
        let attempt = maker.request.attempt;
        let (parent, _subtrees) = self.change_name(parent, name, attempt).await?;
        if !self.namespace.stores_attributes() {
            return Err(FsError::NotPermitted);
        }
        if target.len() as u64 > TARGET_LIMIT_BYTES {
            return Err(FsError::NameTooLong);
        }
        match self.namespace.lookup(&parent, name).await {
            Ok(made) if made.kind == Kind::Symlink && attempt == Delivery::Resent => {
                return if self.readlink(made.ino).await? == target {
                    Ok(self.give_entry(&made))
                } else {
                    Err(FsError::EXISTS)
                };
            }
            Ok(_) => return Err(FsError::EXISTS),
            Err(FsError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        check_awaited()?;
        let link = self.namespace.create_local(&parent, name, Kind::Symlink)?;
        self.attributes
            .init_attributes(&parent, &link, SYMLINK_MODE, maker);
        if let Err(error) = self.put_node(&parent, name, &link, target, None).await {
            self.namespace.roll_back_create(&link);
            return Err(error);
        }
        Ok(self.give_entry(&link))
    }

    /// Stores the object of a new inode that is no file.
    pub(super) async fn put_node(
        &self,
        parent: &Pin,
        name: &Name,
        inode: &Pin,
        body: Bytes,
        rdev: Option<u32>,
    ) -> Result<(), FsError> {
        let attributes = Attributes {
            rdev,
            ..inode.state().effective_attributes()
        };
        let headers = ObjectHeaders {
            content_type: Some("application/octet-stream".to_owned()),
            ..attributes.encode(inode.kind)?
        };
        let size_bytes = body.len() as u64;
        let request = PutRequest {
            key: self.namespace.child_key(parent.ino, name)?,
            body,
            headers: headers.clone(),
            condition: WriteCondition::IfAbsent,
        };
        let etag = self.put_new(request).await?;
        let version = ObjectVersion {
            etag,
            size_bytes,
            last_modified: whole_seconds(std::time::SystemTime::now()),
        };
        // First: at every moment it is known from one or the other.
        self.namespace.record_uploaded(inode, version);
        inode.state().local = None;
        let attributes = Arc::new(Attributes::decode(headers));
        self.namespace.record_attributes(inode, attributes);
        self.namespace.entry_added(parent).await;
        Ok(())
    }

    /// Puts an object under a name that has none. Errors: `Exists`, the store's.
    async fn put_new(&self, request: PutRequest) -> Result<ETag, FsError> {
        let refusal = match self.store.put(request.clone()).await {
            Ok(made) => return Ok(made.etag),
            Err(error) if error.kind != StoreErrorKind::PreconditionFailed => {
                return Err(error.into());
            }
            Err(refusal) => refusal,
        };
        // By an attempt of its own, whose answer was lost?
        if refusal.maybe_applied
            && let Some(etag) = self.find_own(&request).await?
        {
            return Ok(etag);
        }
        Err(FsError::from(refusal).into_exists())
    }

    /// The version under the key, if it is what was put: its times, to the nanosecond,
    /// are nobody else's.
    async fn find_own(&self, put: &PutRequest) -> Result<Option<ETag>, FsError> {
        // Another client's may be long.
        let there = self.deletes.object_at(&put.key).await?;
        if there.is_none_or(|there| there.size_bytes != put.body.len() as u64) {
            return Ok(None);
        }
        let get = GetRequest {
            key: put.key.clone(),
            range: None,
            if_match: None,
            sink: None,
        };
        let there = match self.store.get(get).await {
            Ok(there) => there,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let found = &there.meta.headers.user_metadata;
        let mut wanted = put.headers.user_metadata.iter();
        let is_own =
            there.body == put.body && wanted.all(|(name, value)| found.get(name) == Some(value));
        Ok(is_own.then_some(there.meta.etag))
    }

    /// Errors: `InvalidArgument` for what is no symlink; `Stale`; the store's.
    pub async fn readlink(&self, ino: Ino) -> Result<Bytes, FsError> {
        let link = self.namespace.inode(ino)?;
        self.subtrees.inode_settled(ino).await?;
        if link.kind != Kind::Symlink {
            return Err(FsError::InvalidArgument);
        }
        match self.files.base_of(&link) {
            LowerLayer::Object(object) => {
                let blocks = self.reader.read(&object, 0..TARGET_LIMIT_BYTES).await?;
                Ok(blocks.concat().into())
            }
            LowerLayer::Empty | LowerLayer::Sealed(_) => Err(FsError::STALE),
        }
    }
}
