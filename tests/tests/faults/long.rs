//! Handlers that take longer than RabbitMQ waits, or that block the runtime: each message is handled once.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use final_amqp::{Amqp, QueueKind};
use final_core::{Bus, HandlerError, MessageId, Options, Router, SqliteBus};
use final_tests::{Proxy, RabbitMq, SqliteFile, eventually};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    overheard::{is_warned, warnings},
    shop::{SOON, options, service},
};

/// The ids of the messages whose handler began, in this order.
#[derive(Clone, Debug, Default)]
struct Runs(Arc<Mutex<Vec<MessageId>>>);

impl Runs {
    fn note(&self, id: MessageId) {
        self.0.lock().expect("lock").push(id);
    }

    fn count(&self) -> usize {
        self.0.lock().expect("lock").len()
    }

    async fn reach(&self, count: usize) {
        eventually(&format!("{count} runs"), SOON, async || {
            if self.count() >= count {
                Ok(())
            } else {
                Err(self.count())
            }
        })
        .await;
    }
}

/// A bus over RabbitMQ, whose outbox is a file of its own.
struct Service {
    bus: SqliteBus,
    name: String,
    url: String,
    _file: SqliteFile,
}

impl Service {
    async fn start(name: String, url: &str, amqp: Amqp, options: Options, router: Router) -> Self {
        crate::shop::log();
        let file = final_tests::sqlite_file().expect("a file");
        let pool = sqlx::SqlitePool::connect(&file.url()).await;
        let bus = Bus::new(&name, pool.expect("opened"), amqp).with_options(options);
        bus.start(router).await.expect("start");
        Self {
            bus,
            name,
            url: url.to_owned(),
            _file: file,
        }
    }

    /// Puts messages into the queue, with ids or without.
    async fn put(&self, topic: &str, count: usize, identified: bool) {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await;
        let connection = connection.expect("RabbitMQ");
        let channel = connection.create_channel().await.expect("a channel");
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        confirms.await.expect("confirms");
        for n in 0..count {
            let mut properties = BasicProperties::default().with_delivery_mode(2);
            if identified {
                properties = properties.with_message_id(uuid::Uuid::now_v7().to_string().into());
            }
            let options = BasicPublishOptions::default();
            let body = if identified {
                n.to_string()
            } else {
                String::new()
            };
            let sent = channel.basic_publish(
                topic.into(),
                topic.into(),
                options,
                body.as_bytes(),
                properties,
            );
            sent.await.expect("sent").await.expect("an answer");
        }
        connection.close(200, "".into()).await.expect("closed");
    }

    /// Shuts the bus down, and returns how many messages are left in the queue and in the dead letters.
    async fn ends(self) -> (u32, u32) {
        self.bus.shutdown().await.expect("shutdown");
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await;
        let channel = connection.expect("RabbitMQ").create_channel().await;
        let channel = channel.expect("a channel");
        let count = async |queue: String| {
            let passive = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let declared = channel.queue_declare(queue.into(), passive, FieldTable::default());
            declared.await.expect("the queue").message_count()
        };
        (
            count(self.name.clone()).await,
            count(format!("{}_dlx", self.name)).await,
        )
    }
}

/// A handler that notes its message and takes this long.
fn slow(topic: &str, runs: &Runs, time: Duration) -> Router {
    let runs = runs.clone();
    Router::new().route(topic, async move |id: MessageId| {
        runs.note(id);
        tokio::time::sleep(time).await;
    })
}

/// A handler that notes its message and blocks its thread for this long.
#[allow(
    clippy::disallowed_methods,
    reason = "the test is about handlers that do this"
)]
fn blocking(topic: &str, runs: &Runs, time: Duration) -> Router {
    let runs = runs.clone();
    Router::new().route(topic, async move |id: MessageId| {
        runs.note(id);
        std::thread::sleep(time);
    })
}

/// A handler that notes its message and runs until the gate is open.
fn until_open(topic: &str, runs: &Runs, gate: &Arc<Semaphore>) -> Router {
    let (runs, gate) = (runs.clone(), Arc::clone(gate));
    Router::new().route(topic, move |id: MessageId| {
        runs.note(id);
        let gate = Arc::clone(&gate);
        async move {
            let _open = gate.acquire().await;
        }
    })
}

/// Waits until RabbitMQ has given up on all deliveries that are of an age: the next ones have most of their time left.
/// An ack that crosses with the end of its channel is lost, and its message is handled once more.
async fn is_calm(service: &str) {
    let (mut seen, mut since) = (0, Instant::now());
    eventually("no channel ends for a while", SOON, async || {
        let now = warnings(service).len();
        if now > seen {
            (seen, since) = (now, Instant::now());
        }
        let calm = since.elapsed();
        (calm > Duration::from_millis(700))
            .then_some(())
            .ok_or(calm)
    })
    .await;
}

/// RabbitMQ gives up on a delivery after 2 s, on one of four channels each time. Half of the messages have no id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_longer_than_the_consumer_timeout_runs_once_and_its_message_is_acked() {
    let rabbit = RabbitMq::start().await.expect("RabbitMQ");
    let set = "application:set_env(rabbit, consumer_timeout, 2000), \
        application:set_env(rabbit, channel_tick_interval, 500).";
    rabbit.ctl(&["eval", set]).await.expect("set");
    for (kind, subscribers) in [(QueueKind::Quorum, 1), (QueueKind::Classic, 4)] {
        let name = service();
        let (long, short) = (Runs::default(), Runs::default());
        let (imports, mails) = (format!("{name}.import"), format!("{name}.mail"));
        let gate = Arc::new(Semaphore::new(0));
        let mail = slow(&mails, &short, Duration::ZERO);
        let router = until_open(&imports, &long, &gate).merge(mail);
        let amqp = Amqp::new(rabbit.url())
            .expect("a good URL")
            .queue_kind(kind);
        let options = options().num_subscribers(subscribers);
        let service = Service::start(name.clone(), &rabbit.url(), amqp, options, router).await;
        service.put(&imports, 2, true).await;
        service.put(&imports, 2, false).await;

        long.reach(4).await;
        is_warned(&name, "longer than its consumer_timeout").await;
        is_warned(&name, &imports).await;
        is_calm(&name).await;
        gate.close();
        service.put(&mails, 20, true).await;
        short.reach(20).await;
        // The broker would deliver what is not acked once more within this time.
        tokio::time::sleep(Duration::from_secs(5)).await;

        assert_eq!((long.count(), short.count()), (4, 20), "{kind:?}");
        let left = service.ends().await;
        assert_eq!(
            left,
            (0, 0),
            "{kind:?}: left in the queue and in the dead letters"
        );
    }
}

/// Runs a service on a runtime of its own, as a process has it. Zero threads are the runtime's caller alone.
fn apart<T: Send + 'static, F: Future<Output = T>>(
    threads: usize,
    service: impl FnOnce() -> F + Send + 'static,
) -> tokio::sync::oneshot::Receiver<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut builder = match threads {
            0 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let runtime = builder.worker_threads(threads.max(1)).enable_all().build();
        let _ = sender.send(runtime.expect("a runtime").block_on(service()));
    });
    receiver
}

/// As many handlers block as there are threads. The heartbeat is 1 s, so RabbitMQ gives up on a silent connection
/// after 2 to 3 s.
async fn blocking_handlers_keep_the_connection(threads: usize) {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let proxy = Proxy::to(vhost.url()).await.expect("a proxy");
    let name = service();
    let (topic, runs, messages) = (format!("{name}.import"), Runs::default(), threads.max(1));
    let amqp = Amqp::new(proxy.url(vhost.url())).expect("a good URL");
    let amqp = amqp.heartbeat(Duration::from_secs(1));
    let router = blocking(&topic, &runs, Duration::from_secs(6));
    let (noted, url) = (runs.clone(), vhost.url().to_owned());
    let left = apart(threads, async move || {
        let service = Service::start(name, &url, amqp, options(), router).await;
        service.put(&topic, messages, true).await;
        noted.reach(messages).await;
        service.ends().await
    });

    runs.reach(messages).await;
    let left = left.await.expect("ended");

    assert_eq!(proxy.taken(), 2, "no connection was lost");
    assert_eq!(runs.count(), messages);
    assert_eq!(left, (0, 0), "left in the queue and in the dead letters");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_the_only_thread_runs_once() {
    blocking_handlers_keep_the_connection(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_block_all_threads_run_once() {
    blocking_handlers_keep_the_connection(2).await;
}

/// Some handlers end while there is no connection, and the others when there is one again. One refuses its message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_runs_once_although_its_connection_is_cut() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let proxy = Proxy::to(vhost.url()).await.expect("a proxy");
    let name = service();
    let (topic, runs) = (format!("{name}.import"), Runs::default());
    let gate = Arc::new(Semaphore::new(0));
    let first = Arc::new(AtomicU32::new(0));
    let (noted, held) = (runs.clone(), Arc::clone(&gate));
    let router = Router::new().route(&topic, move |id: MessageId| {
        noted.note(id);
        let (held, first) = (
            Arc::clone(&held),
            first.fetch_add(1, Ordering::Relaxed) == 0,
        );
        async move {
            held.acquire().await.expect("open").forget();
            match first {
                true => Err(HandlerError::permanent("refused")),
                false => Ok(()),
            }
        }
    });
    let amqp = Amqp::new(proxy.url(vhost.url())).expect("a good URL");
    let service = Service::start(name, vhost.url(), amqp, options(), router).await;
    service.put(&topic, 8, true).await;
    service.put(&topic, 8, false).await;
    runs.reach(16).await;

    for _ in 0..2 {
        let taken = proxy.taken();
        proxy.down();
        eventually("no connection", SOON, async || {
            !service.bus.stats().await.expect("stats").connected
        })
        .await;
        // The ack of a handler that ends before the cut is known is lost on its way.
        tokio::time::sleep(Duration::from_millis(300)).await;
        gate.add_permits(4);
        // Long enough for the handlers to end.
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.up().expect("a proxy again");
        eventually("a connection", SOON, async || proxy.taken() >= taken + 2).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        gate.add_permits(4);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    assert_eq!(runs.count(), 16);
    let left = service.ends().await;
    assert_eq!(left, (0, 1), "left in the queue and in the dead letters");
}

/// Waiting messages of a lost connection are handled when they come again, and not before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_only_wait_when_a_connection_is_cut_are_handled_once() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let proxy = Proxy::to(vhost.url()).await.expect("a proxy");
    let name = service();
    let (topic, runs) = (format!("{name}.import"), Runs::default());
    let router = slow(&topic, &runs, Duration::from_millis(20));
    let options = options().concurrency(2);
    let amqp = Amqp::new(proxy.url(vhost.url())).expect("a good URL");
    let service = Service::start(name, vhost.url(), amqp, options, router).await;
    service.put(&topic, 200, true).await;

    for count in [20, 60, 100] {
        runs.reach(count).await;
        proxy.cut();
    }
    runs.reach(200).await;

    // A handler can have ended with its ack on the way to the connection that was cut.
    assert!(runs.count() <= 200 + 3 * 8, "{} runs", runs.count());
    eventually("all messages", SOON, async || {
        let mut once = runs.0.lock().expect("lock").clone();
        once.sort();
        once.dedup();
        once.len() == 200
    })
    .await;
    assert_eq!(service.ends().await, (0, 0));
}

/// A process that ends its runtime without a shutdown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_end_with_the_bus_although_its_runtime_was_dropped() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let proxy = Proxy::to(vhost.url()).await.expect("a proxy");
    for keeps_bus in [false, true] {
        let name = service();
        let (topic, runs) = (format!("{name}.import"), Runs::default());
        let router = slow(&topic, &runs, Duration::from_secs(3600));
        let (noted, url) = (runs.clone(), vhost.url().to_owned());
        let amqp = Amqp::new(proxy.url(vhost.url())).expect("a good URL");
        let service = apart(1, async move || {
            let service = Service::start(name, &url, amqp, options(), router).await;
            service.put(&topic, 1, true).await;
            noted.reach(1).await;
            keeps_bus.then_some(service)
        });

        if let Some(service) = service.await.expect("ended") {
            assert_eq!(
                service.ends().await,
                (1, 0),
                "left in the queue and in the dead letters"
            );
        }
        eventually("no connection", SOON, async || proxy.open() == 0).await;
    }
}
