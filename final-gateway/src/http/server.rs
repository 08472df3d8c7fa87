//! The HTTP port.
//!
//! Input: an address, perhaps a certificate. State: open connections. Output: each of them served, until the stop.

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;

use super::{
    front::Front,
    serve::{BUSY, serve_connection},
};
use crate::listen::{Entrance, ListenError, ListenLimits, Tls, TlsError};

/// Where HTTP is to be spoken.
#[derive(Clone, Debug)]
#[must_use]
pub struct Http {
    address: String,
    tls: Option<Tls>,
    limits: ListenLimits,
}

/// The port, which is listened at.
#[derive(Debug)]
pub(crate) struct HttpServer(Entrance);

impl Http {
    /// At `host:port`, where port 0 is any free one. Without TLS, HTTP/1.1, and HTTP/2 for clients that begin with it.
    pub fn at(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            tls: None,
            limits: ListenLimits::default(),
        }
    }

    /// With TLS, and the choice between HTTP/1.1 and HTTP/2 that comes with it.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// With other limits of connections.
    pub fn limits(mut self, limits: ListenLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Listens.
    pub(crate) async fn open(self) -> Result<HttpServer, ListenError> {
        let Self {
            address,
            tls,
            limits,
        } = self;
        let tls = tls.as_ref().map(both_versions).transpose()?;
        let entrance = Entrance::open(&address, tls, limits, BUSY).await?;
        Ok(HttpServer(entrance))
    }
}

fn both_versions(tls: &Tls) -> Result<Tls, TlsError> {
    tls.with_protocols(&[b"h2", b"http/1.1"])
}

impl HttpServer {
    /// The address, with the port that was chosen.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Serves until `stop`, and then until requests have ended or are out of time.
    pub(crate) async fn run(self, front: Front, stop: CancellationToken) {
        let limits = front.limits;
        let router = front.router();
        let ending = stop.clone();
        let serve = move |visitor: crate::listen::Visitor| {
            let (router, stop) = (router.clone(), ending.clone());
            serve_connection(visitor.stream, visitor.peer, router, limits, stop)
        };
        self.0.run(stop, serve).await;
    }
}
