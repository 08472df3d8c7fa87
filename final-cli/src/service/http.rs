//! `/livez`, `/readyz` and `/metrics`.
//!
//! Input: requests of probes and of Prometheus. State: at most 64 connections, each for one request and 30 s at most,
//! so that nobody can fill the process by connecting. Output: 200 or 503, with the reasons as lines of text.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::JoinHandle,
    time::{Sleep, sleep, timeout},
};

use super::{Condition, Service, ServiceError, probe::Probe};

/// Connections at once. A probe and a scrape are two.
const MOST: usize = 64;

/// How long a connection may last.
const LIFETIME: Duration = Duration::from_secs(30);

/// How long the server waits for answers that are on their way when it closes.
const GOODBYE: Duration = Duration::from_secs(1);

/// The server, from its making to [`close`](Self::close).
pub(super) struct Http {
    serving: JoinHandle<io::Result<()>>,
    stop: oneshot::Sender<()>,
}

impl Http {
    /// Listens, and answers from then on.
    pub(super) async fn open<S: Service>(
        address: SocketAddr,
        probe: Arc<Probe<S>>,
    ) -> Result<Self, ServiceError> {
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            io::Result::Ok((listener, address))
        };
        let bound = bound.await;
        let (listener, local) = bound.map_err(|error| ServiceError::Listen { address, error })?;
        tracing::info!(
            target: "final::service",
            address = %local,
            "listening for probes and for the scrape of metrics"
        );
        let routes = Router::new()
            .route("/livez", get(livez::<S>))
            .route("/readyz", get(readyz::<S>))
            .route("/metrics", get(metrics::<S>))
            .fallback(async || {
                (
                    StatusCode::NOT_FOUND,
                    "there are /livez, /readyz and /metrics\n",
                )
            })
            .layer(map_response(closing))
            .with_state(probe);
        let (stop, stopped) = oneshot::channel();
        let door = Door {
            listener,
            places: Arc::new(Semaphore::new(MOST)),
        };
        let server = axum::serve(door, routes).with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        let serving = tokio::spawn(async { server.await });
        Ok(Self { serving, stop })
    }

    /// Answers no new requests, and waits a moment for the others.
    pub(super) async fn close(mut self) {
        let _ = self.stop.send(());
        if timeout(GOODBYE, &mut self.serving).await.is_err() {
            self.serving.abort();
            let _ = self.serving.await;
        }
    }
}

async fn livez<S: Service>(State(probe): State<Arc<Probe<S>>>) -> impl IntoResponse {
    let condition = probe.condition().await;
    answer(condition.live, &condition)
}

async fn readyz<S: Service>(State(probe): State<Arc<Probe<S>>>) -> impl IntoResponse {
    let condition = probe.condition().await;
    answer(condition.ready && condition.live, &condition)
}

/// Makes the connection one for a single request.
async fn closing(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn answer(is_good: bool, condition: &Condition) -> impl IntoResponse + use<> {
    let status = match is_good {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut text = match is_good {
        true => "ok\n".to_owned(),
        false => "not ok\n".to_owned(),
    };
    for reason in &condition.reasons {
        text.push_str(&reason.replace(['\r', '\n'], " "));
        text.push('\n');
    }
    (status, text)
}

async fn metrics<S: Service>(State(probe): State<Arc<Probe<S>>>) -> impl IntoResponse {
    let kind = (
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    );
    match probe.metrics().await {
        Ok(text) => (StatusCode::OK, [kind], text),
        Err(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            [kind],
            format!("# {error}\n"),
        ),
    }
}

/// Lets a connection in when there is a place for it.
struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl axum::serve::Listener for Door {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                std::future::pending().await
            };
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    let end = Box::pin(sleep(LIFETIME));
                    return (
                        Guest {
                            stream,
                            end,
                            _place: place,
                        },
                        from,
                    );
                }
                // The connection was gone before it was taken, or the process has no file left: others may end.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with its place and its end.
struct Guest {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            return Poll::Ready(read);
        }
        ready!(self.end.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(context, bytes) {
            return Poll::Ready(written);
        }
        ready!(self.end.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
