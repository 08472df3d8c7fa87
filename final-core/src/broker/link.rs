//! The open connection between one bus and its broker.
//!
//! Input: the [`Setup`] of the bus; then messages, settlements and the steps of a shutdown. State: whether the
//! broker takes messages now. Output: confirms, and a stream of deliveries.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::{Delivery, Detour, LetterStream, Outgoing};
use crate::{Error, Options, handler::Hold};

/// What a bus asks of its broker when it starts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Setup {
    /// The service's name, checked.
    pub service: Arc<str>,
    /// The topics to receive. Without any, nothing is declared for consuming and nothing consumed.
    pub topics: Vec<Arc<str>>,
    /// How many handlers run at once at most.
    pub concurrency: usize,
    /// How many consumers to open.
    pub num_subscribers: usize,
    /// How many messages are in flight at most, shared and alone together.
    pub confirm_window: usize,
    /// Whether to empty the service's queues before consuming.
    ///
    /// Refused while the queue has consumers.
    pub purge: bool,
    /// Whether the bus takes the service's dead letters out of the broker, by [`Link::dead_letters`].
    pub collect_dead_letters: bool,
    /// The topics whose messages are [held](super::Settlement::Hold) when they fail, and what waits behind them. Empty
    /// for a broker that [cannot hold](super::Broker::can_hold).
    pub holds: BTreeMap<Arc<str>, Hold>,
}

impl Setup {
    /// What a bus with default [`Options`](crate::Options) asks for: for the tests of a broker, which
    /// change fields as they need.
    ///
    /// ```
    /// # use final_core::broker::Setup;
    /// let mut setup = Setup::new("shop", ["order.placed"]);
    /// setup.purge = true;
    /// ```
    pub fn new<T: Into<Arc<str>>>(
        service: impl Into<Arc<str>>,
        topics: impl IntoIterator<Item = T>,
    ) -> Self {
        Self::with_options(
            service.into(),
            topics.into_iter().map(Into::into).collect(),
            &Options::default(),
        )
    }

    pub(crate) fn with_options(
        service: Arc<str>,
        topics: Vec<Arc<str>>,
        options: &Options,
    ) -> Self {
        Self {
            service,
            topics,
            concurrency: options.concurrency,
            num_subscribers: options.num_subscribers,
            confirm_window: options.confirm_window,
            purge: options.purge_on_startup,
            collect_dead_letters: options.collect_dead_letters,
            holds: BTreeMap::new(),
        }
    }
}

/// Whether the broker takes messages now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
#[non_exhaustive]
pub struct Opened {
    /// The link.
    pub link: Arc<dyn Link>,
    /// What the broker delivers. Holds no more than the link's prefetch.
    pub deliveries: mpsc::Receiver<Delivery>,
}

impl Opened {
    /// Puts the two halves together.
    ///
    /// The channel of `deliveries` bounds what waits in memory. Without topics its sender is dropped at
    /// once.
    pub fn new(link: Arc<dyn Link>, deliveries: mpsc::Receiver<Delivery>) -> Self {
        Self { link, deliveries }
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

/// How many settlements a link has carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settled {
    /// Deliveries that were acked.
    pub handled: u64,
    /// Deliveries whose dead letter is stored.
    pub dead_lettered: u64,
}

impl Settled {
    /// The counts.
    pub fn new(handled: u64, dead_lettered: u64) -> Self {
        Self {
            handled,
            dead_lettered,
        }
    }
}

/// Numbers of a link, for [`Bus::metrics`](crate::Bus::metrics).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkCounts {
    /// Connections to the broker that were made anew after one was lost.
    pub reconnects: u64,
    /// Statements that the broker's database did not answer in time.
    pub give_ups: u64,
    /// Panics of the link's tasks.
    pub panics: u64,
    /// How many lanes it has; `None` for a broker without lanes.
    pub lanes: Option<u64>,
    /// How many messages it [holds](super::Settlement::Hold); `None` for a broker that cannot hold any.
    pub held: Option<u64>,
}

/// What waits for a service in the broker's own tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkBacklog {
    /// Messages that no instance of the service has read.
    pub waiting: u64,
    /// The age of the oldest message that is not settled.
    pub oldest: Option<Duration>,
    /// The service's dead letters.
    pub dead_letters: u64,
}

/// A broker connection that heals itself.
///
/// A shutdown calls [`stop_consuming`](Self::stop_consuming), [`finish_consuming`](Self::finish_consuming) and
/// [`close`](Self::close), in this order, each once. If the runtime of the shutdown ends in the middle, another
/// begins with the first step again. Each step returns within its limit, whatever the broker does. A link that
/// is dropped without them counts as lost: the broker delivers again what was not settled.
pub trait Link: Send + Sync + 'static {
    /// Whether messages are taken now, and every change of that.
    fn state(&self) -> watch::Receiver<LinkState>;

    /// Takes a message to send. Never blocks: the bus hands over no more than `confirm_window`.
    ///
    /// Every message gets exactly one confirm; dropping it confirms it as lost.
    fn send(&self, outgoing: Outgoing);

    /// Gives the link a way out for dead letters that it cannot store now. Called once, after the opening. A link
    /// that keeps its dead letters in flight until they are stored ignores it.
    fn use_detour(&self, _detour: Arc<dyn Detour>) {}

    /// The service's dead letters, for a bus that keeps them in its database. Called once, after the opening, if
    /// [`Setup::collect_dead_letters`] is set.
    ///
    /// `None` if the link offers none, as by default: where dead letters can be listed anyway, they stay where they
    /// are. The link keeps a letter until the bus has [stored](super::LetterDelivery::stored) it, and offers no more
    /// than a few dozen at a time. The stream ends with [`stop_consuming`](Self::stop_consuming); what it has given by then
    /// can still be stored, until [`finish_consuming`](Self::finish_consuming).
    fn dead_letters(&self) -> Option<LetterStream> {
        None
    }

    /// How many settlements were carried out, so that a void one does not count. `None` if the link does not
    /// count; the bus then counts what it has asked for.
    fn settled(&self) -> Option<Settled> {
        None
    }

    /// What the link has counted. Asked at each scrape of a monitoring system, so it must not block. All zero by
    /// default.
    fn counts(&self) -> LinkCounts {
        LinkCounts::default()
    }

    /// What waits for the service, if the broker keeps its messages in tables that it can ask. `None` by default.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    fn backlog(&self) -> BoxFuture<'_, Result<Option<LinkBacklog>, Error>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Why the link does not do its work and never will again in this process: its tasks have ended, for example.
    /// A broker that is away is no such reason. `None` by default.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Ends the stream of deliveries. Those already delivered can still be settled.
    fn stop_consuming(&self, limit: Duration) -> BoxFuture<'_, ()>;

    /// Carries out the settlements so far, dead letters included, and requeues every other delivery.
    fn finish_consuming(&self, limit: Duration) -> BoxFuture<'_, ()>;

    /// Waits for the confirms of what was sent, and closes. Messages without a confirm by then are
    /// confirmed as lost.
    fn close(&self, limit: Duration) -> BoxFuture<'_, ()>;
}
