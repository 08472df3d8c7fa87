//! Reading the body of a request: bounded in bytes and time, and within the memory that all bodies share.
//!
//! Input: the pieces of a body, and the share of the memory that is theirs. Output: its bytes, or a problem that was
//! found before the memory was taken.

use std::time::Duration;

use axum::{body::Body, http::StatusCode};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::{front::HttpLimits, problem::Problem};
use crate::memory::Share;

/// How long, and for how many bytes, the rest of a refused body is read: a client that sends all of its body first would
/// otherwise see a broken connection in place of the answer.
const DRAIN: (Duration, usize) = (Duration::from_secs(1), 32 << 20);

/// Reads a body of at most so many bytes.
pub(super) async fn read(
    body: Body,
    at_most: usize,
    share: &mut Share,
    limits: &HttpLimits,
) -> Result<Bytes, Problem> {
    let mut pieces = body.into_data_stream();
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
        share.grow(piece.len())?;
        // Most bodies are one piece, which needs no copy.
        if first.is_empty() {
            first = piece;
        } else {
            rest.extend_from_slice(&piece);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let whole = [first, rest.freeze()].concat();
    Ok(whole.into())
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
