//! The link of one bus to the log: it starts the tasks, and ends them in order.
//!
//! Input: a member, and the bus's channel for deliveries. State: the running tasks. Output: [`Link`] for the
//! bus. The engine task consumes; `log-send` publishes what comes through a relay; the other tasks keep the lease,
//! listen, tell and trim.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    engine::Engine,
    member::{Member, send, tasks, trim},
};
use crate::{
    Error, OutboxDatabase,
    broker::{Delivery, Link, LinkBacklog, LinkCounts, LinkState, Outgoing, Settled},
    log::tables::dialect::words,
    runtime::crew::Crew,
};

/// The running link of one bus.
///
/// ```text
///   open ─ stop_consuming ─▶ nothing new ─ finish_consuming ─▶ lanes given back ─ close ─▶ closed
/// ```
///
/// | task | runs |
/// | --- | --- |
/// | `log` | always; without topics it only promotes scheduled messages and watches the sequence |
/// | `log-lease`, `log-send` | always |
/// | `log-tell` | if the database has NOTIFY |
/// | `log-listen` | if the database has NOTIFY, and the bus subscribes topics |
/// | `log-trim` | if the bus subscribes topics |
pub(crate) struct SqlLink<DB: OutboxDatabase> {
    member: Arc<Member<DB>>,
    /// Messages that come through a relay. `None` once the link closes.
    outgoing: std::sync::Mutex<Option<mpsc::Sender<Outgoing>>>,
    /// The task of the engine, until its end was waited for.
    engine: Mutex<Option<JoinHandle<()>>>,
    /// The task that writes outgoing messages, until its end was waited for.
    sender: Mutex<Option<JoinHandle<()>>>,
    /// The channel to the handlers, for each run of the engine. `None` once consuming stops.
    deliveries: Arc<std::sync::Mutex<Option<mpsc::Sender<Delivery>>>>,
    crew: Crew,
}

impl<DB: OutboxDatabase> SqlLink<DB> {
    /// Starts the tasks. `window` bounds the messages that wait to be sent.
    pub(crate) fn start(
        member: Arc<Member<DB>>,
        window: usize,
        deliveries: mpsc::Sender<Delivery>,
    ) -> Self {
        let crew = Crew::new();
        let (outgoing, sent) = mpsc::channel(window.max(1));
        let deliveries = Arc::new(std::sync::Mutex::new(
            member.consumes().then_some(deliveries),
        ));
        let engine = crew.hire("log", {
            let (member, deliveries) = (Arc::clone(&member), Arc::clone(&deliveries));
            move || {
                let sender = lock(&deliveries).clone();
                Engine::new(Arc::clone(&member), sender).run()
            }
        });
        let own = Arc::clone(&member);
        crew.hire("log-lease", move || tasks::renew(Arc::clone(&own)));
        if words::<DB>().notify.is_some() {
            let own = Arc::clone(&member);
            crew.hire("log-tell", move || tasks::tell(Arc::clone(&own)));
        }
        if member.consumes() {
            if words::<DB>().notify.is_some() {
                let own = Arc::clone(&member);
                crew.hire("log-listen", move || tasks::listen(Arc::clone(&own)));
            }
            let own = Arc::clone(&member);
            crew.hire("log-trim", move || trim::run(Arc::clone(&own)));
        }
        let (own, sent) = (Arc::clone(&member), Arc::new(Mutex::new(sent)));
        let sender = crew.hire("log-send", move || {
            send::run(Arc::clone(&own), Arc::clone(&sent))
        });
        Self {
            member,
            outgoing: std::sync::Mutex::new(Some(outgoing)),
            engine: Mutex::new(Some(engine)),
            sender: Mutex::new(Some(sender)),
            deliveries,
            crew,
        }
    }

    /// Waits for the end of a task. If that takes too long the crew ends it later.
    async fn ended(task: &Mutex<Option<JoinHandle<()>>>, limit: Duration) {
        if let Some(task) = task.lock().await.take() {
            let _ = timeout(limit, task).await;
        }
    }
}

impl<DB: OutboxDatabase> Link for SqlLink<DB> {
    fn state(&self) -> watch::Receiver<LinkState> {
        self.member.state()
    }

    fn send(&self, outgoing: Outgoing) {
        if let Some(sender) = &*lock(&self.outgoing) {
            // If the channel is full or closed the message is dropped. It then counts as lost, and the relay
            // sends it again.
            let _ = sender.try_send(outgoing);
        }
    }

    fn settled(&self) -> Option<Settled> {
        let (handled, dead) = (&self.member.handled, &self.member.dead_lettered);
        Some(Settled::new(handled.get(), dead.get()))
    }

    fn counts(&self) -> LinkCounts {
        let member = &self.member;
        LinkCounts {
            reconnects: member.connections.get().saturating_sub(1),
            give_ups: member.log.give_ups(),
            panics: self.crew.panics().get(),
            lanes: Some(member.lanes.load(Ordering::Relaxed)),
            held: Some(member.held.load(Ordering::Relaxed)),
        }
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Option<LinkBacklog>, Error>> {
        Box::pin(async move {
            let backlog = self.member.log.backlog(&self.member.group).await;
            let backlog = backlog.map_err(Error::database("counting what waits in the log"))?;
            Ok(Some(LinkBacklog {
                waiting: backlog.waiting,
                oldest: backlog.oldest,
                dead_letters: backlog.dead_letters,
            }))
        })
    }

    fn trouble(&self) -> Option<String> {
        // While it closes, its tasks end.
        if self.member.stop.is_cancelled() {
            return None;
        }
        self.crew.not_working(&[]).into_iter().next()
    }

    fn stop_consuming(&self, _limit: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            lock(&self.deliveries).take();
            self.member.stop.cancel();
        })
    }

    fn finish_consuming(&self, limit: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.member.finish.cancel();
            Self::ended(&self.engine, limit).await;
        })
    }

    fn close(&self, limit: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.member.stop.cancel();
            self.member.finish.cancel();
            lock(&self.outgoing).take();
            Self::ended(&self.sender, limit).await;
            Self::ended(&self.engine, limit).await;
            self.member.close.cancel();
            self.member.set_state(LinkState::Closed);
            self.crew.stop();
            self.crew.join(limit).await;
        })
    }
}

impl<DB: OutboxDatabase> Drop for SqlLink<DB> {
    /// Without a shutdown nothing is given back: the lease runs out, as if the process had died.
    fn drop(&mut self) {
        lock(&self.deliveries).take();
        self.member.close.cancel();
        self.crew.abort();
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
