//! `Amqp` as a `Broker`: opens the link and is the link.
//!
//! Input: the settings and what the bus asks for. State: the link's own thread. Output: the two halves,
//! [`Publisher`] and [`Subscription`], whose tasks run there. Each half keeps a connection of its own.

use std::{sync::Arc, time::Duration};

use final_core::broker::{
    Broker, BrokerError, BrokerErrorKind, Delivery, Detour, LetterStream, Link, LinkCounts,
    LinkState, Opened, Outgoing, Settled, Setup,
};
use futures::{
    FutureExt,
    future::{BoxFuture, join, join_all},
};
use lapin::Connection;
use tokio::sync::{mpsc, watch};

use crate::{
    connection::{Connected, close, connect},
    consume::Subscription,
    dead_letters::Collection,
    names,
    options::{Amqp, Settings},
    publish::Publisher,
    role::{self, Role},
    thread::{LinkThread, ThreadInUse},
    topology::{Pipeline, Topology},
};

impl Broker for Amqp {
    fn open(&self, setup: Setup) -> BoxFuture<'_, Result<Opened, BrokerError>> {
        let settings = self.settings.at_home();
        async move {
            let (thread, in_use) = LinkThread::start()?;
            let opening = open(settings, setup, in_use.clone());
            let (publisher, subscription, collection, deliveries) = thread.run(opening).await??;
            let link = Arc::new(AmqpLink {
                publisher,
                subscription,
                collection,
                thread,
                _in_use: in_use,
            });
            Ok(Opened::new(link, deliveries))
        }
        .boxed()
    }
}

/// Both halves of the link: a connection to publish, and one to consume.
#[derive(Debug)]
struct AmqpLink {
    publisher: Publisher,
    subscription: Subscription,
    /// What gives dead letters away, if the bus wants them.
    collection: Option<Collection>,
    thread: LinkThread,
    _in_use: ThreadInUse,
}

/// Both halves, what gives dead letters away, and what the consuming half delivers.
type Halves = (
    Publisher,
    Subscription,
    Option<Collection>,
    mpsc::Receiver<Delivery>,
);

/// Runs on the link's thread, and leaves its tasks there.
async fn open(
    settings: Arc<Settings>,
    setup: Setup,
    in_use: ThreadInUse,
) -> Result<Halves, BrokerError> {
    role::check_url(&settings)?;
    let topology = Topology {
        service: setup.service.to_string(),
        queue: queue(&settings, &setup)?.into(),
        kind: settings.queue_kind,
        topics: setup.topics.clone(),
        declare: settings.declare,
        refused: Arc::default(),
    };
    let role = Role::publisher(&settings);
    let publishing = unless_away(
        connect(&settings, &setup.service, role).await,
        &setup,
        Half::Publishing,
    )?;
    let consuming = match &publishing {
        Some(publishing) => match first_consuming(&settings, &setup, &topology).await {
            Ok(consuming) => consuming,
            Err(error) => {
                close(&publishing.connection).await;
                return Err(error);
            }
        },
        None => None,
    };
    let publisher = Publisher::start(
        Arc::clone(&settings),
        Arc::clone(&setup.service),
        topology.queue.to_string(),
        setup.confirm_window,
        publishing,
        in_use.clone(),
    );
    let collection = setup.collect_dead_letters.then(|| {
        let settings = Arc::clone(&settings);
        Collection::start(settings, topology.clone(), &setup.service, in_use)
    });
    let channels = consuming_channels(&settings, &setup);
    let (subscription, deliveries) = Subscription::start(
        settings,
        topology,
        channels,
        setup.concurrency,
        publisher.way(),
        consuming,
    );
    Ok((publisher, subscription, collection, deliveries))
}

/// Connects for consuming, purges if asked to, and declares the topology.
async fn first_consuming(
    settings: &Settings,
    setup: &Setup,
    topology: &Topology,
) -> Result<Option<Connected>, BrokerError> {
    if setup.topics.is_empty() && !setup.purge {
        return Ok(None);
    }
    let role = Role::subscriber(consuming_channels(settings, setup));
    let attempt = connect(settings, &setup.service, role).await;
    let Some(connected) = unless_away(attempt, setup, Half::Consuming)? else {
        return Ok(None);
    };
    let prepared = prepare(setup, topology, &connected.connection).await;
    if prepared.is_err() || setup.topics.is_empty() {
        close(&connected.connection).await;
    }
    Ok(unless_away(prepared, setup, Half::Consuming)?
        .filter(|()| !setup.topics.is_empty())
        .map(|()| connected))
}

/// How many channels consume. Each needs at least one message of the prefetch.
fn consuming_channels(settings: &Settings, setup: &Setup) -> usize {
    setup
        .num_subscribers
        .clamp(1, usize::from(settings.prefetch).max(1))
}

async fn prepare(
    setup: &Setup,
    topology: &Topology,
    connection: &Connection,
) -> Result<(), BrokerError> {
    if setup.purge {
        topology.purge(connection).await?;
    }
    if !setup.topics.is_empty() {
        let mut pipeline = Pipeline::default();
        let declared = topology.declare(&mut pipeline, connection).await;
        pipeline.end().await;
        declared?;
    }
    Ok(())
}

/// The two halves of a link.
#[derive(Clone, Copy)]
enum Half {
    Publishing,
    Consuming,
}

/// Turns trouble that passes into `None`, unless a purge needs the broker now.
fn unless_away<T>(
    attempt: Result<T, BrokerError>,
    setup: &Setup,
    half: Half,
) -> Result<Option<T>, BrokerError> {
    match attempt {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == BrokerErrorKind::Unreachable && !setup.purge => {
            match half {
                Half::Publishing => tracing::warn!(
                    target: "final::amqp",
                    service = %setup.service,
                    %error,
                    "RabbitMQ cannot be reached; messages wait in the outbox until it can"
                ),
                Half::Consuming => tracing::warn!(
                    target: "final::amqp",
                    service = %setup.service,
                    %error,
                    "the service's queue cannot be used yet; messages wait in RabbitMQ until it can"
                ),
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The name of the service's queue, or the error that says why it cannot be used.
fn queue(settings: &Settings, setup: &Setup) -> Result<String, BrokerError> {
    let name = settings.queue.as_deref().unwrap_or(&setup.service);
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > names::MAX_QUEUE {
        "it is longer than 242 bytes"
    } else if name.chars().any(char::is_control) {
        // RabbitMQ removes line breaks, and the name would be that of another queue.
        "it contains a control character"
    } else if name.starts_with("amq.") {
        "names starting with `amq.` are reserved by RabbitMQ"
    } else {
        return Ok(name.to_owned());
    };
    let text = format!("the queue name given to `Amqp::queue` cannot be used: {reason}");
    Err(BrokerError::new(BrokerErrorKind::Invalid, text))
}

impl AmqpLink {
    /// Ends the tasks that consume.
    async fn finish(&self, limit: Duration) {
        let collection = self
            .collection
            .iter()
            .map(|collection| collection.finish(limit));
        join(self.subscription.finish(limit), join_all(collection)).await;
    }
}

impl Link for AmqpLink {
    fn state(&self) -> watch::Receiver<LinkState> {
        self.publisher.state()
    }

    fn send(&self, outgoing: Outgoing) {
        self.publisher.send(outgoing);
    }

    fn use_detour(&self, detour: Arc<dyn Detour>) {
        let _ = self.publisher.way().detour.set(detour);
    }

    fn dead_letters(&self) -> Option<LetterStream> {
        self.collection.as_ref()?.stream()
    }

    fn settled(&self) -> Option<Settled> {
        Some(self.publisher.way().counts.settled())
    }

    fn counts(&self) -> LinkCounts {
        self.publisher.way().counts.link()
    }

    fn trouble(&self) -> Option<String> {
        let collection = self.collection.as_ref();
        let has_ended = self.publisher.has_ended()
            || self.subscription.has_ended()
            || collection.is_some_and(Collection::has_ended);
        let text = "the tasks of the RabbitMQ link have ended; see the panic in the log";
        has_ended.then(|| text.to_owned())
    }

    fn stop_consuming(&self, limit: Duration) -> BoxFuture<'_, ()> {
        async move {
            let collection = self
                .collection
                .iter()
                .map(|collection| collection.stop(limit));
            join(self.subscription.stop(limit), join_all(collection)).await;
        }
        .boxed()
    }

    fn finish_consuming(&self, limit: Duration) -> BoxFuture<'_, ()> {
        self.finish(limit).boxed()
    }

    fn close(&self, limit: Duration) -> BoxFuture<'_, ()> {
        async move {
            // Ends the tasks also if `finish_consuming` was never called.
            self.finish(Duration::ZERO).await;
            self.publisher.close(limit).await;
            self.thread.close().await;
        }
        .boxed()
    }
}
