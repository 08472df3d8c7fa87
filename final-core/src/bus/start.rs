//! Starting a bus.
//!
//! Input: a router. In this order: options and routes are checked, the tables are migrated, the broker is
//! opened, the tasks are hired. The result is [`Running`], which exists from then on.

use std::{collections::BTreeMap, fmt, sync::Arc};

use tokio::{runtime::Handle, sync::Mutex};
use tokio_util::sync::CancellationToken;

use super::{Bus, Inner, Phase};
use crate::{
    Error, OutboxDatabase,
    broker::{Detour, Link, Opened, Setup, TO_QUEUE},
    collect::Collector,
    consume::{DetourQueue, Marks, Subscriber, watch},
    handler::Hold,
    lock::lock,
    names::ServiceName,
    relay::{self, Relay},
    router::{Route, Router, Routes},
};

/// The parts of a bus that exist from its start on.
pub(crate) struct Running<DB: OutboxDatabase> {
    pub(crate) relay: Arc<Relay<DB>>,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) subscriber: Arc<Subscriber>,
    /// What takes dead letters out of the broker, if it is wanted and the broker offers them.
    collecting: Option<Collecting<DB>>,
}

/// The collector of a running bus.
struct Collecting<DB: OutboxDatabase> {
    collector: Arc<Collector<DB>>,
    /// Cancelled once it stores nothing any more.
    ended: CancellationToken,
}

impl<DB: OutboxDatabase> Running<DB> {
    /// How many dead letters were collected.
    pub(super) fn collected(&self) -> u64 {
        let collecting = self.collecting.as_ref();
        collecting.map_or(0, |collecting| collecting.collector.collected.get())
    }

    /// Waits until nothing more is collected.
    pub(super) async fn collecting_ended(&self) {
        if let Some(collecting) = &self.collecting {
            collecting.ended.cancelled().await;
        }
    }
}

impl<DB: OutboxDatabase> Bus<DB> {
    /// Starts to send what is in the outbox, and to receive what the router has handlers for.
    ///
    /// Creates or updates the outbox table, connects to the broker, declares the service's queue
    /// and its bindings, and starts the tasks. A service that only publishes starts `Router::new()`;
    /// nothing is declared for consuming then.
    ///
    /// A broker that cannot be reached is no error: a warning is logged, messages wait in the outbox, and the
    /// bus keeps trying. The same holds for what passes by itself or once an operator acts: a limit of
    /// connections or queues is reached, or the node of a queue is down. After `start` has returned, every kind
    /// of trouble is retried and shown in [`stats`](Self::stats).
    ///
    /// # Errors
    ///
    /// Fails if the service name, the options or the router are not usable; if the database fails
    /// or the table belongs to another service; if the broker refuses the login, the virtual host or a
    /// permission, its certificate is not trusted, or the queue exists with other arguments; and if the bus runs
    /// already or has been shut down. After a failure `start` may be called again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the start; [`shutdown`](Self::shutdown) waits for its end.
    pub async fn start(&self, router: Router) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        inner
            .advance(Phase::New, Phase::Starting)
            .map_err(|phase| match phase {
                Phase::Stopping | Phase::Stopped => Error::ShutDown,
                Phase::New | Phase::Starting | Phase::Running => Error::AlreadyStarted,
            })?;
        *lock(&inner.runtime) = Some(Handle::current());
        let mut attempt = StartAttempt {
            inner,
            ended: false,
        };
        let task = self.inner.crew.track("start", async move {
            let result = attempt.inner.start_here(router).await;
            let phase = match result {
                Ok(()) => Phase::Running,
                Err(_) => Phase::New,
            };
            match attempt.end(phase) {
                Ok(()) => result,
                Err(_) => Err(Error::ShutDown),
            }
        });
        // The task is aborted only by a shutdown; otherwise this is the end of its runtime, or a panic in it,
        // which is logged already.
        task.await.unwrap_or(Err(Error::ShutDown))
    }
}

/// A start under way. Dropped before its end, because its runtime has ended or it panicked, it leaves a new bus.
struct StartAttempt<DB: OutboxDatabase> {
    inner: Arc<Inner<DB>>,
    ended: bool,
}

impl<DB: OutboxDatabase> StartAttempt<DB> {
    /// Ends the start. Fails if a shutdown did not wait for it.
    fn end(&mut self, phase: Phase) -> Result<(), Phase> {
        self.ended = true;
        let is_wanted = self.inner.advance(Phase::Starting, phase);
        self.inner.start_ended.notify_waiters();
        is_wanted
    }
}

impl<DB: OutboxDatabase> Drop for StartAttempt<DB> {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.end(Phase::New);
        }
    }
}

impl<DB: OutboxDatabase> Inner<DB> {
    async fn start_here(&self, router: Router) -> Result<(), Error> {
        let service = self.service()?;
        self.options.check()?;
        let routes = router.into_routes()?;
        let holds = self.holds(&routes)?;
        self.outbox.migrate().await?;
        self.outbox.located().await?;

        let topics = routes.keys().cloned().collect();
        let mut setup = Setup::with_options(service.shared(), topics, &self.options);
        setup.holds = holds;
        let opened = if setup.purge {
            self.purge(setup).await?
        } else {
            self.broker.open(setup).await?
        };
        self.hire(routes, opened)
    }

    /// The topics whose messages are held when they fail. An error if the broker cannot hold any: they would be lost to
    /// the dead letters, or come out of order.
    fn holds(&self, routes: &Routes) -> Result<BTreeMap<Arc<str>, Hold>, Error> {
        let holds = |(topic, route): (&Arc<str>, &Route)| Some((Arc::clone(topic), route.hold()?));
        let holds: BTreeMap<_, _> = routes.iter().filter_map(holds).collect();
        let topics: Vec<_> = holds.keys().map(|topic| format!("{topic:?}")).collect();
        if !topics.is_empty() && !self.broker.can_hold() {
            return Err(Error::InvalidRouter(format!(
                "messages of {} are to be held when they fail, and only the log (SqlBroker) can hold a message. Take \
                 the log as broker; or say `.on_failure(OnFailure::DeadLetter)` for these routes, and what comes \
                 after a message that fails goes on without it",
                topics.join(", ")
            )));
        }
        Ok(holds)
    }

    /// Empties outbox and queues, under the startup lock, so that no other instance starts meanwhile.
    async fn purge(&self, setup: Setup) -> Result<Opened, Error> {
        let purge = self.outbox.begin_purge().await?;
        let opened = self.broker.open(setup).await?;
        match purge.run().await {
            Ok(records) => {
                tracing::info!(
                    target: "final::bus",
                    service = self.name,
                    records,
                    "outbox and queues are purged on startup"
                );
                Ok(opened)
            }
            Err(error) => {
                opened.link.close(self.options.shutdown_timeout).await;
                Err(error)
            }
        }
    }

    fn hire(&self, routes: Routes, opened: Opened) -> Result<(), Error> {
        let Opened { link, deliveries } = opened;
        let service = self.service()?.clone();
        let stop = self.crew.stop_token();
        let relay = Relay::new(
            service.clone(),
            self.options.clone(),
            Arc::clone(&self.outbox),
            Arc::clone(&link),
            stop,
        );
        relay.start(&self.crew);
        let detour = self.open_detour(&relay, &link);

        if !routes.is_empty() {
            let watching = watch(self.number, service.shared(), stop.clone());
            self.crew.track("watch", watching);
        }

        let handlers_stop = self.handlers_stop.clone();
        let subscriber = Subscriber::new(
            self.number,
            routes,
            &self.options,
            service.shared(),
            Arc::clone(&self.outbox) as Arc<dyn Marks>,
            handlers_stop,
        );
        let subscriber = Arc::new(
            subscriber
                .with_detour(detour)
                .with_panics(Arc::clone(self.crew.panics())),
        );
        // Dropped with its task, also where a runtime ends without a shutdown.
        let (limit, ended) = (
            self.handlers_limit(),
            self.handlers_ended.clone().drop_guard(),
        );
        let (worker, deliveries) = (Arc::clone(&subscriber), Arc::new(Mutex::new(deliveries)));
        self.crew.hire("subscriber", move || {
            let (worker, deliveries) = (Arc::clone(&worker), Arc::clone(&deliveries));
            let _ = &ended;
            async move { worker.run(&mut *deliveries.lock().await, limit).await }
        });
        let running = Running {
            collecting: self.collect(&service, &link),
            relay,
            link,
            subscriber,
        };
        // Set once: the phase lets only one start come here.
        self.running.set(running).map_err(|_| Error::AlreadyStarted)
    }

    /// Starts the task that takes dead letters out of the broker, if it is wanted.
    fn collect(&self, service: &ServiceName, link: &Arc<dyn Link>) -> Option<Collecting<DB>> {
        if !self.options.collect_dead_letters {
            return None;
        }
        let Some(letters) = link.dead_letters() else {
            tracing::info!(
                target: "final::bus",
                service = self.name,
                "`collect_dead_letters` has no effect, because this broker keeps its dead letters where they can be listed"
            );
            return None;
        };
        let outbox = Arc::clone(&self.outbox);
        let ending = self.handlers_stop.clone();
        let collector = Arc::new(Collector::new(service.shared(), outbox, ending));
        let collecting = Collecting {
            collector: Arc::clone(&collector),
            ended: CancellationToken::new(),
        };
        let (letters, stop) = (
            Arc::new(Mutex::new(letters)),
            self.crew.stop_token().clone(),
        );
        // Dropped with its task.
        let ended = collecting.ended.clone().drop_guard();
        self.crew.hire("collector", move || {
            let (collector, letters) = (Arc::clone(&collector), Arc::clone(&letters));
            let (_, stop) = (&ended, stop.clone());
            async move { collector.run(letters, stop).await }
        });
        Some(collecting)
    }

    /// Lets messages leave their queue through the outbox, and starts the task that writes them.
    fn open_detour(&self, relay: &Arc<Relay<DB>>, link: &Arc<dyn Link>) -> Arc<DetourQueue> {
        let detour = Arc::new(DetourQueue::new());
        // While nothing can be sent back to the queue, nothing leaves it. The relay does not hold the queue.
        let way_back = Arc::downgrade(relay);
        detour.block_if(move || {
            let relay = way_back.upgrade();
            relay.is_none_or(|relay| relay.parking.is_parked(TO_QUEUE))
        });
        link.use_detour(Arc::clone(&detour) as Arc<dyn Detour>);
        let (relay, queue) = (Arc::clone(relay), Arc::clone(&detour));
        let stop = self.crew.stop_token().clone();
        self.crew.hire("detour", move || {
            let (relay, queue) = (Arc::clone(&relay), Arc::clone(&queue));
            relay::detour::run(relay, queue, stop.clone())
        });
        detour
    }
}

impl<DB: OutboxDatabase> fmt::Debug for Running<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("relay", &self.relay)
            .finish_non_exhaustive()
    }
}
