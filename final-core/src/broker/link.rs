//! The open connection between one bus and its broker.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::{Delivery, Outgoing};

/// What a bus asks of its broker when it starts.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The service's name, checked.
    pub service: Arc<str>,
    /// The topics to receive. Without any, nothing is declared for consuming and nothing consumed.
    pub topics: Vec<Arc<str>>,
    /// How many handlers run at once at most.
    pub concurrency: usize,
    /// How many consumers to open.
    pub num_subscribers: usize,
    /// How many messages are in flight at most, over all lanes.
    pub confirm_window: usize,
    /// Whether to empty the service's queues before consuming.
    ///
    /// Refused while the queue has consumers.
    pub purge: bool,
}

/// Whether the broker takes messages now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Not connected; the link keeps trying.
    Away,
    /// Connected and taking messages.
    Ready,
    /// Connected, but the broker asked for a pause (an alarm).
    Blocked,
    /// Closed by [`Link::close`]; it does not come back.
    Closed,
}

/// What [`Broker::open`](super::Broker::open) gives.
pub struct Opened {
    /// The link.
    pub link: Arc<dyn Link>,
    /// What the broker delivers. Holds no more than the link's prefetch.
    pub deliveries: mpsc::Receiver<Delivery>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

/// A broker connection that heals itself.
///
/// Methods that end something are called in the order they stand here, each once. Each returns
/// within its limit, whatever the broker does.
pub trait Link: Send + Sync + 'static {
    /// Whether messages are taken now, and every change of that.
    fn state(&self) -> watch::Receiver<LinkState>;

    /// Takes a message to send. Never blocks: the bus hands over no more than `confirm_window`.
    ///
    /// Whatever happens, the message is settled: by an answer, or by being dropped.
    fn send(&self, outgoing: Outgoing);

    /// Stops taking deliveries and ends the stream of them; those in hand can still be settled.
    fn stop_consuming(&self, limit: Duration) -> BoxFuture<'_, ()>;

    /// Carries out the settlements of what was in hand, dead letters included, and hands back the
    /// rest.
    fn finish_consuming(&self, limit: Duration) -> BoxFuture<'_, ()>;

    /// Waits for the confirms of what was sent, and closes. What is left is settled as lost.
    fn close(&self, limit: Duration) -> BoxFuture<'_, ()>;
}
