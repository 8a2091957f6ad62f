//! Extended attributes: `user.*` where attributes are stored with objects, and
//! what mediafs itself tells of a file.

use super::Ops;
use super::resent::StoredSince;
use crate::error::FsError;
use crate::files::{Delivery, KernelRequest};
use crate::namespace::{
    Asked, Attributes, HiddenKey, Namespace, Pin, ask_attributes, learn_attributes,
};
use crate::store::{HeadRequest, ObjectStore};
use crate::vocabulary::{Ino, Kind, Xattrs};

/// Of all namespaces, the one that applications may use. Source: xattr(7).
const USER: &str = "user.";
/// What mediafs tells: readable, never listed (copies would try to set it).
const OWN: &str = "user.mediafs.";

/// Of the lines for hidden keys: with the last one, a longer value could not be read.
/// Source: limits.h, `XATTR_SIZE_MAX`.
const HIDDEN_LIMIT_BYTES: usize = (1 << 16) - 128;

/// What mediafs tells, each by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnAttribute {
    ContentType,
    Etag,
    Hidden,
    Key,
    Place,
    State,
}

impl OwnAttribute {
    const ALL: [Self; 6] = [
        Self::ContentType,
        Self::Etag,
        Self::Hidden,
        Self::Key,
        Self::Place,
        Self::State,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::ContentType => "content_type",
            Self::Etag => "etag",
            Self::Hidden => "hidden",
            Self::Key => "key",
            Self::Place => "place",
            Self::State => "state",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// The names of all that mediafs tells.
#[cfg(test)]
pub fn own_names() -> impl Iterator<Item = String> {
    let all = OwnAttribute::ALL.into_iter();
    all.map(|it| format!("{OWN}{}", it.name()))
}

/// What setxattr(2) may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    CreateOrReplace,
    /// XATTR_CREATE
    Create,
    /// XATTR_REPLACE
    Replace,
}

/// Errors: `NoAttribute`; `Unsupported` for namespaces that no file here has.
///
/// Of `security.*` and `system.*` the error says that the file system has none, so
/// that ls(1) does not ask for those of each file. `NotImplemented` would make the
/// kernel ask for none of `user.*` either. Source: fs/fuse/xattr.c, `no_getxattr`.
pub async fn getxattr(ops: &Ops, ino: Ino, name: &str) -> Result<Vec<u8>, FsError> {
    check_user(name)?;
    let inode = ops.namespace.inode(ino)?;
    ops.subtrees.inode_settled(ino).await?;
    if let Some(own) = name.strip_prefix(OWN) {
        let own = OwnAttribute::named(own).ok_or(FsError::NoAttribute)?;
        return own_xattr(ops, &inode, own).await;
    }
    learn_attributes(&ops.namespace, &inode).await?;
    xattrs(&inode).remove(name).ok_or(FsError::NoAttribute)
}

pub async fn listxattr(ops: &Ops, ino: Ino) -> Result<Vec<String>, FsError> {
    let inode = ops.namespace.inode(ino)?;
    learn_attributes(&ops.namespace, &inode).await?;
    Ok(xattrs(&inode).into_keys().collect())
}

/// Errors: `Exists`, `NoAttribute` as the mode asks; `NoSpace` beyond what an
/// object's metadata holds; `NotPermitted` for mediafs's own; `Unsupported`; the store's.
pub async fn setxattr(
    ops: &Ops,
    ino: Ino,
    name: &str,
    value: &[u8],
    mode: XattrMode,
    request: KernelRequest,
) -> Result<(), FsError> {
    let Some((inode, mut xattrs, asked)) = changeable(ops, ino, name, request).await? else {
        return Ok(());
    };
    let there = xattrs.contains_key(name);
    match mode {
        XattrMode::Create if there => return Err(FsError::EXISTS),
        XattrMode::Replace if !there => return Err(FsError::NoAttribute),
        XattrMode::CreateOrReplace | XattrMode::Create | XattrMode::Replace => {}
    }
    xattrs.insert(name.to_owned(), value.to_owned());
    replace_xattrs(ops, &inode, xattrs, (request, asked)).await
}

/// Errors: `NoAttribute`, and as `setxattr`.
///
/// Asked again, an attribute that is gone is what a predecessor removed.
pub async fn removexattr(
    ops: &Ops,
    ino: Ino,
    name: &str,
    request: KernelRequest,
) -> Result<(), FsError> {
    let Some((inode, mut xattrs, asked)) = changeable(ops, ino, name, request).await? else {
        return Ok(());
    };
    match (xattrs.remove(name), request.attempt) {
        (None, Delivery::First) => return Err(FsError::NoAttribute),
        (None, Delivery::Resent) => return Ok(()),
        (Some(_), _) => {}
    }
    replace_xattrs(ops, &inode, xattrs, (request, asked)).await
}

/// A file and its attributes, of which this one is to be changed; none where a
/// predecessor has done so.
async fn changeable(
    ops: &Ops,
    ino: Ino,
    name: &str,
    request: KernelRequest,
) -> Result<Option<(Pin, Xattrs, Asked)>, FsError> {
    ops.settings.access.check_writable()?;
    check_user(name)?;
    if name.starts_with(OWN) {
        return Err(FsError::NotPermitted);
    }
    if !ops.namespace.stores_attributes() {
        return Err(FsError::Unsupported);
    }
    let inode = ops.namespace.inode(ino)?;
    // All of them are stored as one.
    let asked = ask_attributes(&ops.namespace, &inode).await?;
    let since = ops.executed.stored_since(request, &inode, &ops.namespace);
    if has_changed(since.await?, name) {
        return Ok(None);
    }
    let xattrs = xattrs(&inode);
    Ok(Some((inode, xattrs, asked)))
}

async fn replace_xattrs(
    ops: &Ops,
    inode: &Pin,
    xattrs: Xattrs,
    (request, asked): (KernelRequest, Asked),
) -> Result<(), FsError> {
    let before = {
        let mut state = inode.state();
        let before = state.overrides.xattrs.replace(xattrs);
        let fits = state.effective_attributes().encode(inode.kind);
        if let Err(error) = fits {
            state.overrides.xattrs = before;
            return Err(error);
        }
        state.overrides.ctime = Some(std::time::SystemTime::now());
        before
    };
    let begin = |inode: &Pin| ops.executed.begin_storing(request, inode);
    let stored = ops.attribute_writer.store_attributes(inode, &begin, asked);
    let stored = stored.await;
    if stored.is_err() {
        inode.state().overrides.xattrs = before;
    }
    ops.attributes.record_overrides(inode);
    if ops.executed.is_superseded(request, &stored) {
        return Ok(());
    }
    stored
}

/// `key`, `etag`, `content_type` of the object; `state` of the file's bytes; `hidden`
/// keys of a directory; `place` of the mount.
async fn own_xattr(ops: &Ops, inode: &Pin, own: OwnAttribute) -> Result<Vec<u8>, FsError> {
    if own == OwnAttribute::Place {
        return Ok(ops.settings.place.clone().into_bytes());
    }
    if inode.kind == Kind::Directory {
        return match own {
            OwnAttribute::Hidden => hidden_keys(&ops.namespace, inode).await,
            _ => Err(FsError::NoAttribute),
        };
    }
    if own != OwnAttribute::State && inode.state().remote.is_none() && inode.state().local.is_none()
    {
        ops.namespace.revalidate(inode).await?;
    }
    let text = match own {
        OwnAttribute::Key => Some(ops.namespace.file_key(inode.ino)?.as_str().to_owned()),
        OwnAttribute::Etag => {
            let state = inode.state();
            let remote = state.remote.as_ref();
            remote.map(|remote| remote.etag.as_str().to_owned())
        }
        OwnAttribute::ContentType => content_type_of(ops, inode).await?,
        OwnAttribute::State => {
            let file = ops.files.get(inode.ino);
            let state = file.map_or("clean", |file| file.sync_state());
            Some(state.to_owned())
        }
        OwnAttribute::Hidden | OwnAttribute::Place => None,
    };
    text.map(String::into_bytes).ok_or(FsError::NoAttribute)
}

/// A line for each: the key, a tab, and why it cannot be a file name. Where there are
/// more, a last line without a key says so.
async fn hidden_keys(namespace: &Namespace, dir: &Pin) -> Result<Vec<u8>, FsError> {
    let found = namespace.hidden().of(dir).await?;
    let (mut text, mut named) = (String::new(), 0);
    for HiddenKey { key, why } in &found.named {
        let line = format!("{}\t{why}\n", key.as_str().escape_debug());
        if text.len() + line.len() > HIDDEN_LIMIT_BYTES {
            break;
        }
        text.push_str(&line);
        named += 1;
    }
    let more = match (found.count - named, found.is_part) {
        (0, false) => return Ok(text.into_bytes()),
        (0, true) => "perhaps".to_owned(),
        (more, false) => more.to_string(),
        (more, true) => format!("at least {more}"),
    };
    text += &format!("\tand {more} more: 'mediafs doctor --all' counts and names them\n");
    Ok(text.into_bytes())
}

/// What was sent from here may be without one, and has what the store gave it.
async fn content_type_of(ops: &Ops, inode: &Pin) -> Result<Option<String>, FsError> {
    let (known, is_stored) = {
        let state = inode.state();
        let known = state.attributes.as_ref();
        let content_type = known.and_then(|known| known.headers.content_type.clone());
        (content_type, state.remote.is_some())
    };
    if known.is_some() || !is_stored {
        return Ok(known);
    }
    let key = ops.namespace.file_key(inode.ino)?;
    let found = ops.store.head(HeadRequest { key }).await?;
    Ok(found.headers.content_type)
}

/// Whether a predecessor, or another client since, has changed an attribute.
fn has_changed(since: Option<StoredSince>, name: &str) -> bool {
    since.is_some_and(|since| !since.is_same(|it| it.xattrs.get(name).cloned()))
}

fn check_user(name: &str) -> Result<(), FsError> {
    if name.starts_with(USER) {
        Ok(())
    } else {
        Err(FsError::Unsupported)
    }
}

fn xattrs(inode: &Pin) -> Xattrs {
    let Attributes { xattrs, .. } = inode.state().effective_attributes();
    xattrs
}
