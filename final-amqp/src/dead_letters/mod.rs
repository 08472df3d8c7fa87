//! The way of dead letters out of RabbitMQ: the bus collects them in its database.
//!
//! Input: the topology. State: a connection with one channel, which consumes the dead-letter queue. Output: letters for
//! the bus; acks for what it has stored.
//!
//! ```text
//! <queue>_dlx ─▶ LetterChannel (50 in flight) ─▶ RawLetter ─▶ mpsc ─▶ bus: INSERT, COMMIT
//!      ▲                 ▲ ack                                          │ stored
//!      └─────────────────┴──────────────────────────────────────────────┘
//! ```
//!
//! It has a connection of its own, so that nothing else waits for it or fails with it.

mod channel;
mod death;
mod letter;
mod renewal;
#[cfg(test)]
mod tests;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
};

use final_core::broker::{LetterDelivery, LetterStream};
use futures::FutureExt;
use lapin::Connection;
use tokio::{
    select,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Duration, Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::channel::{ChannelEnd, LetterChannel, WINDOW};
#[cfg(any(test, feature = "__fuzzing"))]
pub(crate) use self::letter::RawLetter;
use crate::{
    connection::{close, connect},
    consume::PANICKED,
    lock::lock,
    login::LOGIN,
    options::Settings,
    outage::OutageNotice,
    retry_delay::RetryDelay,
    role::Role,
    thread::ThreadInUse,
    topology::Topology,
};

/// The pauses before another connection. The queue of a service that has never consumed is not there.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// A connection that lasted this long was a good one: the next attempt comes soon.
const GOOD: Duration = Duration::from_secs(60);

/// What the task and its channels share.
#[derive(Debug)]
struct Collecting {
    settings: Arc<Settings>,
    topology: Topology,
    notice: OutageNotice,
    login_notice: OutageNotice,
    /// Tells the channel to take no more letters.
    stop: CancellationToken,
    /// Tells the channel to end as soon as all that is stored is acked.
    finish: CancellationToken,
    /// Tells everything to end now.
    abort: CancellationToken,
}

/// The part of the link that gives dead letters away.
#[derive(Debug)]
pub(crate) struct Collection {
    collecting: Arc<Collecting>,
    /// Taken by the bus, once.
    stream: Mutex<Option<LetterStream>>,
    /// Whether the stream has ended.
    ended: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Collection {
    /// Starts the task. Runs on the link's thread.
    pub(crate) fn start(
        settings: Arc<Settings>,
        topology: Topology,
        service: &Arc<str>,
        in_use: ThreadInUse,
    ) -> Self {
        let notice = |what| OutageNotice::new(Arc::clone(service), what);
        let collecting = Arc::new(Collecting {
            settings,
            topology,
            notice: notice("collecting dead letters"),
            login_notice: notice(LOGIN),
            stop: CancellationToken::new(),
            finish: CancellationToken::new(),
            abort: CancellationToken::new(),
        });
        let (sender, letters) = mpsc::channel(WINDOW.into());
        let (stream, wanted) = LetterStream::new(letters);
        let ended = CancellationToken::new();
        let (work, end) = (Arc::clone(&collecting), ended.clone());
        let task = tokio::spawn(async move {
            let _in_use = in_use;
            let abort = work.abort.clone();
            let outlet = LetterOutlet {
                sender: Some(sender),
                wanted,
                ended: end,
            };
            abort.run_until_cancelled(supervise(&work, outlet)).await;
        });
        Self {
            collecting,
            stream: Mutex::new(Some(stream)),
            ended,
            task: Mutex::new(Some(task)),
        }
    }

    /// The stream of letters, for the first who asks.
    pub(crate) fn stream(&self) -> Option<LetterStream> {
        lock(&self.stream).take()
    }

    /// Whether its task has ended, although it was not told to.
    pub(crate) fn has_ended(&self) -> bool {
        let task = lock(&self.task);
        !self.collecting.stop.is_cancelled() && task.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Takes no more letters, and ends the stream of them.
    pub(crate) async fn stop(&self, limit: Duration) {
        self.collecting.stop.cancel();
        let _ = timeout(limit, self.ended.cancelled()).await;
    }

    /// Acks what is stored. What is not stored stays in the queue.
    pub(crate) async fn finish(&self, limit: Duration) {
        self.collecting.stop.cancel();
        self.collecting.finish.cancel();
        let Some(mut task) = lock(&self.task).take() else {
            return;
        };
        if timeout(limit, &mut task).await.is_err() {
            self.collecting.abort.cancel();
            let _ = task.await;
        }
    }
}

/// Without `finish` everything ends at once.
impl Drop for Collection {
    fn drop(&mut self) {
        self.collecting.stop.cancel();
        self.collecting.finish.cancel();
        self.collecting.abort.cancel();
    }
}

/// The task's end of the stream.
#[derive(Debug)]
struct LetterOutlet {
    /// Taken out when no more will come.
    sender: Option<mpsc::Sender<LetterDelivery>>,
    wanted: watch::Receiver<bool>,
    ended: CancellationToken,
}

impl LetterOutlet {
    /// Lets the bus see the end of the stream.
    fn end(&mut self) {
        self.sender = None;
        self.ended.cancel();
    }
}

impl Drop for LetterOutlet {
    fn drop(&mut self) {
        self.end();
    }
}

/// Keeps a connection and its channel until stopped.
async fn supervise(collecting: &Collecting, mut outlet: LetterOutlet) {
    let mut delay = RetryDelay::between(PAUSES.0, PAUSES.1);
    while !collecting.stop.is_cancelled() {
        let wanted = outlet.wanted.wait_for(|wanted| *wanted);
        select! {
            wanted = wanted => if wanted.is_err() {
                // The bus is gone.
                return;
            },
            () = collecting.stop.cancelled() => return,
        }
        let since = Instant::now();
        let lived = AssertUnwindSafe(incarnation(collecting, &mut outlet));
        let panicked = |_| ChannelEnd::Broken(PANICKED.to_owned());
        match lived.catch_unwind().await.unwrap_or_else(panicked) {
            ChannelEnd::Finished => return,
            ChannelEnd::Unwanted => tracing::debug!(
                target: "final::amqp",
                service = &*collecting.topology.service,
                "dead letters stay in RabbitMQ while the database is away"
            ),
            ChannelEnd::Broken(why) => collecting.notice.fails(&why),
        }
        if since.elapsed() > GOOD {
            delay.reset();
        }
        select! {
            () = sleep(delay.next()) => {}
            () = collecting.stop.cancelled() => return,
        }
    }
}

/// Lives as long as one connection.
async fn incarnation(collecting: &Collecting, outlet: &mut LetterOutlet) -> ChannelEnd {
    let (settings, service) = (&collecting.settings, &collecting.topology.service);
    let connecting = select! {
        connected = connect(settings, service, Role::COLLECTOR) => connected,
        () = collecting.stop.cancelled() => return ChannelEnd::Finished,
    };
    let connected = match connecting {
        Ok(connected) => connected,
        Err(error) => return ChannelEnd::Broken(error.to_string()),
    };
    let connection = connected.connection;
    let login = connected
        .login
        .keep(settings, &collecting.login_notice, &connection);
    let end = select! {
        end = consume(collecting, outlet, &connection) => end,
        // Another user needs another connection.
        () = login => ChannelEnd::Broken("the credentials name another user".to_owned()),
    };
    close(&connection).await;
    end
}

async fn consume(
    collecting: &Collecting,
    outlet: &mut LetterOutlet,
    connection: &Connection,
) -> ChannelEnd {
    let topology = &collecting.topology;
    // A service that does not consume has no queues.
    if !topology.topics.is_empty()
        && let Err(error) = topology.declare_dead_letters(connection).await
    {
        return ChannelEnd::Broken(error.to_string());
    }
    match LetterChannel::open(connection, collecting).await {
        Ok(channel) => {
            collecting.notice.works();
            channel.run(collecting, outlet, connection).await
        }
        Err(why) => ChannelEnd::Broken(why),
    }
}
