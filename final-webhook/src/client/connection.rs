//! One connection to an endpoint, and one exchange on it.
//!
//! Input: a stream, and a request. Output: an answer, as far as it came. State: the connection, which can be used
//! again after an answer that was read to its end.
//!
//! A connection has no task of its own. It moves while a call waits for its answer, so nothing of it runs after
//! the call, and nothing is left when the call is dropped.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, Response, StatusCode, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{NotDone, client::dial::Stream, client::excerpt::plain};

/// How much of an answer is read.
const LONGEST_BODY: usize = 64 * 1024;

/// How large the head of an answer may be. It is the size of the buffer for reading, too.
const LONGEST_HEAD: usize = 16 * 1024;

/// How many headers an answer may have.
const MOST_HEADERS: usize = 100;

pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
    /// The place among all connections of the caller.
    place: OwnedSemaphorePermit,
}

struct Driver {
    wire: http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>,
    ended: bool,
}

/// An answer whose head has come.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) end: BodyEnd,
}

/// How the body of an answer ended.
#[derive(Debug)]
pub(crate) enum BodyEnd {
    Complete,
    /// It is longer than what is read.
    Cut,
    Broken(String),
    Late,
}

/// Why there is no answer.
pub(crate) enum NoAnswer {
    /// The endpoint had closed the connection before it read the request, as far as one can know.
    Stale(String),
    Failed(NotDone),
}

impl Connection {
    pub(crate) async fn new(
        stream: Box<dyn Stream>,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, NotDone> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(LONGEST_HEAD).max_headers(MOST_HEADERS);
        let (sender, wire) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let driver = Driver { wire, ended: false };
        Ok(Self {
            sender,
            driver,
            place,
        })
    }

    /// Whether another request can be sent.
    pub(crate) fn is_usable(&mut self) -> bool {
        self.driver.look();
        !self.driver.ended && self.sender.is_ready()
    }

    /// Closes the connection, and keeps its place for another one.
    pub(crate) fn into_place(self) -> OwnedSemaphorePermit {
        self.place
    }

    /// Sends a request and reads the head of its answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let (sender, driver) = (&mut self.sender, &mut self.driver);
        let answer = driver.drive(async {
            sender
                .ready()
                .await
                .map_err(|error| NoAnswer::Stale(plain(&error)))?;
            sender.try_send_request(request).await.map_err(|mut error| {
                let unsent = error.take_message().is_some();
                let error = error.error();
                // Its end came in place of the answer's first byte.
                if unsent || error.is_incomplete_message() || error.is_canceled() || reset(error) {
                    return NoAnswer::Stale(told(error));
                }
                NoAnswer::Failed(broken(error))
            })
        });
        answer.await
    }

    /// Reads the body of an answer until its end, its longest length or the deadline.
    pub(crate) async fn read(&mut self, answer: Response<Incoming>, deadline: Instant) -> Answer {
        let (head, mut body) = answer.into_parts();
        let mut read = BytesMut::new();
        let reading = self.driver.drive(async {
            loop {
                match body.frame().await {
                    None => return BodyEnd::Complete,
                    Some(Err(error)) => return BodyEnd::Broken(told(&error)),
                    Some(Ok(frame)) => {
                        // The trailers at the end say nothing.
                        let Ok(data) = frame.into_data() else {
                            continue;
                        };
                        let room = LONGEST_BODY - read.len();
                        read.extend_from_slice(data.get(..room).unwrap_or(&data));
                        if data.len() > room {
                            return BodyEnd::Cut;
                        }
                    }
                }
            }
        });
        let end = tokio::time::timeout_at(deadline, reading)
            .await
            .unwrap_or(BodyEnd::Late);
        Answer {
            status: head.status,
            headers: head.headers,
            body: read.freeze(),
            end,
        }
    }
}

impl Driver {
    /// Runs `work`, and moves the connection meanwhile.
    async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(value) = work.as_mut().poll(context) {
                return Poll::Ready(value);
            }
            if !self.ended && self.wire.poll_unpin(context).is_ready() {
                self.ended = true;
            }
            // What the connection has just read is there for the work at once.
            work.as_mut().poll(context)
        })
        .await
    }

    /// Notices that the endpoint has closed the connection.
    fn look(&mut self) {
        if !self.ended {
            self.ended = (&mut self.wire).now_or_never().is_some();
        }
    }
}

fn reset(error: &hyper::Error) -> bool {
    use std::{error::Error, io::ErrorKind};
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>());
    let reset = [
        ErrorKind::ConnectionReset,
        ErrorKind::BrokenPipe,
        ErrorKind::ConnectionAborted,
    ];
    source.is_some_and(|error| reset.contains(&error.kind()))
}

fn broken(error: &hyper::Error) -> NotDone {
    NotDone::Broken { error: told(error) }
}

/// hyper tells the cause apart from what failed.
fn told(error: &hyper::Error) -> String {
    use std::error::Error;
    match error.source() {
        Some(source) => plain(format!("{error}: {source}")),
        None => plain(error),
    }
}

impl NoAnswer {
    pub(crate) fn into_not_done(self) -> NotDone {
        match self {
            Self::Stale(error) => NotDone::Broken { error },
            Self::Failed(why) => why,
        }
    }
}
