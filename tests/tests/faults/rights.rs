//! Users of RabbitMQ with few permissions.

use std::time::Duration;

use final_amqp::{Amqp, Declare};
use final_core::{HandlerError, Payload, Router};
use final_tests::{Method, Proxy, Vhost, eventually, unique};

use crate::{
    overheard::warnings,
    shop::{SOON, Tally, hang_up, outbox_is_empty, pg_bus_with, service},
};

/// A service whose queues, exchanges and bindings were made by somebody with all permissions.
struct Prepared {
    vhost: Vhost,
    service: String,
    topics: Vec<String>,
    user: String,
    proxy: Proxy,
}

impl Prepared {
    /// The user may configure, write and read what matches. `SERVICE` stands for the service's name.
    async fn new(permissions: [&str; 3]) -> Self {
        let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
        let service = service();
        let topics: Vec<_> = (0..5).map(|n| format!("{service}.{n}")).collect();
        let mut router = Router::new();
        for topic in &topics {
            router = router.route(topic, async || {});
        }
        let owner = pg_bus_with(&service, Amqp::new(vhost.url()).expect("a URL")).await;
        owner.start(router).await.expect("start");
        owner.shutdown().await.expect("shutdown");

        let user = unique("few");
        let api = vhost.api().expect("its API");
        api.add_user(&user, "s3cret").await.expect("a user");
        let permissions = permissions.map(|pattern| pattern.replace("SERVICE", &service));
        let permissions = permissions.each_ref().map(String::as_str);
        let permitted = api.set_permissions(&user, vhost.name(), permissions).await;
        permitted.expect("permissions");
        let proxy = Proxy::to(vhost.url()).await.expect("a proxy");
        proxy.count_methods();
        Self {
            vhost,
            service,
            topics,
            user,
            proxy,
        }
    }

    fn broker(&self) -> Amqp {
        let proxied = self.proxy.url(self.vhost.url());
        let (_, address) = proxied.rsplit_once('@').expect("a login");
        Amqp::new(format!("amqp://{}:s3cret@{address}", self.user)).expect("a URL")
    }

    /// The first topic is handled, and the others are refused.
    fn router(&self, tally: &Tally) -> Router {
        let refusing = async |Payload(_): Payload<i64>| -> Result<(), HandlerError> {
            Err(HandlerError::permanent("no"))
        };
        let mut router = tally.router(&self.topics[0]);
        for topic in &self.topics[1..] {
            router = router.route(topic, refusing);
        }
        router
    }

    /// Handles a message and stores a dead letter. Then it is idle, and RabbitMQ refuses nothing.
    async fn works_quietly(&self, broker: Amqp) {
        let tally = Tally::default();
        let bus = pg_bus_with(&self.service, broker).await;
        bus.start(self.router(&tally)).await.expect("start");
        let owner = Amqp::new(self.vhost.url()).expect("a URL");
        let publisher = pg_bus_with(&service(), owner).await;
        publisher.start(Router::new()).await.expect("start");
        let publish = async |topic: usize, n: i64| {
            let published = publisher.publish(&self.topics[topic], &n).await;
            published.expect("publish");
        };
        publish(0, 1).await;
        publish(1, 2).await;
        tally.has_all(1..2).await;
        let letters = format!("{}_dlx", self.service);
        let taken = final_tests::take(self.vhost.url(), &letters, 1, SOON).await;
        assert_eq!(taken[0].header("x-final-reason").as_deref(), Some("no"));

        let closed = self.proxy.methods(Method::CHANNEL_CLOSE);
        let opened = self.proxy.methods(Method::CHANNEL_OPEN_OK);
        assert!(opened > 0, "the methods are counted");
        // Topics were declared every five seconds.
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(self.proxy.methods(Method::CHANNEL_CLOSE) - closed, 0);
        assert!(self.proxy.methods(Method::CHANNEL_OPEN_OK) - opened <= 1);
        let about = warnings(&self.service);
        let about: Vec<_> = about
            .iter()
            .filter(|text| text.contains("no permission to declare"))
            .collect();
        assert!(about.len() <= 1, "{about:?}");

        // What was lost comes back at a reconnect, once the user may do more.
        let api = self.vhost.api().expect("its API");
        let permitted = api.set_permissions(&self.user, self.vhost.name(), [".*"; 3]);
        permitted.await.expect("permissions");
        let deleted = api.delete_exchange(self.vhost.name(), &self.topics[0]);
        deleted.await.expect("deleted");
        hang_up(&self.vhost).await;
        publish(0, 3).await;
        tally.has_all(3..4).await;
        publisher.shutdown().await.expect("shutdown");
        bus.shutdown().await.expect("shutdown");
        api.delete_user(&self.user).await.expect("removed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_read_its_queue_and_write_its_dead_letters_is_enough() {
    let least = Prepared::new(["^$", "^SERVICE_exchange_dlx$", "^SERVICE$"]).await;

    least.works_quietly(least.broker()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_configure_nothing_is_enough() {
    let no_configure = Prepared::new(["^$", ".*", ".*"]).await;

    no_configure.works_quietly(no_configure.broker()).await;
}

/// Both exchanges were deleted, and the user may make only one of them again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_may_not_be_made_again_holds_up_no_other_topic() {
    let some = Prepared::new([r"^SERVICE(\.[1-4]|_.*)?$", ".*", ".*"]).await;
    let received = Tally::default();
    // The one that stays away is declared first.
    let router = Router::new().route(&some.topics[0], async || {});
    let router = router.merge(received.router(&some.topics[1]));
    let bus = pg_bus_with(&some.service, some.broker()).await;
    bus.start(router).await.expect("start");
    let api = some.vhost.api().expect("its API");
    for topic in &some.topics[..2] {
        let deleted = api.delete_exchange(some.vhost.name(), topic);
        deleted.await.expect("deleted");
    }
    bus.publish(&some.topics[1], &1_i64).await.expect("publish");

    received.has_all(1..2).await;
    bus.shutdown().await.expect("shutdown");
    api.delete_user(&some.user).await.expect("removed");
}

/// Each connection asks once, and knows then that exchanges are not its to make.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_may_only_write_is_refused_once() {
    let writer = Prepared::new(["^$", ".*", "^$"]).await;
    let bus = pg_bus_with(&writer.service, writer.broker()).await;
    bus.start(Router::new()).await.expect("start");
    for topic in &writer.topics {
        bus.publish(topic, &1_i64).await.expect("publish");
    }

    outbox_is_empty(&bus).await;
    assert!(writer.proxy.methods(Method::CHANNEL_CLOSE) <= 1);
    bus.shutdown().await.expect("shutdown");
    let api = writer.vhost.api().expect("its API");
    api.delete_user(&writer.user).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_declares_nothing_asks_for_nothing() {
    let least = Prepared::new(["^$", "^SERVICE_exchange_dlx$", "^SERVICE$"]).await;
    let tally = Tally::default();
    let broker = least.broker().declare(Declare::Nothing);
    let bus = pg_bus_with(&least.service, broker).await;
    bus.start(least.router(&tally)).await.expect("start");
    eventually("a connection", SOON, async || {
        bus.stats().await.expect("stats").connected
    })
    .await;

    assert_eq!(least.proxy.methods(Method::CHANNEL_CLOSE), 0);
    bus.shutdown().await.expect("shutdown");
    let api = least.vhost.api().expect("its API");
    api.delete_user(&least.user).await.expect("removed");
}
