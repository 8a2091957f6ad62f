//! A body that is read while it is sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::store::{BodyStream, pieces};

/// One piece is read while the one before is sent.
const PIECES_READ_AHEAD: usize = 1;

/// Pieces that a task of their own reads; it ends with the request.
struct Pieces {
    queued: mpsc::Receiver<io::Result<Bytes>>,
    left_bytes: u64,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = self.queued.poll_recv(context);
        if let Poll::Ready(Some(Ok(piece))) = &next {
            self.left_bytes = self.left_bytes.saturating_sub(piece.len() as u64);
        }
        next.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}

pub fn byte_stream(body: BodyStream) -> ByteStream {
    let (queue, queued) = mpsc::channel(PIECES_READ_AHEAD);
    let left_bytes = body.len_bytes();
    tokio::spawn(async move {
        for range in pieces(body.range) {
            let piece = body.source.read(range).await;
            let failed = piece.is_err();
            if queue.send(piece).await.is_err() || failed {
                return;
            }
        }
    });
    ByteStream::from_body_1_x(Pieces { queued, left_bytes })
}
