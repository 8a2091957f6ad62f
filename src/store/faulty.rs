//! A store that fails where a unit test says so.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::*;

/// What happens to one request.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// It fails, and nothing was done.
    Before(StoreErrorKind),
    /// As `Before`, with the server's wish when it is sent again.
    Wish(StoreErrorKind, Option<Duration>),
    /// It was done, but its answer is lost.
    After(StoreErrorKind),
    /// It was done, and its answer comes so much later.
    Late(Duration),
    /// It is done so much later.
    Slow(Duration),
    /// The bytes of a read come through the sink, and all of them in the answer too.
    Twice,
    /// The last byte of a read arrives as another one.
    Damaged,
    /// No answer ever comes.
    Stall,
}

/// Passes requests on, but for those that a fault is planned for.
#[derive(Debug)]
pub struct Faulty {
    store: Arc<dyn ObjectStore>,
    state: Mutex<State>,
}

/// Makes what is said of an object's bytes from what nobody has said yet.
pub type Checksums = fn(ObjectChecksums, &[u8]) -> ObjectChecksums;

#[derive(Debug, Default)]
struct State {
    delays: Option<(fastrand::Rng, Duration)>,
    told: Option<Checksums>,
    faults: HashMap<(StoreOp, u64), Fault>,
    silent: Option<Key>,
    seen: HashMap<StoreOp, u64>,
}

impl Faulty {
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            state: Mutex::default(),
        }
    }

    /// A store that tells of the bytes of its objects.
    pub fn telling(store: Arc<dyn ObjectStore>, told: Checksums) -> Self {
        let this = Self::new(store);
        this.state.lock().told = Some(told);
        this
    }

    /// Plans a fault for the `nth` request of a kind, counted from 1.
    pub fn plan(&self, op: StoreOp, nth: u64, fault: Fault) {
        self.state.lock().faults.insert((op, nth), fault);
    }

    /// From now on a look for this key has no answer, and for every other one it has.
    pub fn silence(&self, key: Option<Key>) {
        self.state.lock().silent = key;
    }

    /// From now on each request waits before it is carried out, and its answer after
    /// that, up to so long each: most of them shortly.
    pub fn delay(&self, seed: u64, limit: Duration) {
        self.state.lock().delays = Some((fastrand::Rng::with_seed(seed), limit));
    }

    async fn waited(&self) {
        let delay = self.state.lock().delays.as_mut().map(|(random, limit)| {
            let part = random.f64();
            limit.mul_f64(part * part * part)
        });
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
    }

    /// Requests of a kind that came this far.
    pub fn seen(&self, op: StoreOp) -> u64 {
        self.state.lock().seen.get(&op).copied().unwrap_or(0)
    }

    async fn run<T>(
        &self,
        op: StoreOp,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let fault = {
            let mut state = self.state.lock();
            let seen = state.seen.entry(op).or_default();
            *seen += 1;
            let nth = *seen;
            state.faults.get(&(op, nth)).copied()
        };
        let fail = |kind| StoreError::new(kind, op, Key::new("planned"), "planned fault");
        match fault {
            None | Some(Fault::Twice | Fault::Damaged) => {
                self.waited().await;
                let answer = request.await;
                self.waited().await;
                answer
            }
            Some(Fault::Before(kind)) => Err(fail(kind)),
            Some(Fault::Wish(kind, retry_after)) => Err(StoreError {
                retry_after,
                ..fail(kind)
            }),
            Some(Fault::After(kind)) => {
                request.await?;
                Err(fail(kind))
            }
            Some(Fault::Late(delay)) => {
                let answer = request.await;
                tokio::time::sleep(delay).await;
                answer
            }
            Some(Fault::Slow(delay)) => {
                tokio::time::sleep(delay).await;
                request.await
            }
            Some(Fault::Stall) => pending().await,
        }
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn head(&self, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
        let is_silent = self.state.lock().silent.as_ref() == Some(&request.key);
        let answer = self.store.head(request);
        self.run(StoreOp::Head, async {
            match is_silent {
                true => pending().await,
                false => answer.await,
            }
        })
        .await
    }

    async fn checksums(&self, key: Key) -> Result<ObjectChecksums, StoreError> {
        let asked = self.store.checksums(key.clone());
        let nothing = self.run(StoreOp::Head, asked).await?;
        let Some(told) = self.state.lock().told else {
            return Ok(nothing);
        };
        let whole = GetRequest {
            key,
            range: None,
            if_match: None,
            sink: None,
        };
        Ok(told(nothing, &self.store.get(whole).await?.body))
    }

    async fn get(&self, request: GetRequest) -> Result<GetAnswer, StoreError> {
        let sink = request.sink.clone();
        let nth = self.seen(StoreOp::Get) + 1;
        let planned = self.state.lock().faults.get(&(StoreOp::Get, nth)).copied();
        let mut answer = self.run(StoreOp::Get, self.store.get(request)).await?;
        if let Some(Fault::Damaged) = planned {
            let mut bytes = answer.body.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            answer.body = bytes.into();
        }
        if let (Some(Fault::Twice), Some(sink)) = (planned, sink) {
            sink.begin();
            sink.take(&answer.body);
        }
        Ok(answer)
    }

    async fn tags(&self, key: Key) -> Result<Option<String>, StoreError> {
        self.run(StoreOp::Tags, self.store.tags(key)).await
    }

    async fn put(&self, request: PutRequest) -> Result<PutAnswer, StoreError> {
        self.run(StoreOp::Put, self.store.put(request)).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<PutAnswer, StoreError> {
        self.run(StoreOp::Copy, self.store.copy(request)).await
    }

    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError> {
        self.run(StoreOp::Delete, self.store.delete(request)).await
    }

    async fn delete_many(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        self.run(StoreOp::DeleteMany, self.store.delete_many(requests))
            .await
    }

    async fn list(&self, request: ListRequest) -> Result<ListAnswer, StoreError> {
        self.run(StoreOp::List, self.store.list(request)).await
    }

    async fn create_multipart(
        &self,
        request: CreateMultipartRequest,
    ) -> Result<UploadId, StoreError> {
        self.run(
            StoreOp::CreateMultipart,
            self.store.create_multipart(request),
        )
        .await
    }

    async fn upload_part(&self, request: UploadPartRequest) -> Result<CompletedPart, StoreError> {
        self.run(StoreOp::UploadPart, self.store.upload_part(request))
            .await
    }

    async fn upload_part_copy(
        &self,
        request: UploadPartCopyRequest,
    ) -> Result<CompletedPart, StoreError> {
        self.run(
            StoreOp::UploadPartCopy,
            self.store.upload_part_copy(request),
        )
        .await
    }

    async fn complete_multipart(
        &self,
        request: CompleteMultipartRequest,
    ) -> Result<PutAnswer, StoreError> {
        self.run(
            StoreOp::CompleteMultipart,
            self.store.complete_multipart(request),
        )
        .await
    }

    async fn abort_multipart(&self, key: Key, upload: UploadId) -> Result<(), StoreError> {
        self.run(
            StoreOp::AbortMultipart,
            self.store.abort_multipart(key, upload),
        )
        .await
    }

    async fn list_parts(&self, request: ListPartsRequest) -> Result<ListPartsAnswer, StoreError> {
        self.run(StoreOp::ListParts, self.store.list_parts(request))
            .await
    }
}
