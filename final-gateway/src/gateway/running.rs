//! A gateway that runs, and its end.
//!
//! ```text
//!   shutdown ─▶ front: no new connections, sessions end ─▶ groups: hands go back, links close
//!              ─▶ committer: what is in the queue is committed ─▶ motor: links close ─▶ back: rights
//! ```

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::Router;
use tokio::sync::watch;

use super::{
    Addresses, Health, Limits,
    doors::{Doors, serve_http},
    staff::Staff,
    vitals::Condition,
};
use crate::{
    ends,
    groups::Groups,
    http::Front,
    publish::{Committer, Publisher},
};

/// A gateway that runs. Call [`shutdown`](Self::shutdown) before the process ends. Dropped without it, the gateway stops
/// where it is: what was answered is committed, and what was not acked comes again.
#[must_use = "a dropped gateway stops"]
pub struct Running {
    condition: Condition,
    addresses: Addresses,
    limits: Limits,
    /// How long the connections of a port have at the end.
    ending: Duration,
    /// The tasks that clients come to.
    front: Staff,
    /// The tasks that the others need to the end.
    back: Staff,
    committer: Committer,
}

impl Running {
    pub(super) fn start(
        condition: Condition,
        committer: Committer,
        doors: Doors,
        limits: Limits,
        told: watch::Sender<Option<String>>,
    ) -> Self {
        let (mut front, mut back) = (Staff::new(told.clone()), Staff::new(told));
        let (addresses, ending) = (doors.addresses(), doors.ending());
        let rights = condition.rights.clone();
        back.hire(
            "rights",
            |stop| async move { rights.keep_current(stop).await },
        );
        let Doors { resp, http } = doors;
        if let Some(port) = resp {
            let Condition {
                publisher,
                groups,
                rights,
                ..
            } = condition.clone();
            front.hire("resp", |stop| port.run(publisher, groups, rights, stop));
        }
        if let Some(entrance) = http {
            let router = front_of(&condition, &limits)
                .with_vitals(Arc::new(condition.clone()))
                .router();
            let limits = limits.http();
            front.hire("http", |stop| serve_http(entrance, router, limits, stop));
        }
        Self {
            condition,
            addresses,
            limits,
            ending,
            front,
            back,
            committer,
        }
    }

    /// Where clients reach it, with the ports that were chosen.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The way in for messages, for the service around the gateway.
    #[must_use]
    pub fn publisher(&self) -> &Publisher {
        &self.condition.publisher
    }

    /// What groups consume, for the service around the gateway.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.condition.groups
    }

    /// The routes of HTTP, to be nested into a service's own server. The server gives `ConnectInfo<SocketAddr>`
    /// (`into_make_service_with_connect_info`), so that failed logins are counted by address. `/livez`, `/readyz` and
    /// `/metrics` are not among them: the service has its own.
    pub fn router(&self) -> Router {
        front_of(&self.condition, &self.limits).router()
    }

    /// Whether it lives, and whether it should get clients.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn health(&self) -> Health {
        self.condition.health().await
    }

    /// Numbers, as text for Prometheus.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn metrics(&self) -> String {
        self.condition.numbers().await
    }

    /// Waits until a task ends that should run as long as the gateway does, and says which. The process should shut
    /// down and be started again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn died(&self) -> String {
        let mut died = self.condition.died.clone();
        // The guard of the value must not live beyond this, or the future could not go to another thread.
        let why = died.wait_for(Option::is_some).await.map(|why| why.clone());
        match why {
            Ok(why) => why.unwrap_or_default(),
            // Both staffs hold the sender as long as this has them.
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends the gateway: no new connections, sessions end, what clients have in hand goes back, messages that were
    /// taken are committed, links close. Each step has its limit.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops everything where it is, as dropping the gateway does.
    pub async fn shutdown(self) {
        let Self {
            condition,
            limits,
            ending,
            front,
            back,
            committer,
            ..
        } = self;
        condition.is_stopping.store(true, Ordering::Relaxed);
        let limit = limits.shutdown_within;
        // The dismissal ends connections, which is no failure of their clients.
        condition.groups.expect_shutdown();
        front.dismiss(ends::all_connections(ending, limit)).await;
        condition.groups.shutdown().await;
        committer.stop().await;
        condition.motor.stop().await;
        back.dismiss(limit).await;
    }
}

fn front_of(condition: &Condition, limits: &Limits) -> Front {
    let Condition {
        publisher,
        groups,
        rights,
        ..
    } = condition.clone();
    Front::new(publisher, groups, rights, limits.http())
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("addresses", &self.addresses)
            .field("publisher", &self.condition.publisher)
            .finish_non_exhaustive()
    }
}
