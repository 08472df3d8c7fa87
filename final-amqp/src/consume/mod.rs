//! The way in: deliveries to the bus, settlements back.
//!
//! ```text
//! queue ─▶ channel 1..n (prefetch) ─▶ decode ─▶ mpsc ─▶ bus
//!   ▲           ▲  acks, coalesced                        │ Settlement
//!   └───────────┴──────────────────── Settler ◀───────────┘
//!                                        └─▶ dead letters ─▶ publishing connection ─▶ then the ack
//! ```
//!
//! A supervisor keeps the connection; each channel keeps itself: when its consumer ends, the topology
//! is declared again and a new channel is opened. A settlement belongs to one channel incarnation.

mod acks;
mod channel;
mod dead_letters;
mod nameless;
mod order;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use final_core::broker::{BrokerError, Delivery};
use lapin::Connection;
use tokio::{
    select,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{Duration, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    channel::ConsumingChannel,
    dead_letters::{DeadLetterJobs, DeadLetters},
    nameless::Nameless,
};
use crate::{
    connection::{close, connect},
    options::Settings,
    outage::OutageNotice,
    publish::Way,
    retry_delay::RetryDelay,
    topology::Topology,
};

/// A connection or consumer that held this long was a good one.
const GOOD: Duration = Duration::from_secs(10);

/// How long a lost binding goes unnoticed. Everything is declared by name, so doing it again where
/// nothing is missing changes nothing.
const BINDINGS: Duration = Duration::from_secs(5);

/// What the consuming channels share.
#[derive(Debug)]
pub(crate) struct Intake {
    settings: Arc<Settings>,
    topology: Topology,
    /// How many deliveries one channel holds.
    prefetch: u16,
    channels: usize,
    /// Taken away when consuming stops, so that the bus sees the end of the stream.
    deliveries: Mutex<Option<mpsc::Sender<Delivery>>>,
    notice: OutageNotice,
    nameless: Nameless,
    /// Take no more deliveries.
    stop: CancellationToken,
    /// End as soon as what is settled is carried out.
    finish: CancellationToken,
    /// End now.
    abort: CancellationToken,
}

impl Intake {
    fn deliveries(&self) -> Option<mpsc::Sender<Delivery>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<Delivery>>> {
        self.deliveries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The consuming half of the link.
#[derive(Debug)]
pub(crate) struct Subscription {
    intake: Arc<Intake>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Subscription {
    /// Starts with a connection whose topology is declared, or without one. Without topics nothing is
    /// consumed, and the stream of deliveries is empty until it is stopped.
    pub(crate) fn start(
        settings: Arc<Settings>,
        topology: Topology,
        channels: usize,
        way: Arc<Way>,
        first: Option<Connection>,
    ) -> (Self, mpsc::Receiver<Delivery>) {
        let channels = channels.clamp(1, usize::from(settings.prefetch));
        let share = usize::from(settings.prefetch).div_ceil(channels);
        // Each channel reserves a place before it waits for the next delivery.
        let (sender, deliveries) = mpsc::channel(share * channels + channels);
        let idle = topology.topics.is_empty();
        let intake = Arc::new(Intake {
            settings,
            prefetch: u16::try_from(share).unwrap_or(u16::MAX),
            channels,
            deliveries: Mutex::new(Some(sender)),
            notice: OutageNotice::new(Arc::clone(&way.service), "consuming"),
            topology: topology.clone(),
            nameless: Nameless::default(),
            stop: CancellationToken::new(),
            finish: CancellationToken::new(),
            abort: CancellationToken::new(),
        });
        let mut tasks = Vec::new();
        if !idle {
            let (dead_letters, quarantine, jobs) = DeadLetters::new(way, topology);
            tasks.push(tokio::spawn(dead_letters.run(intake.abort.clone())));
            tasks.push(tokio::spawn(quarantine.run(intake.abort.clone())));
            tasks.push(tokio::spawn(supervise(Arc::clone(&intake), jobs, first)));
        }
        let this = Self {
            intake,
            tasks: Mutex::new(tasks),
        };
        (this, deliveries)
    }

    /// Takes no more deliveries, and ends the stream of them.
    pub(crate) async fn stop(&self, limit: Duration) {
        let sender = self.intake.lock().take().map(|sender| sender.downgrade());
        self.intake.stop.cancel();
        let gone = async {
            while sender
                .as_ref()
                .is_some_and(|sender| sender.strong_count() > 0)
            {
                sleep(Duration::from_millis(2)).await;
            }
        };
        // A channel that does not answer is dealt with by the next step.
        let _ = timeout(limit, gone).await;
    }

    /// Carries out what is settled, and hands back the rest.
    pub(crate) async fn finish(&self, limit: Duration) {
        self.intake.lock().take();
        self.intake.stop.cancel();
        self.intake.finish.cancel();
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        // The supervisor ends first; the dead letters are there until then.
        if let Some(mut supervisor) = tasks.pop() {
            let ended = timeout(limit, &mut supervisor).await.is_ok();
            self.intake.abort.cancel();
            if !ended {
                // It closes its connection, within limits of its own.
                let _ = supervisor.await;
            }
        }
        self.intake.abort.cancel();
        for task in tasks {
            let _ = task.await;
        }
    }
}

/// Without `finish` everything ends at once.
impl Drop for Subscription {
    fn drop(&mut self) {
        self.intake.stop.cancel();
        self.intake.finish.cancel();
        self.intake.abort.cancel();
    }
}

/// Keeps a connection and its channels until stopped.
async fn supervise(intake: Arc<Intake>, jobs: DeadLetterJobs, mut first: Option<Connection>) {
    let mut delay = RetryDelay::new();
    while !intake.stop.is_cancelled() {
        let attempt = match first.take() {
            Some(connection) => Ok(connection),
            None => select! {
                attempt = reconnect(&intake) => attempt,
                () = intake.stop.cancelled() => break,
            },
        };
        match attempt {
            Ok(connection) => {
                let since = Instant::now();
                incarnation(&intake, &jobs, Arc::new(connection)).await;
                if since.elapsed() > GOOD {
                    delay.reset();
                }
            }
            Err(error) => intake.notice.fails(&error.to_string()),
        }
        select! {
            () = sleep(delay.next()) => {}
            () = intake.stop.cancelled() => {}
        }
    }
}

/// Connects, and declares what consuming needs.
async fn reconnect(intake: &Intake) -> Result<Connection, BrokerError> {
    let service = &intake.topology.service;
    let connection = connect(&intake.settings, service, "subscriber").await?;
    if let Err(error) = intake.topology.declare(&connection).await {
        close(&connection).await;
        return Err(error);
    }
    Ok(connection)
}

/// Lives as long as one connection.
async fn incarnation(intake: &Arc<Intake>, jobs: &DeadLetterJobs, connection: Arc<Connection>) {
    let mut channels = JoinSet::new();
    for _ in 0..intake.channels {
        let (intake, jobs, connection) =
            (Arc::clone(intake), jobs.clone(), Arc::clone(&connection));
        channels.spawn(async move { keep_channel(&intake, jobs, &connection).await });
    }
    select! {
        // To the end of all, or the first that panicked: the next incarnation has them again.
        () = async { while let Some(Ok(())) = channels.join_next().await {} } => {}
        () = keep_bindings(intake, &connection) => {}
    }
    close(&connection).await;
}

/// Declares the topology again and again. An exchange that somebody deletes takes its bindings with
/// it, and no consumer is told.
async fn keep_bindings(intake: &Intake, connection: &Connection) {
    loop {
        sleep(BINDINGS).await;
        if connection.status().connected()
            && !intake.stop.is_cancelled()
            && let Err(error) = intake.topology.declare(connection).await
        {
            // Where consuming suffers from it, that is told as trouble.
            tracing::debug!(service = &*intake.topology.service, %error, "declaring again failed");
        }
    }
}

/// Keeps one channel consuming, while the connection lasts.
async fn keep_channel(intake: &Intake, jobs: DeadLetterJobs, connection: &Connection) {
    let mut delay = RetryDelay::new();
    // The connection came with everything declared.
    let mut declared = true;
    while connection.status().connected() && !intake.stop.is_cancelled() {
        let since = Instant::now();
        let ended = if declared {
            consume(intake, jobs.clone(), connection).await
        } else {
            let again = intake.topology.declare(connection);
            let Some(again) = intake.abort.run_until_cancelled(again).await else {
                return;
            };
            again.map_err(|error| error.to_string())
        };
        match ended {
            Ok(()) if declared => return,
            Ok(()) => {
                declared = true;
                continue;
            }
            // The queue may be gone, or only a binding: it is not enough that consuming succeeds.
            Err(why) => {
                declared = false;
                intake.notice.fails(&why);
            }
        }
        if since.elapsed() > GOOD {
            delay.reset();
        }
        select! {
            () = sleep(delay.next()) => {}
            () = intake.stop.cancelled() => return,
        }
    }
}

async fn consume(
    intake: &Intake,
    jobs: DeadLetterJobs,
    connection: &Connection,
) -> Result<(), String> {
    let opening = ConsumingChannel::open(connection, intake, jobs);
    let Some(opened) = intake.abort.run_until_cancelled(opening).await else {
        return Ok(());
    };
    let opened = opened.map_err(|error| error.to_string())?;
    intake.notice.works();
    opened.run(intake).await
}
