//! Keeps the topology of one connection declared, while messages are consumed.
//!
//! Input: the topology. State: one channel, and what is in the way. Output: bindings that exist again within
//! seconds after they were lost. RabbitMQ tells no consumer that an exchange was deleted, and its bindings
//! with it.
//!
//! ```text
//! first consumer open ─▶ round: bind again ── a thing is missing ─▶ declare all
//!                          ▲      5 s                                  │
//!                          └───────────────────────────────────────────┘
//! ```
//!
//! To bind again changes nothing where nothing is missing. A round has a limit, because each binding costs the
//! broker a transaction; with more bindings a round makes the next part of them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use final_core::broker::BrokerError;
use lapin::Connection;
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Intake;
use crate::{
    code,
    error::reply_code,
    retry_delay::RetryDelay,
    topology::{Obstacle, Pipeline, Thing, Wanted},
};

/// The pause between two rounds.
const ROUND: Duration = Duration::from_secs(5);

/// How many bindings a round makes at most.
const A_ROUND: usize = 100;

/// How soon a binding that cannot be made is tried again, at first and at last.
const LATER: (Duration, Duration) = (ROUND, Duration::from_secs(300));

/// Looks after the topology on one connection.
#[derive(Debug)]
pub(super) struct Upkeep {
    intake: Arc<Intake>,
    connection: Arc<Connection>,
    work: Mutex<Work>,
    /// Set once a consumer is open.
    begun: CancellationToken,
}

#[derive(Debug, Default)]
struct Work {
    pipeline: Pipeline,
    /// When the last complete declaration began.
    declared: Option<Instant>,
    /// The bindings that cannot be made, each with the time of its next try.
    later: HashMap<Thing, (Instant, RetryDelay)>,
    /// The binding that the next round begins with.
    next: usize,
}

impl Upkeep {
    pub(super) fn new(intake: &Arc<Intake>, connection: &Arc<Connection>) -> Self {
        Self {
            intake: Arc::clone(intake),
            connection: Arc::clone(connection),
            work: Mutex::default(),
            begun: CancellationToken::new(),
        }
    }

    /// Notes that a consumer is open.
    pub(super) fn begin(&self) {
        self.begun.cancel();
    }

    /// Declares all, unless another channel did so since.
    pub(super) async fn declare_since(&self, since: Instant) -> Result<(), BrokerError> {
        let mut work = self.work.lock().await;
        if work.declared.is_some_and(|declared| declared >= since) {
            return Ok(());
        }
        self.declare(&mut work).await
    }

    async fn declare(&self, work: &mut Work) -> Result<(), BrokerError> {
        let began = Instant::now();
        let topology = &self.intake.topology;
        topology
            .declare(&mut work.pipeline, &self.connection)
            .await?;
        work.declared = Some(began);
        work.later.clear();
        Ok(())
    }

    /// Makes the bindings again and again.
    pub(super) async fn keep(&self) {
        let all = self.intake.topology.bindings();
        if all.is_empty() {
            return std::future::pending().await;
        }
        // The consumers come first. Without one, the topology is declared by the channel that needs it.
        let _ = timeout(ROUND, self.begun.cancelled()).await;
        let mut size = all.len();
        loop {
            if self.connection.status().connected() && !self.intake.stop.is_cancelled() {
                self.round(&all, size).await;
            }
            size = all.len().min(A_ROUND);
            sleep(ROUND).await;
        }
    }

    async fn round(&self, all: &[Wanted], size: usize) {
        let mut work = self.work.lock().await;
        let now = Instant::now();
        let some: Vec<_> = all
            .iter()
            .cycle()
            .skip(work.next)
            .take(size)
            .filter(|one| {
                let later = work.later.get(&one.thing());
                later.is_none_or(|(due, _)| *due <= now)
            })
            .cloned()
            .collect();
        work.next = (work.next + size) % all.len();
        let tried: Vec<_> = some.iter().map(Wanted::thing).collect();
        let topology = &self.intake.topology;
        let bound = topology
            .bind(&mut work.pipeline, &self.connection, some)
            .await;
        let mut obstacles = match bound {
            Ok(obstacles) => obstacles,
            Err(error) => {
                // The channel of a consumer reports a connection that ends.
                tracing::debug!(
                    target: "final::amqp",
                    service = &*topology.service,
                    %error,
                    "declaring the topology again failed"
                );
                return;
            }
        };
        if obstacles.iter().any(is_missing) {
            match self.declare(&mut work).await {
                Ok(()) => obstacles.retain(|one| !is_missing(one)),
                Err(error) => self.intake.bindings_notice.fails(&error.to_string()),
            }
        }
        for thing in tried {
            if !obstacles.iter().any(|one| one.wanted.thing() == thing) {
                work.later.remove(&thing);
                continue;
            }
            let (first, last) = LATER;
            let later = work.later.entry(thing);
            let (due, delay) = later.or_insert_with(|| (now, RetryDelay::between(first, last)));
            *due = now + delay.next();
        }
        match obstacles.into_iter().find(|one| !is_missing(one)) {
            Some(obstacle) => {
                let error = topology.explain(obstacle);
                self.intake.bindings_notice.fails(&error.to_string());
            }
            None if work.later.is_empty() => self.intake.bindings_notice.works(),
            None => {}
        }
    }
}

fn is_missing(obstacle: &Obstacle) -> bool {
    reply_code(&obstacle.error) == Some(code::NOT_FOUND)
}
