//! The addresses of a gateway, bound before anything runs, and served once all of it does.

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use tokio_util::sync::CancellationToken;

use super::{GatewayError, Limits};
use crate::{
    http::{self, HttpLimits},
    listen::{Entrance, Listen, Visitor},
    resp::RedisPort,
};

/// Where clients reach a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Addresses {
    /// Redis clients.
    pub resp: Option<SocketAddr>,
    /// HTTP clients.
    pub http: Option<SocketAddr>,
}

/// Bound addresses. Clients that connect wait until they are served.
pub(super) struct Doors {
    pub(super) resp: Option<RedisPort>,
    pub(super) http: Option<Entrance>,
}

impl Doors {
    pub(super) async fn open(
        resp: Option<Listen>,
        http: Option<Listen>,
        limits: &Limits,
    ) -> Result<Self, GatewayError> {
        let resp = match resp {
            None => None,
            Some(listen) => Some(RedisPort::open(&listen, limits.session()).await?),
        };
        let http = match http {
            None => None,
            Some(listen) => {
                let protocols: [&[u8]; 2] = [b"h2", b"http/1.1"];
                Some(Entrance::open(&listen, &protocols, http::BUSY).await?)
            }
        };
        Ok(Self { resp, http })
    }

    /// The longest time that connections have to come to their end.
    pub(super) fn ending(&self) -> Duration {
        let resp = self.resp.as_ref().map(RedisPort::ending);
        let http = self.http.as_ref().map(Entrance::ending);
        resp.max(http).unwrap_or_default()
    }

    pub(super) fn addresses(&self) -> Addresses {
        Addresses {
            resp: self.resp.as_ref().map(RedisPort::address),
            http: self.http.as_ref().map(Entrance::address),
        }
    }
}

/// Serves HTTP clients until `stop`.
pub(super) async fn serve_http(
    entrance: Entrance,
    router: Router,
    limits: HttpLimits,
    stop: CancellationToken,
) {
    let serve = {
        let stop = stop.clone();
        move |Visitor { stream, peer }: Visitor| {
            http::serve_connection(stream, peer, router.clone(), limits, stop.clone())
        }
    };
    entrance.run(stop, serve).await;
}
