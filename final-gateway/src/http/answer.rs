//! An answer: its status, its headers and its body, complete in memory and sent in pieces.
//!
//! Input: what a handler made. State: what the answer holds until its last byte is sent: memory of the budget, and the
//! app's place among its connections. Output: a response.

use std::{
    any::Any,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;

/// What lives as long as an answer is being sent.
pub(super) type Kept = Vec<Box<dyn Any + Send + Sync>>;

/// The largest piece. HTTP/2 copies each into a buffer of its own, and a client has a limited time to take each.
const PIECE: usize = 16 * 1024;

/// An answer that is not sent yet.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Answer {
    /// A text in JSON. Ends with a newline, for a terminal.
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        let (status, mut body) = match serde_json::to_vec(value) {
            Ok(body) => (status, body),
            // None of our types fails.
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, b"{}".to_vec()),
        };
        body.push(b'\n');
        Self::bytes(status, "application/json", body)
    }

    pub(super) fn bytes(
        status: StatusCode,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Self {
        let content_type = HeaderValue::from_static(content_type);
        Self {
            status,
            headers: vec![(header::CONTENT_TYPE, content_type)],
            body: body.into(),
        }
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn len(&self) -> usize {
        self.body.len()
    }

    /// The response, which keeps what is given until it is sent or dropped.
    pub(super) fn keeping(self, kept: Kept) -> Response {
        let body = Pieces {
            rest: self.body,
            _kept: kept,
        };
        let mut response = Response::new(Body::new(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.extend(self.headers);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        response
    }
}

/// A body of known length.
struct Pieces {
    rest: Bytes,
    _kept: Kept,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let most = self.rest.len().min(PIECE);
        Poll::Ready(match most {
            0 => None,
            _ => Some(Ok(Frame::data(self.rest.split_to(most)))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
