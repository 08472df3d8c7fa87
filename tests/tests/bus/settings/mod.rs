//! Servers, accounts and pools whose settings change what a statement means, or whether it runs: a bus works there
//! all the same, or refuses to start and names the setting.

mod hostile;
mod mariadb;
mod postgres;
mod quiet;
mod sqlite;

use std::time::Duration;

use final_core::{BoxError, Bus, Options, SqlBroker, bus::RetryFailed};
use final_tests::Proxy;

use crate::{
    database::Database,
    house::{House, Notes, TestError},
    transport::Transport,
};

/// Everything a service does: publish in transactions and alone, in one piece and in many, with texts of all kinds;
/// handle, retry, dead-letter, count, stop, and empty the outbox at the next start.
pub(super) async fn walks<D: Database, T: Transport>(house: &House<D, T>) {
    let (notes, empty) = (Notes::default(), Notes::default());
    let router = || {
        let refuse = async || Err::<(), BoxError>("paiement refusé ✓".into());
        let router = house.noting(&notes, &["placed"]);
        let router = router.merge(house.noting(&empty, &["empty"]));
        router.route(house.topic("poison"), refuse)
    };
    let bus = house.bus();
    bus.start(router()).await.expect("start");
    let topic = house.topic("placed");

    let tx = bus.begin().await.expect("begin");
    let many = bus.transaction(tx, async |mut txbus| {
        for n in 0..100_i64 {
            txbus.publish(&topic, &n).await?;
        }
        txbus.publish(&topic, &100_i64).key("clé ✓").await?;
        txbus.publish_bytes(house.topic("empty"), "").await?;
        Ok::<_, TestError>(())
    });
    many.await.expect("committed");
    let tx = bus.begin().await.expect("begin");
    let undone = bus.transaction(tx, async |mut txbus| {
        txbus.publish(&topic, &-1_i64).await?;
        txbus.flush().await?;
        Err::<(), _>(TestError::OnPurpose)
    });
    undone.await.expect_err("rolled back");
    bus.publish(&topic, &101_i64).await.expect("published");
    let keyed = bus
        .publish(&topic, &102_i64)
        .key("clé ✓")
        .header("tenant", "Ðé \\' \" ✓");
    keyed
        .ttl(Duration::from_secs(900))
        .await
        .expect("published");
    let delayed = bus
        .publish(&topic, &103_i64)
        .delay(Duration::from_millis(50));
    delayed.await.expect("published");
    let nothing = bus.publish_bytes(house.topic("empty"), "");
    nothing.await.expect("published");
    let poison = bus.publish(house.topic("poison"), &0_i64);
    poison.await.expect("published");

    notes.reach(104).await;
    empty.reach(2).await;
    assert!(
        empty
            .all()
            .iter()
            .all(|message| message.payload().is_empty())
    );
    let mut numbers = notes.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, Vec::from_iter(0..104));
    for message in notes.all() {
        assert!(
            message.key().is_none_or(|key| key == "clé ✓"),
            "{message:?}"
        );
        let tenant = message.headers().get("tenant");
        assert!(
            tenant.is_none_or(|tenant| tenant == "Ðé \\' \" ✓"),
            "{message:?}"
        );
    }
    let letters = house.transport.dead_letters(&house.service, 1).await;
    assert!(letters[0].reason.contains("paiement refus"), "{letters:?}");
    house.outbox_is_empty(&bus).await;
    assert_eq!(bus.retry_failed(RetryFailed::All).await.expect("asked"), 0);
    bus.shutdown().await.expect("shutdown");

    let bus = house.bus_with(house.options().purge_on_startup(true));
    bus.start(router()).await.expect("start");
    house.handles_one_more(&bus, &notes).await;
    bus.shutdown().await.expect("shutdown");
}

impl<D: Database, T: Transport> House<D, T> {
    async fn handles_one_more(&self, bus: &Bus<D>, notes: &Notes) {
        let before = notes.len();
        let publish = bus.publish(self.topic("placed"), &7_i64);
        publish.await.expect("published");
        notes.reach(before + 1).await;
    }
}

/// A pool whose connections are behind a proxy: what the bus has to know of it.
///
/// While nothing happens, the connections are reset, or carry nothing more without a word. Who asks next gets the
/// answer all the same.
pub(super) async fn answers_after_a_quiet_time<D: Database>(pool: sqlx::Pool<D>, proxy: &Proxy) {
    /// Longer than a connection may be idle without being asked for a sign of life.
    const QUIET: Duration = Duration::from_secs(6);
    let broker = SqlBroker::new(pool.clone());
    let bus = Bus::new("shop", pool, broker.clone())
        .with_options(Options::default().scan_interval(Duration::from_secs(600)));
    bus.migrate().await.expect("migrate");
    for ends in [Proxy::cut, Proxy::strand] {
        // As many at once as there are connections.
        let asked = (0..8).map(|_| async { (bus.stats().await, broker.backlog("shop").await) });
        futures::future::join_all(asked).await;
        tokio::time::sleep(QUIET).await;
        ends(proxy);
        bus.stats().await.expect("the first one is right");
        broker
            .backlog("shop")
            .await
            .expect("the first one is right");
    }
}

/// Asserts that a bus refuses to start, with this in its error.
pub(super) async fn refuses<D: Database, T: Transport>(house: &House<D, T>, name: &str) {
    let refused = house
        .bus()
        .start(house.noting(&Notes::default(), &["placed"]))
        .await;
    let error: BoxError = refused.expect_err("refused").into();
    let mut causes = std::iter::successors(Some(&*error as &dyn std::error::Error), |error| {
        error.source()
    });
    let is_named = causes.any(|cause| cause.to_string().contains(name));
    assert!(is_named, "{error:?}");
}
