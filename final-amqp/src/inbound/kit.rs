//! A runtime for lapin whose streams are [`Guarded`].
//!
//! Input: the calls of lapin. Output: those of tokio's runtime, and guarded streams. lapin takes only streams
//! of its runtime's own stream type, so this is its tokio runtime with another stream type.

use std::{
    future::Future,
    io::{self, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use async_rs::{
    Runtime, TokioRuntime,
    traits::{Executor, Reactor, RuntimeKit},
    util::{DummyIO, Task},
};
use futures::{
    Stream,
    io::{AsyncRead, AsyncWrite},
};
use lapin::tcp::AsyncTcpStream;

use super::Guarded;

/// The stream type of tokio's runtime.
type Plain = <TokioRuntime as Reactor>::TcpStream;

/// tokio's runtime with guarded streams.
#[derive(Clone, Debug)]
pub(crate) struct Kit(TokioRuntime);

impl Kit {
    /// lapin's runtime on top of tokio's.
    pub(crate) fn runtime(tokio: TokioRuntime) -> Runtime<Self> {
        Runtime::new(Self(tokio))
    }
}

impl RuntimeKit for Kit {}

impl Executor for Kit {
    type Task<T: Send + 'static> = <TokioRuntime as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, f: F) -> T {
        self.0.block_on(f)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        f: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn(f)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        f: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(f)
    }
}

impl Reactor for Kit {
    /// The guard is outside of TLS, because it has to read the frames.
    type TcpStream = Guarded<AsyncTcpStream<Plain>>;
    type Sleep = <TokioRuntime as Reactor>::Sleep;

    /// lapin opens all its sockets through this runtime, so there are none to register.
    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<DummyIO, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connected = self.0.tcp_connect_addr(address);
        async move { Ok(Guarded::new(AsyncTcpStream::Plain(connected.await?))) }
    }
}
