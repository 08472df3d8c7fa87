//! Health: whether the process does its work, and whether it can be given more.
//!
//! Input: the phase of the bus, the tasks of its crew and of its link, and a sign of life of the database. Output:
//! [`Health`], with the reasons in words.
//!
//! | | the broker is away | the database is away | a task has ended | starting | stopped |
//! | --- | --- | --- | --- | --- | --- |
//! | live | yes | yes | no | yes | no |
//! | ready | yes | no | no | no | no |

use std::{fmt, sync::Arc, time::Duration};

use super::{Bus, Inner, Phase, start::Running};
use crate::{OutboxDatabase, error::with_causes, runtime::asked::Asked};

/// How long a sign of life counts. Many probes together ask the database once a second.
const FRESH: Duration = Duration::from_secs(1);

/// How long the database may take to give one.
const LIMIT: Duration = Duration::from_secs(1);

/// How much longer a caller waits, so that it hears the reason of the database and not its own.
const EXTRA: Duration = Duration::from_millis(250);

/// How long the text of an error may be.
const ENOUGH: usize = 500;

/// Why the database gave no sign of life, if it gave none.
pub(super) type Sign = Result<(), String>;

/// The question for it, with its last answer.
pub(super) fn question() -> Asked<Sign> {
    Asked::new("health", FRESH, LIMIT + EXTRA)
}

/// Whether a bus is alive and ready, for the probes of an orchestrator. Made by [`Bus::health`].
///
/// Its text, as [`Display`](fmt::Display) gives it, is one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether the process does its work, or will. If not, only a restart helps.
    pub live: bool,
    /// Whether it can be given work: it has started, and the database answers.
    pub ready: bool,
    /// Whether the broker takes messages now. If not, messages wait in the outbox, so this changes neither `live`
    /// nor `ready`: a restart would help nothing and repeat messages.
    pub connected: bool,
    /// Why it is not live or not ready, and what else does not work. Empty if all is well.
    pub reasons: Vec<String>,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.live, self.ready) {
            (true, true) => "live and ready",
            (true, false) => "live and not ready",
            (false, _) => "not live",
        })?;
        let mut before = ": ";
        self.reasons.iter().try_for_each(|reason| {
            let written = write!(f, "{before}{reason}");
            before = "; ";
            written
        })
    }
}

impl<DB: OutboxDatabase> Bus<DB> {
    /// Tells whether the bus is alive and ready. It takes little more than a second at most.
    ///
    /// - *Live*: the background tasks run. Before the start and during a shutdown it is live as well. Restart the
    ///   process where it is not.
    /// - *Ready*: the bus has started, and the database answers within a second.
    ///
    /// A broker that is away is neither's business: messages wait in the outbox until it is back.
    ///
    /// The database is asked once a second, however many call this.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn health(&self) -> Health {
        let inner = &self.inner;
        let mut health = Health {
            live: true,
            ready: true,
            ..Health::default()
        };
        match inner.phase() {
            Phase::New => health.is_not_ready("the bus has not been started"),
            Phase::Starting => health.is_not_ready("the bus is starting"),
            Phase::Stopping => health.is_not_ready("the bus is shutting down"),
            Phase::Stopped => health.is_dead("the bus has been shut down"),
            Phase::Running => {}
        }
        let Some(running) = inner.running() else {
            return health;
        };
        for reason in inner.trouble(running) {
            health.is_dead(reason);
        }
        if let Err(reason) = &*inner.sign_of_life().await {
            health.is_not_ready(format!("the database does not answer: {reason}"));
        } else if inner.outbox.is_read_only() {
            health
                .reasons
                .push("the database takes no writes".to_owned());
        }
        health.connected = running.relay.is_ready();
        if !health.connected {
            let reason = "the broker takes no messages now; they wait in the outbox";
            health.reasons.push(reason.to_owned());
        }
        health
    }
}

impl Health {
    fn is_not_ready(&mut self, reason: impl Into<String>) {
        self.ready = false;
        self.reasons.push(reason.into());
    }

    fn is_dead(&mut self, reason: impl Into<String>) {
        self.live = false;
        self.is_not_ready(reason);
    }
}

impl<DB: OutboxDatabase> Inner<DB> {
    /// The parts of a running bus that do not work, and will not.
    fn trouble(&self, running: &Running<DB>) -> Vec<String> {
        // Without a handler nothing is delivered, so that task ends at once.
        let may_end: &[&str] = match running.subscriber.has_routes() {
            true => &[],
            false => &["subscriber"],
        };
        let mut trouble = self.crew.not_working(may_end);
        trouble.extend(running.link.trouble());
        // The tasks may have ended because a shutdown has begun meanwhile.
        if self.phase() != Phase::Running {
            trouble.clear();
        }
        trouble
    }

    async fn sign_of_life(&self) -> Arc<Sign> {
        let outbox = Arc::clone(&self.outbox);
        let ask = || async move {
            let answer = outbox.ping(LIMIT).await;
            answer.map_err(|error| with_causes(&error, ENOUGH))
        };
        let sign = self.sign_of_database.get(&self.crew, ask).await;
        let silent = || Arc::new(Err(format!("nothing came within {LIMIT:?}")));
        sign.unwrap_or_else(silent)
    }
}
