//! Makes a connection to an address that may be called.
//!
//! Input: an endpoint, a resolver and whom to trust. Output: a stream, or why there is none. It keeps no state.
//!
//! The name is resolved once. Each address is checked, and a checked address is what is connected to. So no answer of
//! a name server can lead elsewhere between the check and the connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::{
    Endpoint, NotDone, Resolver, Step,
    client::destination::{Destination, DestinationHost},
    client::excerpt::plain,
    client::tls::Trust,
};

/// How many addresses of a name are tried.
const MOST_ADDRESSES: usize = 8;

/// How long an address has for itself before the next one is tried as well.
const STAGGER: Duration = Duration::from_millis(250);

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream to the endpoint, with TLS if its URL says so.
pub(crate) async fn dial(
    endpoint: &Endpoint,
    resolver: &dyn Resolver,
    trust: &Trust,
    step: &mut Step,
) -> Result<Box<dyn Stream>, NotDone> {
    let destination = &endpoint.destination;
    *step = Step::Resolving;
    let addresses = checked(endpoint, resolver).await?;
    *step = Step::Connecting;
    let stream = connect(&addresses).await?;
    // A call is one write, and nothing follows that could fill a packet.
    let _ = stream.set_nodelay(true);
    if destination.tls {
        secure(stream, destination, trust).await
    } else {
        Ok(Box::new(stream))
    }
}

/// The addresses of the endpoint that may be called.
async fn checked(endpoint: &Endpoint, resolver: &dyn Resolver) -> Result<Vec<SocketAddr>, NotDone> {
    let destination = &endpoint.destination;
    let host = destination.host.to_string();
    let found = match &destination.host {
        DestinationHost::Address(address) => vec![*address],
        DestinationHost::Name(name) => {
            resolver
                .resolve(name)
                .await
                .map_err(|error| NotDone::Unresolved {
                    host: host.clone(),
                    error: plain(error),
                })?
        }
    };
    let mut allowed: Vec<SocketAddr> = Vec::new();
    let mut refused: Option<(IpAddr, _)> = None;
    for address in found {
        match endpoint.allowed.check(address) {
            Ok(()) => allowed.push((address, destination.port).into()),
            Err(kind) => refused = refused.or(Some((address, kind))),
        }
    }
    allowed.truncate(MOST_ADDRESSES);
    match refused {
        _ if !allowed.is_empty() => Ok(allowed),
        Some((address, kind)) => Err(NotDone::Forbidden {
            host,
            address,
            kind,
        }),
        None => Err(NotDone::Unresolved {
            host,
            error: "the answer is empty".to_owned(),
        }),
    }
}

/// The first connection that can be made. The addresses are tried in their order, and a slow one does not hold up
/// the next: a machine may have an IPv6 address by name only.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, NotDone> {
    let mut waiting = addresses.iter().copied();
    let mut trying = FuturesUnordered::new();
    let mut failed = None;
    loop {
        let next = waiting.next();
        if let Some(address) = next {
            trying.push(async move { (address, TcpStream::connect(address).await) });
        }
        // With no address left there is no reason to stop waiting; the time limit of the call ends it.
        let ended = match next {
            Some(_) => timeout(STAGGER, trying.next()).await.ok().flatten(),
            None => trying.next().await,
        };
        match (ended, next) {
            (Some((_, Ok(stream))), _) => return Ok(stream),
            (Some((address, Err(error))), _) => failed = Some((address, error)),
            (None, Some(_)) => {}
            (None, None) => break,
        }
    }
    let (address, error) = match failed {
        Some(failed) => failed,
        None => (
            SocketAddr::from(([0, 0, 0, 0], 0)),
            io::Error::other("there is no address"),
        ),
    };
    Err(NotDone::Unreachable {
        address,
        error: plain(error),
    })
}

async fn secure(
    stream: TcpStream,
    destination: &Destination,
    trust: &Trust,
) -> Result<Box<dyn Stream>, NotDone> {
    let broken = |error: String| NotDone::Tls { error };
    let Trust::Roots(config) = trust else {
        return Err(broken(
            "this machine has no root certificates; install them (Debian: ca-certificates), or give the caller a file"
                .to_owned(),
        ));
    };
    let name = match &destination.host {
        DestinationHost::Address(address) => ServerName::from(*address),
        // Certificates have no dot at the end of a name.
        DestinationHost::Name(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
            .map_err(|_| broken(format!("{name} is no name that a certificate can have")))?,
    };
    match TlsConnector::from(config.clone())
        .connect(name, stream)
        .await
    {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(broken(plain(error))),
    }
}
