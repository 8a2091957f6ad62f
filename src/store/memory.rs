//! A bucket in memory, for unit tests.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use md5::{Digest, Md5};
use parking_lot::Mutex;

use super::*;

/// Parts in one page of a listing; of S3, a thousand.
const PARTS_PAGE: usize = 2;

/// Keeps S3's rules on order, conditions, pages and parts.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
}

impl Memory {
    /// A store that takes conditions and does not heed them. As in Garage, an object that
    /// is put ends the uploads of its key that began before.
    pub fn without_conditions() -> Self {
        let memory = Self::default();
        memory.state.lock().ignores_conditions = true;
        memory
    }
}

#[derive(Debug, Default)]
struct State {
    ignores_conditions: bool,
    objects: BTreeMap<String, Object>,
    uploads: HashMap<String, Upload>,
    versions: u64,
}

#[derive(Debug, Clone)]
struct Object {
    bytes: Bytes,
    headers: ObjectHeaders,
    version: u64,
}

#[derive(Debug)]
struct Upload {
    key: Key,
    headers: ObjectHeaders,
    parts: BTreeMap<PartNumber, Bytes>,
}

impl Object {
    fn etag(&self) -> ETag {
        ETag::new(&format!("v{}", self.version))
    }

    fn meta(&self) -> ObjectMeta {
        ObjectMeta {
            etag: self.etag(),
            size_bytes: self.bytes.len() as u64,
            last_modified: UNIX_EPOCH + Duration::from_secs(self.version),
            answered_at: UNIX_EPOCH + Duration::from_secs(self.version + 3),
            tag_count: u32::from(self.headers.tags.is_some()),
            headers: self.headers.clone(),
        }
    }
}

impl State {
    fn object(&self, op: StoreOp, key: &Key) -> Result<&Object, StoreError> {
        let missing = || StoreError::new(StoreErrorKind::NotFound, op, key.clone(), "no such key");
        self.objects.get(key.as_str()).ok_or_else(missing)
    }

    fn upload(
        &mut self,
        op: StoreOp,
        key: &Key,
        upload: &UploadId,
    ) -> Result<&mut Upload, StoreError> {
        let kind = StoreErrorKind::NoSuchUpload;
        let missing = || StoreError::new(kind, op, key.clone(), "no such upload");
        self.uploads.get_mut(&upload.0).ok_or_else(missing)
    }

    fn delete(&mut self, op: StoreOp, request: DeleteRequest) -> Result<(), StoreError> {
        let current = self.objects.get(request.key.as_str()).map(Object::etag);
        let is_other = match (&current, &request.if_match) {
            (Some(current), Some(wanted)) => current != wanted,
            _ => false,
        };
        if is_other && !self.ignores_conditions {
            let kind = StoreErrorKind::PreconditionFailed;
            return Err(StoreError::new(kind, op, request.key, "another version"));
        }
        self.objects.remove(request.key.as_str());
        Ok(())
    }

    fn store(
        &mut self,
        op: StoreOp,
        key: &Key,
        bytes: Bytes,
        headers: ObjectHeaders,
        condition: &WriteCondition,
    ) -> Result<PutAnswer, StoreError> {
        let current = self.objects.get(key.as_str()).map(Object::etag);
        let holds = match condition {
            _ if self.ignores_conditions => true,
            WriteCondition::Always => true,
            WriteCondition::IfAbsent => current.is_none(),
            WriteCondition::IfMatch(etag) => current.as_ref() == Some(etag),
        };
        if !holds {
            // Source: S3 API, PutObject, CopyObject and CompleteMultipartUpload, `If-Match`.
            let kind = match (condition, &current) {
                (WriteCondition::IfMatch(_), None) => StoreErrorKind::NotFound,
                _ => StoreErrorKind::PreconditionFailed,
            };
            return Err(StoreError::new(kind, op, key.clone(), "condition"));
        }
        self.versions += 1;
        let object = Object {
            bytes,
            headers,
            version: self.versions,
        };
        let etag = object.etag();
        self.objects.insert(key.as_str().to_owned(), object);
        Ok(PutAnswer { etag })
    }
}

#[async_trait]
impl ObjectStore for Memory {
    async fn head(&self, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
        Ok(self
            .state
            .lock()
            .object(StoreOp::Head, &request.key)?
            .meta())
    }

    async fn get(&self, request: GetRequest) -> Result<GetAnswer, StoreError> {
        let state = self.state.lock();
        let object = state.object(StoreOp::Get, &request.key)?;
        let fail = |kind| StoreError::new(kind, StoreOp::Get, request.key.clone(), "refused");
        if !state.ignores_conditions && request.if_match.is_some_and(|etag| etag != object.etag()) {
            return Err(fail(StoreErrorKind::PreconditionFailed));
        }
        let len = object.bytes.len();
        let range = request.range.map_or(0..len, |range| {
            range.start as usize..(range.end as usize).min(len)
        });
        if range.start >= len && len > 0 {
            return Err(fail(StoreErrorKind::InvalidRange));
        }
        Ok(GetAnswer {
            meta: object.meta(),
            body: object.bytes.slice(range),
        })
    }

    async fn tags(&self, key: Key) -> Result<Option<String>, StoreError> {
        let state = self.state.lock();
        Ok(state.object(StoreOp::Tags, &key)?.headers.tags.clone())
    }

    async fn put(&self, request: PutRequest) -> Result<PutAnswer, StoreError> {
        let PutRequest {
            key,
            body,
            headers,
            condition,
        } = request;
        let mut state = self.state.lock();
        if state.ignores_conditions {
            state.uploads.retain(|_, upload| upload.key != key);
        }
        state.store(StoreOp::Put, &key, body, headers, &condition)
    }

    async fn copy(&self, request: CopyRequest) -> Result<PutAnswer, StoreError> {
        let mut state = self.state.lock();
        let source = state.object(StoreOp::Copy, &request.source)?.clone();
        if request
            .source_if_match
            .is_some_and(|etag| etag != source.etag())
        {
            let kind = StoreErrorKind::PreconditionFailed;
            return Err(StoreError::new(
                kind,
                StoreOp::Copy,
                request.target,
                "source changed",
            ));
        }
        let mut headers = request.replace_headers.unwrap_or(source.headers);
        headers.placement = request.placement;
        state.store(
            StoreOp::Copy,
            &request.target,
            source.bytes,
            headers,
            &request.condition,
        )
    }

    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError> {
        self.state.lock().delete(StoreOp::Delete, request)
    }

    async fn delete_many(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        let mut state = self.state.lock();
        let mut failed = Vec::new();
        for request in requests {
            let key = request.key.clone();
            if let Err(error) = state.delete(StoreOp::DeleteMany, request) {
                failed.push((key, error));
            }
        }
        Ok(failed)
    }

    async fn list(&self, request: ListRequest) -> Result<ListAnswer, StoreError> {
        let state = self.state.lock();
        let token = request.token.unwrap_or_else(|| ListToken::after(""));
        let after = token.0.strip_prefix('a').unwrap_or_default().to_owned();
        let mut answer = ListAnswer::default();
        let mut last = String::new();
        let found = state.objects.range(request.prefix.clone()..);
        for (key, object) in found.take_while(|(key, _)| key.starts_with(&request.prefix)) {
            let rest = &key[request.prefix.len()..];
            let fold = request.fold_directories == FoldDirectories::Yes;
            let folded = rest
                .find('/')
                .filter(|_| fold)
                .map(|at| &key[..=request.prefix.len() + at]);
            let shown = folded.unwrap_or(key).to_owned();
            if shown <= after || shown == last {
                continue;
            }
            if answer.objects.len() + answer.prefixes.len() == usize::from(request.max_keys) {
                answer.next = Some(ListToken::after(&last));
                break;
            }
            last.clone_from(&shown);
            if folded.is_some() {
                answer.prefixes.push(shown);
            } else {
                let ObjectMeta {
                    etag,
                    size_bytes,
                    last_modified,
                    ..
                } = object.meta();
                answer.objects.push(ListedObject {
                    key: Key::new(shown),
                    etag,
                    size_bytes,
                    last_modified,
                });
            }
        }
        Ok(answer)
    }

    async fn create_multipart(
        &self,
        request: CreateMultipartRequest,
    ) -> Result<UploadId, StoreError> {
        let mut state = self.state.lock();
        state.versions += 1;
        let id = format!("upload-{}", state.versions);
        state.uploads.insert(
            id.clone(),
            Upload {
                key: request.key,
                headers: request.headers,
                parts: BTreeMap::new(),
            },
        );
        Ok(UploadId(id))
    }

    async fn upload_part(&self, request: UploadPartRequest) -> Result<CompletedPart, StoreError> {
        let body = match request.body {
            Body::Bytes(bytes) => bytes,
            Body::Summed(summed) => summed.bytes,
            Body::Stream(stream) => {
                let mut all = BytesMut::new();
                for range in pieces(stream.range) {
                    all.extend_from_slice(&stream.source.read(range).await.unwrap());
                }
                all.freeze()
            }
        };
        let mut state = self.state.lock();
        let UploadPartRequest {
            key,
            upload,
            number,
            ..
        } = request;
        let upload = state.upload(StoreOp::UploadPart, &key, &upload)?;
        let part = part(number, &body);
        upload.parts.insert(number, body);
        Ok(part)
    }

    async fn upload_part_copy(
        &self,
        request: UploadPartCopyRequest,
    ) -> Result<CompletedPart, StoreError> {
        let get = GetRequest {
            key: request.source,
            range: Some(request.range),
            if_match: Some(request.source_if_match),
            sink: None,
        };
        let body = self.get(get).await?.body.into();
        let UploadPartCopyRequest {
            target: key,
            upload,
            number,
            ..
        } = request;
        self.upload_part(UploadPartRequest {
            key,
            upload,
            number,
            body,
        })
        .await
    }

    async fn complete_multipart(
        &self,
        request: CompleteMultipartRequest,
    ) -> Result<PutAnswer, StoreError> {
        let op = StoreOp::CompleteMultipart;
        let mut state = self.state.lock();
        let upload = state.upload(op, &request.key, &request.upload)?;
        let mut bytes = BytesMut::new();
        for wanted in &request.parts {
            let found = upload.parts.get(&wanted.number);
            let found = found.filter(|body| part(wanted.number, body).etag == wanted.etag);
            let fail = || {
                let kind = StoreErrorKind::NoSuchUpload;
                StoreError::new(kind, op, request.key.clone(), "invalid part")
            };
            bytes.extend_from_slice(found.ok_or_else(fail)?);
        }
        let headers = upload.headers.clone();
        let bytes = bytes.freeze();
        let answer = state.store(op, &request.key, bytes, headers, &request.condition)?;
        state.uploads.remove(&request.upload.0);
        Ok(answer)
    }

    async fn abort_multipart(&self, _key: Key, upload: UploadId) -> Result<(), StoreError> {
        self.state.lock().uploads.remove(&upload.0);
        Ok(())
    }

    async fn list_parts(&self, request: ListPartsRequest) -> Result<ListPartsAnswer, StoreError> {
        let mut state = self.state.lock();
        let upload = state.upload(StoreOp::ListParts, &request.key, &request.upload)?;
        let after = request.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = upload.parts.range((after, Bound::Unbounded));
        let page = found
            .by_ref()
            .take(PARTS_PAGE)
            .map(|(number, body)| ListedPart {
                part: part(*number, body),
                size_bytes: body.len() as u64,
            });
        let parts: Vec<ListedPart> = page.collect();
        let next = found.next().and(parts.last());
        let next = next.map(|last| last.part.number);
        Ok(ListPartsAnswer { parts, next })
    }
}

/// A part is named by its MD5, as in S3.
fn part(number: PartNumber, body: &Bytes) -> CompletedPart {
    let md5: [u8; 16] = Md5::digest(body).into();
    CompletedPart {
        number,
        etag: ETag::new(&format!("{:032x}", u128::from_be_bytes(md5))),
        crc64nvme: None,
    }
}
