//! The way in: deliveries to the bus, settlements back.
//!
//! ```text
//! queue ─▶ channel 1..n (window) ─▶ decode ─▶ mpsc ─▶ bus
//!   ▲           ▲  acks, coalesced                        │ Settlement
//!   └───────────┴──────────────────── Settler ◀───────────┘
//!                                        └─▶ dead letters ─▶ publishing connection ─▶ then the ack
//! ```
//!
//! Input: the topology to consume from. State: one connection and its channels. Output: a stream of
//! deliveries.
//!
//! A supervisor keeps the connection. On a new connection the channels consume first, and [`Upkeep`] looks
//! after the bindings behind them. Each channel replaces itself: when its consumer ends, the topology is
//! declared again and a new channel is opened. A settlement belongs to one channel incarnation.

pub(crate) mod acks;
mod again;
mod channel;
mod dead_letters;
pub(crate) mod feed;
mod nameless;
mod order;
mod orphans;
mod overdue;
mod siblings;
mod upkeep;
mod window;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{self, Relaxed},
        },
    },
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

pub(crate) use self::dead_letters::PANICKED;
use self::{
    again::GivenBack,
    channel::ConsumingChannel,
    dead_letters::{DeadLetterJobs, DeadLetterTask},
    nameless::Nameless,
    orphans::Orphans,
    siblings::Siblings,
    upkeep::Upkeep,
};
use crate::{
    connection::{Connected, close, connect},
    declare::Declare,
    error::told,
    lock::lock,
    login::LOGIN,
    options::Settings,
    outage::OutageNotice,
    publish::Way,
    retry_delay::RetryDelay,
    role::Role,
    topology::{Pipeline, Topology},
};

/// A connection or consumer that lasted this long was a good one: the next attempt comes soon.
const GOOD: Duration = Duration::from_secs(10);

/// What the consuming channels share.
#[derive(Debug)]
pub(crate) struct Intake {
    settings: Arc<Settings>,
    /// The publishing half, which counts what is settled.
    way: Arc<Way>,
    topology: Topology,
    /// Whether the topology was declared since the start, or need not be.
    declared: AtomicBool,
    /// How many unsettled deliveries one channel may have.
    prefetch: usize,
    /// How many of the bus's handlers one channel has.
    handlers: usize,
    channels: usize,
    /// Taken out when consuming stops, so that the bus sees the end of the stream.
    deliveries: Mutex<Option<mpsc::Sender<Delivery>>>,
    notice: OutageNotice,
    login_notice: OutageNotice,
    bindings_notice: OutageNotice,
    nameless: Nameless,
    orphans: Arc<Orphans>,
    siblings: Siblings,
    /// How many channels were opened.
    opened: AtomicU64,
    given_back: GivenBack,
    /// Tells the channels to take no more deliveries.
    stop: CancellationToken,
    /// Tells the channels to end as soon as all settlements are carried out.
    finish: CancellationToken,
    /// Tells everything to end now.
    abort: CancellationToken,
}

impl Intake {
    /// The number of another channel.
    fn next_channel(&self) -> u64 {
        self.opened.fetch_add(1, Ordering::Relaxed)
    }

    fn deliveries(&self) -> Option<mpsc::Sender<Delivery>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<Delivery>>> {
        lock(&self.deliveries)
    }
}

/// The consuming half of the link.
#[derive(Debug)]
pub(crate) struct Subscription {
    intake: Arc<Intake>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Subscription {
    /// Starts, with a connection whose topology is declared or without a connection. Without topics nothing
    /// is consumed, and the stream of deliveries is empty until it is stopped.
    pub(crate) fn start(
        settings: Arc<Settings>,
        topology: Topology,
        channels: usize,
        concurrency: usize,
        way: Arc<Way>,
        first: Option<Connected>,
    ) -> (Self, mpsc::Receiver<Delivery>) {
        let share = usize::from(settings.prefetch).div_ceil(channels);
        // Each channel reserves a place before it waits for the next delivery.
        let (sender, deliveries) = mpsc::channel(share * channels + channels);
        let idle = topology.topics.is_empty();
        let intake = Arc::new(Intake {
            settings,
            way: Arc::clone(&way),
            prefetch: share,
            handlers: concurrency.div_ceil(channels),
            channels,
            deliveries: Mutex::new(Some(sender)),
            notice: OutageNotice::new(Arc::clone(&way.service), "consuming"),
            login_notice: OutageNotice::new(Arc::clone(&way.service), LOGIN),
            bindings_notice: OutageNotice::new(Arc::clone(&way.service), "keeping the queue bound"),
            topology: topology.clone(),
            declared: AtomicBool::new(first.is_some() || topology.declare == Declare::Nothing),
            nameless: Nameless::default(),
            orphans: Arc::default(),
            siblings: Siblings::new(channels),
            opened: AtomicU64::new(0),
            given_back: GivenBack::default(),
            stop: CancellationToken::new(),
            finish: CancellationToken::new(),
            abort: CancellationToken::new(),
        });
        let mut tasks = Vec::new();
        if !idle {
            let (dead_letters, quarantine, jobs) = DeadLetterTask::new(way, topology);
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

    /// Whether one of its tasks has ended, although it was not told to.
    pub(crate) fn has_ended(&self) -> bool {
        let tasks = lock(&self.tasks);
        !self.intake.stop.is_cancelled() && tasks.iter().any(JoinHandle::is_finished)
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
        // If a channel does not end in time, `finish` ends it.
        let _ = timeout(limit, gone).await;
    }

    /// Carries out what is settled, and requeues the rest.
    pub(crate) async fn finish(&self, limit: Duration) {
        self.intake.lock().take();
        self.intake.stop.cancel();
        self.intake.finish.cancel();
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        // The supervisor ends first, because its channels wait for their dead letters.
        if let Some(mut supervisor) = tasks.pop() {
            let ended = timeout(limit, &mut supervisor).await.is_ok();
            self.intake.abort.cancel();
            if !ended {
                // It closes its connection, and has limits of its own for that.
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
async fn supervise(intake: Arc<Intake>, jobs: DeadLetterJobs, mut first: Option<Connected>) {
    let mut delay = RetryDelay::new();
    while !intake.stop.is_cancelled() {
        let attempt = match first.take() {
            Some(connected) => Ok(connected),
            None => select! {
                attempt = reconnect(&intake) => attempt.inspect(|_| intake.way.counts.reconnected()),
                () = intake.stop.cancelled() => break,
            },
        };
        match attempt {
            Ok(connected) => {
                let since = Instant::now();
                incarnation(&intake, &jobs, connected).await;
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

/// Connects. Declares what consuming needs, if that was not possible before.
async fn reconnect(intake: &Intake) -> Result<Connected, BrokerError> {
    let service = &intake.topology.service;
    let role = Role::subscriber(intake.channels);
    let connected = connect(&intake.settings, service, role).await?;
    intake.topology.refused.reconnected();
    if !intake.declared.load(Relaxed) {
        let mut pipeline = Pipeline::default();
        let declared = intake
            .topology
            .declare(&mut pipeline, &connected.connection)
            .await;
        if let Err(error) = declared {
            close(&connected.connection).await;
            return Err(error);
        }
        pipeline.end().await;
        intake.declared.store(true, Relaxed);
    }
    Ok(connected)
}

/// Lives as long as one connection.
async fn incarnation(intake: &Arc<Intake>, jobs: &DeadLetterJobs, connected: Connected) {
    let Connected {
        connection, login, ..
    } = connected;
    let granted = Role::subscriber(intake.channels).granted(&connection);
    let connection = Arc::new(connection);
    let upkeep = Arc::new(Upkeep::new(intake, &connection));
    let leaving = CancellationToken::new();
    let mut channels = JoinSet::new();
    for _ in 0..granted {
        let (intake, jobs, connection) =
            (Arc::clone(intake), jobs.clone(), Arc::clone(&connection));
        let (leaving, upkeep) = (leaving.clone(), Arc::clone(&upkeep));
        channels.spawn(async move {
            keep_channel(&intake, jobs, &connection, &upkeep, &leaving).await;
        });
    }
    select! {
        // Until all end or one panics. The next incarnation starts all of them again.
        () = async { while let Some(Ok(())) = channels.join_next().await {} } => {}
        () = upkeep.keep() => {}
        // Another user needs another connection.
        () = login.keep(&intake.settings, &intake.login_notice, &connection) => leaving.cancel(),
    }
    close(&connection).await;
    // What they leave behind has to be known before it comes again on the next connection.
    channels.shutdown().await;
}

/// Keeps one channel consuming, while the connection lasts. Once we leave the connection, its end is no news.
async fn keep_channel(
    intake: &Arc<Intake>,
    jobs: DeadLetterJobs,
    connection: &Connection,
    upkeep: &Upkeep,
    leaving: &CancellationToken,
) {
    let mut delay = RetryDelay::new();
    // A new connection consumes first, because the queue is there nearly always.
    let mut ended: Option<Instant> = None;
    while connection.status().connected() && !intake.stop.is_cancelled() {
        let since = Instant::now();
        let outcome = match ended.take() {
            None => {
                let outcome = consume(intake, jobs.clone(), connection, upkeep).await;
                if outcome.is_ok() {
                    return;
                }
                ended = Some(Instant::now());
                outcome
            }
            // The queue may be gone, or only a binding, which the next consumer would not notice.
            Some(ended) => {
                let again = upkeep.declare_since(ended);
                let Some(again) = intake.abort.run_until_cancelled(again).await else {
                    return;
                };
                again.map_err(|error| error.to_string())
            }
        };
        let Err(why) = outcome else { continue };
        if leaving.is_cancelled() {
            return;
        }
        intake.notice.fails(&why);
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
    intake: &Arc<Intake>,
    jobs: DeadLetterJobs,
    connection: &Connection,
    upkeep: &Upkeep,
) -> Result<(), String> {
    let opening = ConsumingChannel::open(connection, intake, jobs);
    let Some(opened) = intake.abort.run_until_cancelled(opening).await else {
        return Ok(());
    };
    let opened = opened.map_err(|error| told(&error))?;
    intake.notice.works();
    upkeep.begin();
    opened.run().await
}
