//! lapin's runtime, told that its streams are guarded ones.
//!
//! lapin takes streams of its runtime's own type only. This is tokio's runtime as lapin has it, but
//! for that type.

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

/// What tokio's runtime connects to.
type Plain = <TokioRuntime as Reactor>::TcpStream;

/// See the module.
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
    /// With TLS inside, if there is any: what is looked at has to be readable.
    type TcpStream = Guarded<AsyncTcpStream<Plain>>;
    type Sleep = <TokioRuntime as Reactor>::Sleep;

    /// For sockets that somebody else has opened; nobody has.
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
