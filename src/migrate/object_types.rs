//! Content-Types of objects whose bytes are right.

use super::entry::{Object, Stat};
use super::judge::{Judge, Verdict};
use super::proof::Proof;
use super::report::{Done, Line, Symbol};
use crate::files::ContentTypes;
use crate::namespace::Name;
use crate::store::{
    COPY_LIMIT_BYTES, CopyRequest, ETag, HeadRequest, ObjectHeaders, ObjectMeta, StoreError,
    WriteCondition,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    Name,
    /// By one copy of the object onto itself.
    Mend,
}

#[derive(Debug, Clone)]
pub struct ObjectTypes {
    pub types: ContentTypes,
    pub wrong: Wrong,
}

/// What is wrong with a Content-Type, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// Its attributes are others, and perhaps its Content-Type too.
    Attributes(String),
    Wrong(String),
    Mended(String),
    Failed(String),
}

impl Typed {
    pub fn why(&self) -> &str {
        match self {
            Self::Attributes(why) | Self::Wrong(why) | Self::Mended(why) | Self::Failed(why) => why,
        }
    }

    /// Of an object whose bytes are equal.
    pub fn line(self, path: &str, bytes: u64, proof: Proof) -> Line {
        match self {
            Self::Attributes(why) | Self::Wrong(why) => {
                Line::new(Symbol::Different, path, bytes).because(why)
            }
            Self::Failed(why) => Line::error(path, why),
            Self::Mended(what) => Line::proved(path, bytes, proof)
                .because(what)
                .done(Done::Mended),
        }
    }
}

/// The type of a file of this path.
pub fn type_of(types: &ContentTypes, path: &str) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    types.of(&Name::from_segment(name)?)
}

impl ObjectTypes {
    /// None where it is right, or nobody knows which one is.
    pub async fn check(&self, judge: &Judge, object: &Object) -> Option<Typed> {
        let expected = type_of(&self.types, &object.path)?;
        let key = judge.key_of(&object.path);
        let meta = match judge.store.head(HeadRequest { key }).await {
            Ok(meta) => meta,
            Err(error) => return Some(Typed::Failed(error.to_string())),
        };
        let found = meta.headers.content_type.clone().unwrap_or_default();
        if found.eq_ignore_ascii_case(&expected) {
            return None;
        }
        let what = format!("Content-Type {found:?}, should be {expected:?}");
        if self.wrong == Wrong::Name {
            return Some(Typed::Wrong(what));
        }
        if object.size_bytes > COPY_LIMIT_BYTES {
            let why = format!("{what}: it is longer than one copy may be");
            return Some(Typed::Wrong(why));
        }
        Some(match mend(judge, object, meta, expected.clone()).await {
            Ok(()) => Typed::Mended(format!("Content-Type {found:?} made {expected:?}")),
            Err(error) => Typed::Failed(format!("{what}: {error}")),
        })
    }
}

/// What is wrong with an object besides its bytes, which are equal.
pub async fn looked_at(
    judge: &Judge,
    types: Option<&ObjectTypes>,
    (stat, object): (&Stat, &Object),
    verdict: &Verdict,
) -> Option<Typed> {
    let Verdict::Equal(proof) = verdict else {
        return None;
    };
    let others = match proof {
        Proof::Checkpoint | Proof::SizeAndTime => Ok(None),
        _ => judge.other_attributes(&object.path, stat, object).await,
    };
    // Last, since to mend one may give the object another ETag.
    let typed = match types {
        Some(types) => types.check(judge, object).await,
        None => None,
    };
    match (others, typed) {
        (Err(why), _) => Some(Typed::Failed(why)),
        (Ok(None), typed) => typed,
        (Ok(Some(why)), None) => Some(Typed::Attributes(why)),
        (Ok(Some(why)), Some(typed)) => Some(Typed::Attributes(format!("{why}; {}", typed.why()))),
    }
}

async fn mend(
    judge: &Judge,
    object: &Object,
    meta: ObjectMeta,
    content_type: String,
) -> Result<(), StoreError> {
    let etag = ETag::new(&object.etag);
    let placement = meta.headers.placement.clone();
    let copy = CopyRequest {
        source: judge.key_of(&object.path),
        source_if_match: Some(etag.clone()),
        size_bytes: object.size_bytes,
        target: judge.key_of(&object.path),
        condition: WriteCondition::IfMatch(etag),
        replace_headers: Some(ObjectHeaders {
            content_type: Some(content_type),
            ..meta.headers
        }),
        placement,
    };
    judge.store.copy(copy).await.map(drop)
}
