//! One connection: HTTP/1.1, or HTTP/2 where the client begins with it.
//!
//! Input: a stream, the routes, a token that says stop. State: how many requests are at work, and when the last of
//! them ended. Output: answers, until the client closes, is idle for too long, stalls, or the gateway stops.
//!
//! ```text
//!  open ─ idle too long, or stop ─▶ going: no new request ─ all answered, or out of time ─▶ closed
//! ```

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use bytes::Bytes;
use hyper::{
    Request,
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
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(ConnectInfo(peer));
                request.extensions_mut().insert(Ending(stop));
                let response = router.oneshot(request).await;
                response.map(|response| {
                    response.map(|body| Watched {
                        body,
                        _at_work: at_work,
                    })
                })
            }
        }
    });
    let builder = builder(&limits);
    let stream = TokioIo::new(Patient::new(stream, limits.stall));
    let mut connection = pin!(builder.serve_connection(stream, service));

    loop {
        let idle = work.idle_since().map(|since| since + limits.idle);
        let look_again = idle.unwrap_or_else(|| Instant::now() + limits.idle);
        tokio::select! {
            ended = connection.as_mut() => return told(peer, ended),
            () = stop.cancelled() => break,
            () = sleep_until(look_again) => {
                if work.idle_since().is_some_and(|since| since.elapsed() >= limits.idle) {
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
struct Work(Mutex<(usize, Instant)>);

impl Work {
    fn new() -> Self {
        Self(Mutex::new((0, Instant::now())))
    }

    fn begin(self: &Arc<Self>) -> AtWork {
        self.change(|count| count + 1);
        AtWork(Arc::clone(self))
    }

    fn change(&self, change: impl FnOnce(usize) -> usize) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (change(state.0), Instant::now());
    }

    /// Since when there is none.
    fn idle_since(&self) -> Option<Instant> {
        let (count, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (count == 0).then_some(since)
    }
}

/// A request that is not answered to its end.
#[derive(Debug)]
struct AtWork(Arc<Work>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.change(|count| count.saturating_sub(1));
    }
}

/// The body of an answer: its request is at work until the last byte.
struct Watched {
    body: Body,
    _at_work: AtWork,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
