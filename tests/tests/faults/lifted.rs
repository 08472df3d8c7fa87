//! Refusals that pass: `start` goes on without the broker, and a running bus works again once they are lifted.

use std::time::{Duration, Instant};

use final_amqp::{Amqp, QueueKind};
use final_core::PgBus;
use final_tests::{Management, Vhost, eventually};
use lapin::{Connection, ConnectionProperties, types::FieldTable};

use crate::{
    overheard::is_warned,
    shop::{SOON, Tally, hang_up, outbox_is_empty, pg_bus_with, service},
};

const ALL: [&str; 3] = [".*"; 3];

/// A virtual host with a user of its own, who may do everything in it.
struct Guest {
    vhost: Vhost,
    user: String,
    password: String,
}

impl Guest {
    async fn new() -> Self {
        let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
        let user = final_tests::unique("guest");
        let this = Self {
            password: format!("{user}-pw"),
            user,
            vhost,
        };
        let api = this.api();
        api.add_user(&this.user, &this.password)
            .await
            .expect("user");
        this.permit(ALL).await;
        this
    }

    fn api(&self) -> &Management {
        self.vhost.api().expect("its API")
    }

    fn url(&self) -> String {
        let (_, address) = self.vhost.url().rsplit_once('@').expect("a login");
        format!("amqp://{}:{}@{address}", self.user, self.password)
    }

    async fn permit(&self, rights: [&str; 3]) {
        let (user, vhost) = (&self.user, self.vhost.name());
        let permitted = self.api().set_permissions(user, vhost, rights).await;
        permitted.expect("permissions");
    }

    async fn end(self) {
        let removed = self.api().delete_user(&self.user).await;
        removed.expect("the user goes");
    }
}

/// Starts a bus while something is refused. Publishing works meanwhile, and a shutdown takes no longer.
/// Once it is lifted, all is handled.
async fn starts_and_catches_up(
    url: &str,
    broker: impl Fn(Amqp) -> Amqp,
    words: &str,
    lift: impl AsyncFnOnce(),
) {
    let service = service();
    let topic = format!("{service}.placed");
    let tally = Tally::default();
    let bus = || async { pg_bus_with(&service, broker(Amqp::new(url).expect("a URL"))).await };

    let short = bus().await;
    short.start(tally.router(&topic)).await.expect("it passes");
    is_warned(&service, words).await;
    let began = Instant::now();
    short.shutdown().await.expect("shutdown");
    assert!(began.elapsed() < Duration::from_secs(15), "a long shutdown");

    let bus = bus().await;
    let began = Instant::now();
    bus.start(tally.router(&topic)).await.expect("it passes");
    assert!(began.elapsed() < Duration::from_secs(30), "a long start");
    for n in 0..10 {
        bus.publish(&topic, &n).await.expect("publish");
    }
    lift().await;

    tally.has_all(0..10).await;
    outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_connections_passes() {
    let guest = Guest::new().await;
    let (api, vhost, user) = (guest.api(), guest.vhost.name(), &guest.user);
    // With one, only the publishing connection gets in.
    for limit in [0, 1] {
        let limited = api.set_vhost_limit(vhost, "max-connections", limit).await;
        limited.expect("a limit");
        starts_and_catches_up(
            &guest.url(),
            |amqp| amqp,
            "raise this limit",
            async || {
                let lifted = api.clear_vhost_limit(vhost, "max-connections").await;
                lifted.expect("lifted");
            },
        )
        .await;
        let limited = api.set_user_limit(user, "max-connections", limit).await;
        limited.expect("a limit");
        starts_and_catches_up(
            &guest.url(),
            |amqp| amqp,
            "user connection limit",
            async || {
                let lifted = api.clear_user_limit(user, "max-connections").await;
                lifted.expect("lifted");
            },
        )
        .await;
    }
    guest.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_channels_or_queues_passes() {
    let guest = Guest::new().await;
    let (api, vhost, user) = (guest.api(), guest.vhost.name(), &guest.user);
    // With two, the second channel of the publishing connection is the last one.
    for limit in [0, 2] {
        let limited = api.set_user_limit(user, "max-channels", limit).await;
        limited.expect("a limit");
        starts_and_catches_up(
            &guest.url(),
            |amqp| amqp,
            "number of channels",
            async || {
                let lifted = api.clear_user_limit(user, "max-channels").await;
                lifted.expect("lifted");
            },
        )
        .await;
    }
    let limited = api.set_vhost_limit(vhost, "max-queues", 0).await;
    limited.expect("a limit");
    starts_and_catches_up(
        &guest.url(),
        |amqp| amqp,
        "queue limit",
        async || {
            let lifted = api.clear_vhost_limit(vhost, "max-queues").await;
            lifted.expect("lifted");
        },
    )
    .await;
    guest.end().await;
}

/// A queue that another connection has for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_another_connection_holds_passes() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let queue = final_tests::unique("held");
    let holder = Connection::connect(vhost.url(), ConnectionProperties::default());
    let holder = holder.await.expect("RabbitMQ");
    let exclusive = lapin::options::QueueDeclareOptions {
        exclusive: true,
        ..Default::default()
    };
    let channel = holder.create_channel().await.expect("a channel");
    let held = channel.queue_declare(queue.as_str().into(), exclusive, FieldTable::default());
    let _ = held.await.expect("a queue");
    let broker = |amqp: Amqp| amqp.queue(&queue).queue_kind(QueueKind::Classic);

    starts_and_catches_up(vhost.url(), broker, "another connection", async || {
        let closed = holder.close(200, "OK".into()).await;
        closed.expect("closed");
    })
    .await;
}

/// What is an error of `start` is none of a bus that runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_bus_comes_back_from_every_refusal() {
    let guest = Guest::new().await;
    let (api, vhost, user) = (guest.api(), guest.vhost.name(), &guest.user);
    let service = service();
    let topic = format!("{service}.placed");
    let amqp = Amqp::new(guest.url()).expect("a URL");
    let bus: PgBus = pg_bus_with(&service, amqp.queue_kind(QueueKind::Classic)).await;
    let tally = Tally::default();
    bus.start(tally.router(&topic)).await.expect("start");
    let mut published = 0;
    let mut publish = async || {
        for _ in 0..5 {
            bus.publish(&topic, &published).await.expect("publish");
            published += 1;
        }
        published
    };
    let all = publish().await;
    tally.has_all(0..all).await;

    guest.permit([""; 3]).await;
    hang_up(&guest.vhost).await;
    is_warned(&service, "the permissions `configure`").await;
    let all = publish().await;
    guest.permit(ALL).await;
    tally.has_all(0..all).await;

    api.add_user(user, "another").await.expect("a password");
    hang_up(&guest.vhost).await;
    is_warned(&service, "check user and password").await;
    let all = publish().await;
    let back = api.add_user(user, &guest.password).await;
    back.expect("the password");
    tally.has_all(0..all).await;

    api.delete_vhost(vhost).await.expect("deleted");
    is_warned(&service, "create the virtual host").await;
    let all = publish().await;
    api.add_vhost(vhost).await.expect("made again");
    is_warned(&service, "on this virtual host").await;
    guest.permit(ALL).await;
    tally.has_all(0..all).await;

    // A queue of that name with other arguments.
    api.delete_queue(vhost, &service).await.expect("deleted");
    let other = async || {
        let _ = api.delete_queue(vhost, &service).await;
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-priority".into(), 3.into());
        let channel = Connection::connect(guest.vhost.url(), ConnectionProperties::default());
        let channel = channel.await.expect("RabbitMQ").create_channel().await;
        let durable = lapin::options::QueueDeclareOptions::durable();
        let channel = channel.expect("a channel");
        let declared = channel.queue_declare(service.as_str().into(), durable, arguments);
        declared.await.is_ok()
    };
    eventually("the other queue", SOON, other).await;
    is_warned(&service, "exists with other arguments").await;
    let all = publish().await;
    api.delete_queue(vhost, &service).await.expect("deleted");
    tally.has_all(0..all).await;
    outbox_is_empty(&bus).await;

    // While it is refused, a shutdown does not wait for it.
    guest.permit([""; 3]).await;
    hang_up(&guest.vhost).await;
    let began = Instant::now();
    bus.shutdown().await.expect("shutdown");
    assert!(began.elapsed() < Duration::from_secs(15), "a long shutdown");
    guest.end().await;
}
