//! One connection: HTTP/1.1, or HTTP/2 where the client begins with it.
//!
//! Input: a stream, the routes, a token that says stop. State: how many requests are at work, when the last of them
//! ended, and which answers wait for the client. Output: answers, until the client closes, is idle for too long, stalls,
//! or the gateway stops.
//!
//! ```text
//!  open ─ idle too long, an answer stalls, or stop ─▶ going: no new request ─ all answered, or out of time ─▶ closed
//! ```

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use bytes::Bytes;
use hyper::{
    Request, Version,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{front::HttpLimits, stall::Patient};

/// What a connection beyond the limit is told, before it is closed.
pub const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 94\r\n\
    Retry-After: 1\r\n\
    Connection: close\r\n\
    \r\n\
    {\"error\":{\"code\":\"too_many_connections\",\"message\":\"the gateway has no room for a connection\"}}";

/// The most bytes that are read ahead, and so the largest head of a request.
const READ_AHEAD: usize = 64 * 1024;

/// The most headers of a request.
const MAX_HEADERS: usize = 128;

/// The most requests at once on one connection of HTTP/2.
const MAX_STREAMS: u32 = 32;

/// An answer of HTTP/2 up to this size may be over before the client has room for it.
const SMALL: usize = 1024;

/// Serves one connection to its end. The future ends soon after `stop`: no new request is taken then, and those at
/// work have [`HttpLimits::goodbye`] to end.
///
/// # Cancel safety
///
/// Dropped, it closes the connection. What was committed stays so; what was pulled comes again.
pub async fn serve_connection<S>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    limits: HttpLimits,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let work = Arc::new(Work::new());
    let service = service_fn({
        let (work, stop) = (Arc::clone(&work), stop.clone());
        move |request: Request<Incoming>| {
            let (router, at_work, stop) = (router.clone(), work.begin(), stop.clone());
            async move {
                let is_http2 = request.version() == Version::HTTP_2;
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(ConnectInfo(peer));
                request.extensions_mut().insert(Ending(stop));
                let response = router.oneshot(request).await;
                response.map(|response| response.map(|body| Watched::new(body, at_work, is_http2)))
            }
        }
    });
    let builder = builder(&limits);
    let stream = TokioIo::new(Patient::new(stream, limits.stall));
    let mut connection = pin!(builder.serve_connection(stream, service));

    loop {
        tokio::select! {
            ended = connection.as_mut() => return told(peer, ended),
            () = stop.cancelled() => break,
            () = sleep_until(work.look_again(&limits)) => {
                if work.is_over(&limits) {
                    break;
                }
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    let end = Instant::now() + limits.goodbye;
    tokio::select! {
        ended = connection.as_mut() => told(peer, ended),
        () = sleep_until(end) => {
            tracing::debug!(target: "final::gateway", %peer, "an HTTP connection did not end in time and is closed");
        }
    }
}

fn told(peer: SocketAddr, ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(target: "final::gateway", %peer, error, "an HTTP connection ended with an error");
    }
}

fn builder(limits: &HttpLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(READ_AHEAD)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(READ_AHEAD as u32)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(256 * 1024);
    builder
}

/// Tells a request that waits that its connection is about to end.
#[derive(Clone, Debug)]
pub(super) struct Ending(pub(super) CancellationToken);

/// The requests of a connection that are not answered to their end.
#[derive(Debug)]
struct Work(Mutex<WorkState>);

#[derive(Debug)]
struct WorkState {
    count: usize,
    /// When a request began or ended last.
    since: Instant,
    next: u64,
    /// The answers whose last piece is not taken yet, and since when.
    waiting: HashMap<u64, Instant>,
}

impl Work {
    fn new() -> Self {
        Self(Mutex::new(WorkState {
            count: 0,
            since: Instant::now(),
            next: 0,
            waiting: HashMap::new(),
        }))
    }

    fn begin(self: &Arc<Self>) -> AtWork {
        let mut state = self.state();
        state.count += 1;
        state.since = Instant::now();
        state.next += 1;
        AtWork {
            work: Arc::clone(self),
            number: state.next,
        }
    }

    /// When the connection may be over at the earliest. An answer may begin to wait at any time.
    fn look_again(&self, limits: &HttpLimits) -> Instant {
        let state = self.state();
        let longest = state.waiting.values().min().copied();
        let stalled = longest.unwrap_or_else(Instant::now) + limits.stall;
        match state.count {
            0 => stalled.min(state.since + limits.idle),
            _ => stalled,
        }
    }

    /// Whether nothing was asked for too long, or the client does not take an answer. The stream's own limit does not see the
    /// latter in HTTP/2, where a client that grants no window leaves nothing to be written.
    fn is_over(&self, limits: &HttpLimits) -> bool {
        let state = self.state();
        let is_idle = state.count == 0 && state.since.elapsed() >= limits.idle;
        let mut waiting = state.waiting.values();
        is_idle || waiting.any(|since| since.elapsed() >= limits.stall)
    }

    fn state(&self) -> MutexGuard<'_, WorkState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is not answered to its end.
#[derive(Debug)]
struct AtWork {
    work: Arc<Work>,
    number: u64,
}

impl AtWork {
    /// Whether the client has to take a piece of the answer from now on.
    fn waits(&self, waits: bool) {
        let mut state = self.work.state();
        match waits {
            true => state.waiting.insert(self.number, Instant::now()),
            false => state.waiting.remove(&self.number),
        };
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut state = self.work.state();
        state.waiting.remove(&self.number);
        state.count = state.count.saturating_sub(1);
        state.since = Instant::now();
    }
}

/// The body of an answer: its request is at work until the last byte.
struct Watched {
    body: Body,
    at_work: AtWork,
    is_http2: bool,
    /// The last byte. HTTP/2 takes a whole piece as soon as the client has room for one byte; it takes this byte only once
    /// the client has room for all before it.
    last: Option<Bytes>,
}

impl Watched {
    fn new(body: Body, at_work: AtWork, is_http2: bool) -> Self {
        at_work.waits(!body.is_end_stream());
        Self {
            body,
            at_work,
            is_http2,
            last: None,
        }
    }

    fn hold_back(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if !self.is_http2 || !self.body.is_end_stream() {
            return frame;
        }
        match frame.into_data() {
            Ok(mut data) if data.len() > SMALL => {
                self.last = Some(data.split_off(data.len() - 1));
                Frame::data(data)
            }
            Ok(data) => Frame::data(data),
            Err(frame) => frame,
        }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(last) = self.last.take() {
            self.at_work.waits(true);
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.at_work
            .waits(matches!(polled, Poll::Ready(Some(Ok(_)))));
        polled.map_ok(|frame| self.hold_back(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.last.as_ref().map_or(0, Bytes::len) as u64;
        let body = self.body.size_hint();
        match body.exact() {
            Some(rest) => SizeHint::with_exact(rest + held),
            None => body,
        }
    }
}
