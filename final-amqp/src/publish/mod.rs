//! Publishes what the bus sends, and reports what the broker answers.
//!
//! ```text
//! Link::send ─▶ SendQueue (shared) ─▶ PublishChannel 1..n ─▶ sweep ───────────▶ Confirm
//!         └───▶ SendQueue (alone)  ─▶ quarantine: one message per channel ─▶ Confirm
//! ```
//!
//! Input: outgoing messages. State: one connection with its channels and declared exchanges. Output: a confirm
//! for each message, and the state of the link.
//!
//! One supervisor keeps the connection. Each incarnation has new channels and a new list of declared exchanges;
//! these do not outlive the connection. Between two incarnations the queues are shut, so waiting messages are
//! settled as lost at once.

mod alone;
mod channel;
pub(crate) mod confirms;
mod exchanges;
pub(crate) mod pause;
mod queue;
mod refusals;
pub(crate) mod sweep;
mod unconfirmed;
mod woken;

use std::{
    pin::pin,
    sync::{Arc, Mutex, OnceLock},
    time::Instant,
};

use final_core::broker::{Detour, Isolation, LinkState, Outgoing};
use futures::StreamExt;
use lapin::{Connection, Event};
use tokio::{
    select,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Duration, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{channel::PublishChannel, exchanges::Exchanges, queue::SendQueue};
use crate::{
    connection::{Connected, close, connect, open_confirm_channel},
    counts::Counts,
    error::told,
    lock::lock,
    login::LOGIN,
    options::Settings,
    outage::OutageNotice,
    properties::WireOptions,
    retry_delay::RetryDelay,
    role::Role,
    thread::ThreadInUse,
    topology::Refused,
};

/// How often a connection is checked, besides its events.
const LOOK: Duration = Duration::from_millis(250);
/// A connection that lasted this long was a good one: the next attempt comes soon.
const GOOD: Duration = Duration::from_secs(10);
/// How long the channels may take to settle their messages once they are told to stop.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// What the publishing tasks share, over all incarnations of the connection.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) settings: Arc<Settings>,
    pub(crate) service: Arc<str>,
    /// The service's queue.
    queue: String,
    /// Where dead letters go that cannot be stored now.
    pub(crate) detour: OnceLock<Arc<dyn Detour>>,
    pub(crate) counts: Counts,
    pub(crate) shared: SendQueue,
    pub(crate) alone: SendQueue,
    /// Whether the broker asked us to pause.
    pub(crate) blocked: watch::Sender<bool>,
    /// The connection, while there is one.
    pub(crate) connection: watch::Sender<Option<Arc<Connection>>>,
    /// The exchanges that RabbitMQ did not let us declare.
    refused: Refused,
    state: watch::Sender<LinkState>,
    window: usize,
    notice: OutageNotice,
    login_notice: OutageNotice,
    finish: CancellationToken,
    finish_by: OnceLock<Instant>,
    /// Every task of the link holds this, by way of `Way`.
    _in_use: ThreadInUse,
}

impl Way {
    /// Puts messages back into their queue, once their exchange exists.
    fn put_back(&self, messages: Vec<Outgoing>) {
        let (alone, shared) = messages
            .into_iter()
            .partition(|message| message.isolation() == Isolation::Alone);
        self.shared.put_back(shared);
        self.alone.put_back(alone);
    }

    fn wire_options(&self, connection: &Connection) -> WireOptions<'_> {
        WireOptions {
            service: &self.service,
            queue: &self.queue,
            frame_max: connection.configuration().frame_max(),
        }
    }

    fn is_finishing(&self) -> bool {
        self.finish.is_cancelled()
    }

    /// Returns when finishing begins, and every 10 ms from then on, so that the caller checks whether it is done.
    async fn tick(&self) {
        if self.is_finishing() {
            sleep(Duration::from_millis(10)).await;
        } else {
            self.finish.cancelled().await;
        }
    }
}

/// The publishing half of the link.
#[derive(Debug)]
pub(crate) struct Publisher {
    way: Arc<Way>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Publisher {
    /// Starts, with a first connection or without one if the broker is away.
    pub(crate) fn start(
        settings: Arc<Settings>,
        service: Arc<str>,
        queue: String,
        window: usize,
        first: Option<Connected>,
        in_use: ThreadInUse,
    ) -> Self {
        let way = Arc::new(Way {
            settings,
            queue,
            detour: OnceLock::new(),
            counts: Counts::default(),
            shared: SendQueue::new(),
            alone: SendQueue::new(),
            blocked: watch::Sender::new(false),
            connection: watch::Sender::new(None),
            refused: Refused::default(),
            state: watch::Sender::new(LinkState::Away),
            window: window.max(1),
            notice: OutageNotice::new(Arc::clone(&service), "the publishing connection"),
            login_notice: OutageNotice::new(Arc::clone(&service), LOGIN),
            service,
            finish: CancellationToken::new(),
            finish_by: OnceLock::new(),
            _in_use: in_use,
        });
        let task = tokio::spawn(supervise(Arc::clone(&way), first));
        Self {
            way,
            task: Mutex::new(Some(task)),
        }
    }

    pub(crate) fn way(&self) -> Arc<Way> {
        Arc::clone(&self.way)
    }

    pub(crate) fn state(&self) -> watch::Receiver<LinkState> {
        self.way.state.subscribe()
    }

    pub(crate) fn send(&self, message: Outgoing) {
        // A message without a confirm is not bounded by the bus's window. It must not pile up while blocked.
        if !message.wants_confirm() && *self.way.blocked.borrow() {
            return;
        }
        match message.isolation() {
            Isolation::Shared => self.way.shared.push(message),
            Isolation::Alone => self.way.alone.push(message),
        }
    }

    /// Whether its task has ended, although it was not told to.
    pub(crate) fn has_ended(&self) -> bool {
        let task = lock(&self.task);
        !self.way.is_finishing() && task.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Waits for what was sent, and ends everything.
    pub(crate) async fn close(&self, limit: Duration) {
        // Only the first call sets the limit.
        let _ = self.way.finish_by.set(Instant::now() + limit);
        self.way.finish.cancel();
        let task = lock(&self.task).take();
        if let Some(task) = task {
            // The supervisor keeps to the limit itself and does not panic.
            let _ = task.await;
        }
    }
}

/// Without `close` everything ends at once, so that no task outlives the link for long.
impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.way.finish_by.set(Instant::now());
        self.way.finish.cancel();
    }
}

/// Keeps a connection until finished.
async fn supervise(way: Arc<Way>, mut first: Option<Connected>) {
    let role = Role::publisher(&way.settings);
    let mut delay = RetryDelay::new();
    while !way.is_finishing() {
        let attempt = match first.take() {
            Some(connected) => Ok(connected),
            None => {
                let attempt = connect(&way.settings, &way.service, role);
                select! {
                    attempt = attempt => attempt.inspect(|_| way.counts.reconnected()),
                    () = way.finish.cancelled() => break,
                }
            }
        };
        match attempt {
            Ok(connected) => {
                let since = Instant::now();
                match incarnation(&way, connected).await {
                    Ok(()) => break,
                    Err(Some(why)) => way.notice.fails(&why),
                    Err(None) => delay.reset(),
                }
                if since.elapsed() > GOOD {
                    delay.reset();
                }
            }
            Err(error) => way.notice.fails(&error.to_string()),
        }
        select! {
            () = sleep(delay.next()) => {}
            () = way.finish.cancelled() => {}
        }
    }
    way.shared.shut();
    way.alone.shut();
    way.state.send_replace(LinkState::Closed);
}

/// Lives as long as one connection. `Ok` if finished, else why the connection ended. There is no reason where
/// it was ended to log in as another user.
async fn incarnation(way: &Arc<Way>, connected: Connected) -> Result<(), Option<String>> {
    let Connected {
        connection, login, ..
    } = connected;
    let connection = Arc::new(connection);
    let mut events = connection.events_listener();
    let stop = CancellationToken::new();
    let _stop_if_dropped = stop.clone().drop_guard();
    let mute = CancellationToken::new();
    let mut tasks = JoinSet::new();
    if let Err(error) = start_channels(way, &connection, &stop, &mute, &mut tasks).await {
        close(&connection).await;
        return Err(Some(told(&error)));
    }
    way.notice.works();
    // The queues open before the state says ready: the bus may send at once.
    way.shared.open();
    way.alone.open();
    way.connection.send_replace(Some(Arc::clone(&connection)));
    set_blocked(way, connection.status().blocked());

    let mut why = Some(String::from("the connection was lost"));
    let mut logged_in = pin!(login.keep(&way.settings, &way.login_notice, &connection));
    while connection.status().connected() && !way.is_finishing() {
        select! {
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(_)) => set_blocked(way, true),
                Some(Event::ConnectionUnblocked) => set_blocked(way, false),
                Some(Event::Error(error)) => why = Some(told(&error)),
                Some(_) => {}
                None => break,
            },
            () = sleep(LOOK) => {}
            // A task panicked. Its messages are lost. The next incarnation starts all tasks again.
            Some(Err(error)) = tasks.join_next() => {
                why = Some(format!("a task of the connection failed: {error}"));
                break;
            }
            () = mute.cancelled() => {
                why = Some("the broker does not answer on the connection".into());
                break;
            }
            () = &mut logged_in => {
                why = None;
                break;
            }
            () = way.finish.cancelled() => {}
        }
    }
    let finished = way.is_finishing();
    if finished {
        way.shared.seal();
        way.alone.seal();
        let by = *way.finish_by.get().unwrap_or(&Instant::now());
        select! {
            () = all(&mut tasks) => {}
            () = sleep_until(by.into()) => {}
        }
    } else {
        way.state.send_replace(LinkState::Away);
    }
    way.connection.send_replace(None);
    way.blocked.send_replace(false);
    way.shared.shut();
    way.alone.shut();
    stop.cancel();
    // A task that is aborted drops its messages, so they count as lost.
    let _ = tokio::time::timeout(STOP_LIMIT, all(&mut tasks)).await;
    tasks.shutdown().await;
    close(&connection).await;
    if finished { Ok(()) } else { Err(why) }
}

async fn start_channels(
    way: &Arc<Way>,
    connection: &Arc<Connection>,
    stop: &CancellationToken,
    mute: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> lapin::Result<()> {
    way.refused.reconnected();
    let (exchanges, orders) = Exchanges::new();
    let exchanges = Arc::new(exchanges);
    let channels = Role::publisher(&way.settings).granted(connection);
    let shared = PublishChannel {
        way: Arc::clone(way),
        connection: Arc::clone(connection),
        exchanges: Arc::clone(&exchanges),
        stop: stop.clone(),
        mute: mute.clone(),
        room: way.window.div_ceil(channels),
    };
    for _ in 0..channels {
        let channel = open_confirm_channel(connection).await?;
        tasks.spawn(channel::run(shared.clone(), channel));
    }
    tasks.spawn(alone::run(shared));
    let declaring = exchanges::declare(Arc::clone(way), Arc::clone(connection), exchanges, orders);
    let stop = stop.clone();
    tasks.spawn(async move {
        // It holds a sender of its own orders, so only the token ends it.
        stop.run_until_cancelled(declaring).await;
    });
    Ok(())
}

fn set_blocked(way: &Way, blocked: bool) {
    way.blocked.send_replace(blocked);
    way.state.send_replace(if blocked {
        tracing::warn!(
            target: "final::amqp",
            service = %way.service,
            "RabbitMQ has raised an alarm; publishing pauses until the alarm ends"
        );
        LinkState::Blocked
    } else {
        LinkState::Ready
    });
}

/// Waits for all tasks but the declaring one, which only its token ends.
async fn all(tasks: &mut JoinSet<()>) {
    while tasks.len() > 1 {
        let _ = tasks.join_next().await;
    }
}
