//! What is done about rows that differ.
//!
//! Input: differences of a comparison. State: a table of open repairs. Output: calls to an endpoint, until each is done.
//!
//! | part | has |
//! | --- | --- |
//! | [`body`] | what is sent |
//! | [`schema`], [`store`] | the table of open repairs, and its statements |
//! | [`worker`] | takes repairs that are due, looks at their rows again, and calls the endpoint |
//!
//! ```text
//!  difference ─▶ open (one for a job, target and key) ─ due ─▶ claimed ─ both rows again ─┬ equal: healed, removed
//!                  ▲                                                                      ├ done, or 410: removed
//!                  └──────────────────── later, for ever ◀────────────────────────────────┴ anything else
//! ```

pub(crate) mod body;
mod schema;
pub(crate) mod store;
pub(crate) mod worker;

use std::time::Duration;

use final_webhook::Endpoint;

pub use self::{body::CallbackBody, store::OpenRepair};

/// What is done about the differences of a job. Without one they are only reported.
///
/// ```
/// use final_reconcile::{CallbackBody, Repair};
/// use final_webhook::Endpoint;
///
/// let endpoint = Endpoint::new("https://shop.example/repair")?;
/// let repair = Repair::callback(endpoint).body(CallbackBody::Cupid).extras(true);
/// # Ok::<_, final_webhook::EndpointError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Repair {
    pub(crate) endpoint: Endpoint,
    pub(crate) body: CallbackBody,
    pub(crate) extras: bool,
    pub(crate) pace: Pace,
}

/// How soon a repair that failed is tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) quick: Duration,
    pub(crate) slow: Duration,
}

/// How often a repair is tried at the quick pace.
pub(crate) const QUICK: i64 = 3;

impl Repair {
    /// Calls an endpoint for each row that is missing or different, until it answers that it is done. The call has the
    /// repair's id as its idempotency key; docs/webhooks.md tells what else is sent.
    #[must_use]
    pub fn callback(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            body: CallbackBody::default(),
            extras: false,
            pace: Pace {
                quick: Duration::from_secs(10),
                slow: Duration::from_secs(10 * 60),
            },
        }
    }

    /// What is sent.
    #[must_use]
    pub fn body(mut self, body: CallbackBody) -> Self {
        self.body = body;
        self
    }

    /// Whether the endpoint is also called for rows that the source has not. It would have to delete them, so it is not
    /// unless this is asked for.
    #[must_use]
    pub fn extras(mut self, extras: bool) -> Self {
        self.extras = extras;
        self
    }

    /// How soon a call that failed is repeated: 10 s for the first three times, then longer each time, up to ten minutes.
    #[must_use]
    pub fn pace(mut self, quick: Duration, slow: Duration) -> Self {
        self.pace = Pace {
            quick,
            slow: slow.max(quick),
        };
        self
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
