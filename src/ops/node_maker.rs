//! Inodes that are no files: symlinks, FIFOs, sockets, devices.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::FsError;
use crate::files::{AttributeView, Caller, whole_seconds};
use crate::namespace::{Attributes, Name, Namespace, Pin, entry_added, record_attributes};
use crate::store::{
    DeleteQueue, ETag, GetRequest, ObjectHeaders, ObjectStore, PutRequest, StoreErrorKind,
    WriteCondition,
};
use crate::vocabulary::{Kind, ObjectVersion};
use crate::writeback::Deletes;

/// What is an object and no file: its bytes and attributes tell what it is.
#[derive(Debug)]
pub struct Node {
    pub kind: Kind,
    pub permissions: u16,
    pub body: Bytes,
    /// Of a device, as the kernel writes it.
    pub rdev: Option<u32>,
}

/// Makes inodes that are no files: each is in the store at once.
#[derive(Debug)]
pub struct NodeMaker {
    pub namespace: Arc<Namespace>,
    pub attributes: Arc<AttributeView>,
    pub store: Arc<DeleteQueue>,
    pub deletes: Arc<Deletes>,
}

impl NodeMaker {
    /// Errors: `Exists`, `NameTooLong`, the store's; nothing is made then.
    pub async fn make(
        &self,
        parent: &Pin,
        name: &Name,
        node: Node,
        maker: Caller,
    ) -> Result<Pin, FsError> {
        let inode = self.namespace.create_local(parent, name, node.kind)?;
        self.attributes
            .init_attributes(parent, &inode, node.permissions, maker);
        if let Err(error) = self.put(parent, name, &inode, node).await {
            self.namespace.roll_back_create(&inode);
            return Err(error);
        }
        Ok(inode)
    }

    /// Stores the object of a new inode.
    async fn put(&self, parent: &Pin, name: &Name, inode: &Pin, node: Node) -> Result<(), FsError> {
        let Node { body, rdev, .. } = node;
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
        record_attributes(&self.namespace, inode, attributes);
        entry_added(&self.namespace, parent).await;
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
}
