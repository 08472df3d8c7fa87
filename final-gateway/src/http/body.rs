//! Reading the body of a request: bounded in bytes and time, and within the memory that all bodies share.
//!
//! Input: the pieces of a body. State: the budget. Output: its bytes together with their part of the budget, or a
//! problem that was found before the memory was taken.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, http::StatusCode};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::{front::HttpLimits, problem::Problem};

/// How long, and for how many bytes, the rest of a refused body is read: a client that sends all of its body first would
/// otherwise see a broken connection in place of the answer.
const DRAIN: (Duration, usize) = (Duration::from_secs(1), 32 << 20);

/// Memory for bodies. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Semaphore>);

/// A part of the budget, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Share(Option<OwnedSemaphorePermit>);

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Takes more for a body. It never waits: a client that stalls must not hold up another.
    pub(super) fn grow(&self, share: &mut Share, bytes: usize) -> Result<(), Problem> {
        let full =
            || Problem::busy("too many bodies are in memory at once; send the request again later");
        let bytes = u32::try_from(bytes).map_err(|_| full())?;
        let more = Arc::clone(&self.0)
            .try_acquire_many_owned(bytes)
            .map_err(|_| full())?;
        match &mut share.0 {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

/// Reads a body of at most so many bytes.
pub(super) async fn read(
    body: Body,
    at_most: usize,
    budget: &Budget,
    limits: &HttpLimits,
) -> Result<(Bytes, Share), Problem> {
    let mut pieces = body.into_data_stream();
    let mut share = Share::default();
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let end = Instant::now() + limits.body;
    loop {
        let deadline = end.min(Instant::now() + limits.stall);
        let piece = match timeout_at(deadline, pieces.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                let message = "the body ended too early, or its chunks are broken";
                return Err(Problem::bad("broken_body", message));
            }
            Err(_) => {
                return Err(Problem::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "slow_body",
                    "the body did not arrive in time",
                ));
            }
        };
        if first.len() + rest.len() + piece.len() > at_most {
            return Err(too_large(at_most));
        }
        budget.grow(&mut share, piece.len())?;
        // Most bodies are one piece, which needs no copy.
        if first.is_empty() {
            first = piece;
        } else {
            rest.extend_from_slice(&piece);
        }
    }
    if rest.is_empty() {
        return Ok((first, share));
    }
    let whole = [first, rest.freeze()].concat();
    Ok((whole.into(), share))
}

/// The problem of a body that is too large.
pub(super) fn too_large(at_most: usize) -> Problem {
    Problem::too_large(format!(
        "the body is larger than {at_most} bytes, the limit here"
    ))
}

/// Reads the rest of a refused body and forgets it.
pub(super) async fn drain(body: Body) {
    let (time, mut bytes) = DRAIN;
    let end = Instant::now() + time;
    let mut pieces = body.into_data_stream();
    while let Ok(Some(Ok(piece))) = timeout_at(end, pieces.next()).await {
        match bytes.checked_sub(piece.len()) {
            Some(left) => bytes = left,
            None => return,
        }
    }
}
