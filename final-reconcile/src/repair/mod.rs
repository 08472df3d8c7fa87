//! What is done about rows that differ.
//!
//! Input: differences of a comparison. State: a table of open repairs. Output: calls, messages or rows of the target, until
//! each repair is done.
//!
//! | part | has |
//! | --- | --- |
//! | [`way`] | the ways to repair a row: call, publish, SQL |
//! | [`body`], [`printed`] | what is sent; whole rows of the source |
//! | [`schema`], [`migrate`], [`store`] | the table of open repairs, how it is made, and its statements |
//! | [`row`] | a repair as the table has it, and as an operator sees it |
//! | [`worker`] | takes repairs that are due, looks at their rows again, and has them mended |
//!
//! ```text
//!  difference ─▶ open (one for a unit and key) ─ due ─▶ claimed ─ both rows again ─┬ equal: healed, removed
//!                  ▲                                                                      ├ done, or 410: removed
//!                  └──────────────────── later, for ever ◀────────────────────────────────┴ anything else
//! ```

pub(crate) mod body;
pub(crate) mod migrate;
pub(crate) mod printed;
mod row;
mod schema;
pub(crate) mod store;
mod way;
pub(crate) mod worker;

use std::{sync::Arc, time::Duration};

use final_core::{Bus, OutboxDatabase};
use final_webhook::Endpoint;

use self::way::Way;
pub use self::{body::CallbackBody, row::OpenRepair};

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
    way: Way,
    body: CallbackBody,
    pub(crate) extras: bool,
    pace: Pace,
    lease: Duration,
}

/// How soon a repair that failed is tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) quick: Duration,
    pub(crate) slow: Duration,
}

/// How often a repair is tried at the quick pace.
pub(crate) const QUICK: i64 = 3;

/// The shortest time that a try may take.
const SHORTEST: Duration = Duration::from_secs(1);

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
    fn longest(&self) -> Duration {
        self.lease / 4
    }
}

impl Pace {
    /// How long to wait after so many tries. `chance` is from 0 to 1, so that repairs do not come in crowds.
    pub(crate) fn after(self, attempts: i64, chance: f64) -> Duration {
        if attempts <= QUICK {
            return self.quick;
        }
        let doublings = u32::try_from(attempts - QUICK).unwrap_or(u32::MAX).min(16);
        let longer = self.quick.saturating_mul(1 << doublings).min(self.slow);
        longer.mul_f64(0.8 + 0.2 * chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_is_tried_three_times_soon_and_then_more_slowly_for_ever() {
        let pace = Pace {
            quick: Duration::from_secs(10),
            slow: Duration::from_secs(600),
        };
        let after = |attempts| pace.after(attempts, 1.0).as_secs();
        assert_eq!([1, 2, 3, 4, 5].map(after), [10, 10, 10, 20, 40]);
        assert_eq!([9, 100, i64::MAX].map(after), [600, 600, 600]);
        assert_eq!(pace.after(9, 0.0).as_secs(), 480);
    }
}
