//! The Redis protocol, and databus's commands in it.
//!
//! Input: bytes of Redis clients. State: one session for each connection. Output: answers in RESP2 or RESP3.

mod databus;
mod parts;
mod session;
mod wire;

use std::{net::SocketAddr, time::Duration};

use tokio_util::sync::CancellationToken;

use self::parts::Parts;
pub(crate) use self::session::SessionLimits;
#[cfg(any(test, feature = "__fuzzing"))]
pub(crate) use self::{
    databus::{Dsn, headers},
    wire::{RequestReader, WireError, WireLimits},
};
use crate::{
    groups::Groups,
    listen::{Entrance, Listen, ListenError},
    publish::Publisher,
    rights::Rights,
};

/// What a client reads when the gateway has no place for its connection. Redis says it like this.
const FULL: &[u8] = b"-ERR max number of clients reached\r\n";

/// An address at which Redis clients come in.
#[derive(Debug)]
pub(crate) struct RedisPort {
    entrance: Entrance,
    limits: SessionLimits,
}

impl RedisPort {
    /// Listens. Nobody is answered before [`run`](Self::run).
    pub(crate) async fn open(listen: &Listen, limits: SessionLimits) -> Result<Self, ListenError> {
        let entrance = Entrance::open(listen, &[], FULL).await?;
        Ok(Self { entrance, limits })
    }

    /// The address, with the port that was chosen.
    pub(crate) fn address(&self) -> SocketAddr {
        self.entrance.address()
    }

    /// How long connections have to come to their end.
    pub(crate) fn ending(&self) -> Duration {
        self.entrance.ending()
    }

    /// Answers clients until `stop`, and then until their sessions have ended.
    pub(crate) async fn run(
        self,
        publisher: Publisher,
        groups: Groups,
        rights: Rights,
        stop: CancellationToken,
    ) {
        let parts = Parts {
            publisher,
            groups,
            rights,
        };
        let limits = self.limits;
        let room = limits.input_room();
        let of_session = stop.clone();
        let serve = move |visitor: crate::listen::Visitor| {
            let (parts, room, stop) = (parts.clone(), room.clone(), of_session.clone());
            session::serve(visitor.stream, visitor.peer, parts, limits, room, stop)
        };
        self.entrance.run(stop, serve).await;
    }
}
