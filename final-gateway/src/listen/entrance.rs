//! An entrance: one address, and everybody who came in by it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::{JoinError, JoinSet},
    time::{Instant, interval, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::ends;

use super::{Socket, Tls, accept::accept, farewell::farewell, tls::TlsError};

/// How often certificates are looked at.
const RELOAD: Duration = Duration::from_secs(10);

/// So many refused connections at once are told why. Further ones are closed without a word.
const FAREWELLS: usize = 32;

/// ListenLimits of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenLimits {
    /// So many connections at once: 20,000 by default. Later ones are refused in the words of the protocol.
    pub connections: usize,
    /// How long a TLS handshake may take: 10 s by default.
    pub handshake: Duration,
    /// How long connections have to come to their end at a shutdown before they are cut: 22 s by default, because one may
    /// wait for a COMMIT, which has 15 s.
    pub ending: Duration,
}

impl Default for ListenLimits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            handshake: Duration::from_secs(10),
            ending: ends::CONNECTION,
        }
    }
}

/// Where to listen, and how.
#[derive(Clone, Debug)]
#[must_use]
pub struct Listen {
    address: String,
    tls: Option<Tls>,
    limits: ListenLimits,
}

impl Listen {
    /// At `host:port`, where port 0 is any free one. Without TLS.
    pub fn at(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            tls: None,
            limits: ListenLimits::default(),
        }
    }

    /// With TLS, and nothing else.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// With other limits.
    pub fn limits(mut self, limits: ListenLimits) -> Self {
        self.limits = limits;
        self
    }
}

/// Why an address cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address is taken, or is none of this machine.
    #[error("cannot listen at {address}: {}", hint(error))]
    Bind {
        /// The address as it was given.
        address: String,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there; stop it or choose another port".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine does not have the address".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "a port below 1024 needs the right to bind it; choose another port".to_owned()
        }
        _ => error.to_string(),
    }
}

/// An address that is listened at.
#[derive(Debug)]
pub(crate) struct Entrance {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    limits: ListenLimits,
    /// What a client reads when there is no place for it.
    refusal: &'static [u8],
}

/// A client that came in.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// Its connection; after the handshake, if there is one.
    pub(crate) stream: Socket,
    /// Its address.
    pub(crate) peer: SocketAddr,
}

impl Entrance {
    /// Listens. `protocols` are those of the handshake, the first one preferred.
    pub(crate) async fn open(
        listen: &Listen,
        protocols: &[&[u8]],
        refusal: &'static [u8],
    ) -> Result<Self, ListenError> {
        let address = &*listen.address;
        let tls = listen.tls.as_ref();
        let tls = tls.map(|tls| tls.with_protocols(protocols)).transpose()?;
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let local = listener.local_addr()?;
            io::Result::Ok((listener, local))
        };
        let (listener, local) = bound.await.map_err(|error| ListenError::Bind {
            address: address.to_owned(),
            error,
        })?;
        Ok(Self {
            listener,
            address: local,
            tls,
            limits: listen.limits,
            refusal,
        })
    }

    /// The address, with the port that was chosen.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How long connections have to come to their end.
    pub(crate) fn ending(&self) -> Duration {
        self.limits.ending
    }

    /// Lets clients in until `stop`, each with a task of its own. Then waits for these tasks, which hear of `stop` by
    /// themselves, and cuts those that are late.
    pub(crate) async fn run<F, Served>(self, stop: CancellationToken, serve: F)
    where
        F: Fn(Visitor) -> Served + Send + Sync + 'static,
        Served: Future<Output = ()> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let farewells = Arc::new(Semaphore::new(FAREWELLS));
        let serve = Arc::new(serve);
        let mut tasks = JoinSet::new();
        let mut reload = interval(RELOAD);
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = tasks.join_next() => {
                    notice(ended);
                    continue;
                }
                _ = reload.tick(), if self.tls.is_some() => {
                    if let Some(tls) = &self.tls {
                        tls.reload().await;
                    }
                    continue;
                }
                accepted = accept(&self.listener) => accepted,
            };
            let (socket, peer) = accepted;
            // Answers are small and waited for.
            let _ = socket.set_nodelay(true);
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                let refusal = self.refusal;
                // A TLS client could not read it before its handshake.
                let farewell_place = Arc::clone(&farewells).try_acquire_owned();
                if let (Ok(place), None) = (farewell_place, &self.tls) {
                    tasks.spawn(async move {
                        farewell(Socket::Plain(socket), refusal).await;
                        drop(place);
                    });
                }
                continue;
            };
            let (serve, stop) = (Arc::clone(&serve), stop.clone());
            let acceptor = self.tls.as_ref().map(Tls::acceptor);
            let limit = self.limits.handshake;
            tasks.spawn(async move {
                let stream = match acceptor {
                    None => Socket::Plain(socket),
                    Some(acceptor) => {
                        let handshake = timeout(limit, acceptor.accept(socket));
                        let done = tokio::select! {
                            done = handshake => done,
                            () = stop.cancelled() => return,
                        };
                        match done {
                            Ok(Ok(stream)) => Socket::Tls(Box::new(stream)),
                            Ok(Err(error)) => return refused(peer, &error.to_string()),
                            Err(_) => return refused(peer, "it took too long"),
                        }
                    }
                };
                serve(Visitor { stream, peer }).await;
                drop(place);
            });
        }
        drop(self.listener);
        let end = Instant::now() + self.limits.ending;
        while let Ok(Some(ended)) = timeout_at(end, tasks.join_next()).await {
            notice(ended);
        }
        tasks.shutdown().await;
    }
}

fn refused(peer: SocketAddr, error: &str) {
    tracing::debug!(
        target: "final::gateway",
        peer = %peer,
        error,
        "a TLS handshake failed; the connection is closed"
    );
}

/// A panic ends the connection in which it happened, and no other.
fn notice(ended: Result<(), JoinError>) {
    let Err(error) = ended else { return };
    if error.is_panic() {
        tracing::error!(
            target: "final::gateway",
            error = %error,
            "the task of a connection panicked; the connection is closed"
        );
    }
}
