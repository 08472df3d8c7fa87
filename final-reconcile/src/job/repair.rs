//! What is done about rows that differ, as the caller says it.

use std::{sync::Arc, time::Duration};

use final_core::{Bus, OutboxDatabase};
use final_webhook::Endpoint;

use super::publisher::Publisher;
use crate::pace::Pace;

/// The shortest time that a try may take.
const SHORTEST: Duration = Duration::from_secs(1);

/// What is done about the differences of a job. Without one they are only reported.
///
/// ```
/// use final_reconcile::{CallbackBody, Repair};
/// use final_webhook::Endpoint;
///
/// let endpoint = Endpoint::new("https://shop.example/repair")?;
/// let by_call = Repair::callback(endpoint).body(CallbackBody::Cupid).extras(true);
/// let by_sql = Repair::sql();
/// # Ok::<_, final_webhook::EndpointError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Repair {
    pub(crate) way: Way,
    pub(crate) body: CallbackBody,
    pub(crate) extras: bool,
    pub(crate) pace: Pace,
    pub(crate) lease: Duration,
}

impl Repair {
    /// Calls an endpoint for each row that is missing or different, until it answers that it is done. A call that is repeated
    /// has the same idempotency key as long as the row is the same; docs/webhooks.md tells what else is sent.
    #[must_use]
    pub fn callback(endpoint: Endpoint) -> Self {
        Self::by(Way::Call(Box::new(endpoint)))
    }

    /// Publishes a message for each row that is missing or different. It has the JSON that a callback has, an id
    /// that is the same if it comes again, and the row's key as its key. A repair is done when its message is committed to the outbox or the
    /// log of the bus; the next comparison finds out whether the message helped.
    ///
    /// ```no_run
    /// # fn run(shop: sqlx::PgPool) {
    /// use final_core::{Bus, MemoryBroker};
    /// use final_reconcile::Repair;
    ///
    /// let bus = Bus::new("shop", shop, MemoryBroker::new());
    /// let repair = Repair::publish(bus, "user.repair");
    /// # }
    /// ```
    #[must_use]
    pub fn publish<DB: OutboxDatabase>(bus: Bus<DB>, topic: impl Into<String>) -> Self {
        Self::by(Way::Publish {
            bus: Arc::new(bus),
            topic: topic.into(),
        })
    }

    /// Writes the source's row into the target: a missing row by INSERT, a different one by UPDATE of the columns that are
    /// mapped. What a row has besides stays as it is, and no statement replaces a row. The row is compared again in the
    /// same transaction, which is committed only if it is equal. The user of the target needs the right to write.
    #[must_use]
    pub fn sql() -> Self {
        Self::by(Way::Sql)
    }

    fn by(way: Way) -> Self {
        Self {
            way,
            body: CallbackBody::default(),
            extras: false,
            pace: Pace {
                quick: Duration::from_secs(10),
                slow: Duration::from_secs(10 * 60),
            },
            lease: Duration::from_secs(120),
        }
    }

    /// What is sent. A repair by SQL sends nothing.
    #[must_use]
    pub fn body(mut self, body: CallbackBody) -> Self {
        self.body = body;
        self
    }

    /// Whether rows that the source has not are repaired too. They would have to be deleted, and a repair by SQL deletes
    /// them, so they are left alone unless this is asked for.
    #[must_use]
    pub fn extras(mut self, extras: bool) -> Self {
        self.extras = extras;
        self
    }

    /// How soon a repair that failed is tried again: after 10 s for the first three times, then after longer each time, up
    /// to ten minutes.
    #[must_use]
    pub fn pace(mut self, quick: Duration, slow: Duration) -> Self {
        self.pace = Pace {
            quick,
            slow: slow.max(quick),
        };
        self
    }

    /// How long a process keeps repairs that it has taken: 120 s unless this is set, at least 4 s. Other processes wait so
    /// long for the repairs of a process that was killed. A try may take a quarter of it.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(4 * SHORTEST);
        self
    }

    /// Whether it writes the target.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.way, Way::Sql)
    }

    /// How long one try may take. The lease covers a try that begins before this rest of it.
    pub(crate) fn longest(&self) -> Duration {
        self.lease / 4
    }
}

/// How a row is repaired.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    Call(Box<Endpoint>),
    Publish {
        bus: Arc<dyn Publisher>,
        topic: String,
    },
    Sql,
}

/// The form of the JSON that a callback gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallbackBody {
    /// `{"job", "kind": "missing" | "different" | "extra", "key": {…}, "columns": […], "row": {…} | null}`.
    #[default]
    Full,
    /// As cupid documents it: `{"type": 1 | 2 | 3, "srcColumn": {…}}`. 1 is missing, 2 is different, 3 is extra.
    Cupid,
    /// As cupid really sends it: the columns of the source's row alone. All columns are in it, as their server prints them.
    CupidRow,
}
