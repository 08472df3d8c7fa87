//! Health: live, ready, and why not.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use final_core::{
    Bus, Error, MemoryBroker, Router,
    broker::{Broker, BrokerError, Opened, Setup},
};
use final_tests::eventually;
use futures::future::BoxFuture;

use super::behind_a_proxy;
use crate::{
    database::Database,
    house::{House, SOON},
    transport::{Memory, Transport},
};

crate::suite!(
    everywhere: [
        a_bus_is_ready_from_its_start_to_its_shutdown,
    ],
    with an outbox: [
        a_broker_that_is_away_makes_no_bus_unready,
    ],
);

async fn a_bus_is_ready_from_its_start_to_its_shutdown<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let bus = house.bus();
    let health = bus.health().await;
    assert!(health.live && !health.ready, "{health}");
    assert_eq!(
        health.to_string(),
        "live and not ready: the bus has not been started"
    );

    // Without a handler the task that takes deliveries has nothing to do.
    bus.start(Router::new()).await.expect("start");
    eventually("a bus that is well", SOON, async || {
        let health = bus.health().await;
        assert!(health.live, "{health}");
        let is_well = health.ready && health.connected && health.reasons.is_empty();
        is_well.then_some(()).ok_or(health)
    })
    .await;

    bus.shutdown().await.expect("shutdown");
    let health = bus.health().await;
    assert_eq!(health.to_string(), "not live: the bus has been shut down");
}

async fn a_broker_that_is_away_makes_no_bus_unready<D: Database, T: Transport>(house: House<D, T>) {
    let (bus, _) = house.start_connected(house.options(), &["placed"]).await;
    house.transport.go_away().await;

    let health = eventually("a broker that is away", SOON, async || {
        let health = bus.health().await;
        (!health.connected).then_some(health).ok_or(())
    })
    .await;
    assert!(health.live && health.ready, "{health}");
    assert!(
        health.to_string().contains("the broker takes no messages"),
        "{health}"
    );
    house.transport.come_back().await;
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_silent_makes_the_bus_unready_and_is_waited_for_shortly() {
    let (bus, proxy, _notes) = behind_a_proxy().await;
    proxy.stall();

    let mut asked = Instant::now();
    let health = eventually("a bus that is not ready", SOON, async || {
        asked = Instant::now();
        let health = bus.health().await;
        (!health.ready).then_some(health).ok_or(())
    })
    .await;
    // A probe's own limit is often some seconds. This machine may be busy.
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
    assert!(health.live, "{health}");
    assert!(
        health.to_string().contains("the database does not answer"),
        "{health}"
    );

    proxy.resume();
    eventually("a bus that is ready again", SOON, async || {
        bus.health().await.ready
    })
    .await;
    bus.shutdown().await.expect("shutdown");
}

/// A broker whose stream of deliveries ends at once.
struct Mute(MemoryBroker);

impl Broker for Mute {
    fn open(&self, setup: Setup) -> BoxFuture<'_, Result<Opened, BrokerError>> {
        Box::pin(async move {
            let opened = self.0.open(setup).await?;
            let (_, deliveries) = tokio::sync::mpsc::channel(1);
            Ok(Opened::new(opened.link, deliveries))
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_whose_task_has_ended_is_not_live() {
    let house = House::<sqlx::Sqlite, Memory>::new().await;
    let bus = Bus::new(
        &house.service,
        house.pool.clone(),
        Mute(MemoryBroker::new()),
    );
    bus.start(Router::new().route("placed", async || ()))
        .await
        .expect("start");

    let health = eventually("a bus that is not live", SOON, async || {
        let health = bus.health().await;
        (!health.live).then_some(health).ok_or(())
    })
    .await;
    let expected = "not live: the task \"subscriber\" has ended";
    assert_eq!(health.to_string(), expected);
    let _: Result<(), Error> = bus.shutdown().await;
}

/// As many probes as there are, the database is asked once a second for a sign of life, and once in 5 s to count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_probes_is_no_flood_for_the_database() {
    let (bus, proxy, _notes) = behind_a_proxy().await;
    assert!(bus.health().await.ready && bus.metrics().await.outbox.is_some());
    let (before, began) = (proxy.carried(), Instant::now());

    let bus = Arc::new(bus);
    let floods = (0..4).map(|_| {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move {
            for _ in 0..5_000 {
                assert!(bus.health().await.ready);
                assert!(bus.metrics().await.outbox.is_some());
            }
        })
    });
    for flood in futures::future::join_all(floods).await {
        flood.expect("probes that are answered");
    }

    // The smallest question and its answer have 11 bytes, so 5,000 have 55,000. A relay that has just started asks as
    // well.
    let (bytes, took) = (proxy.carried() - before, began.elapsed());
    let most = 10_000 + 2_000 * took.as_secs();
    assert!(bytes < most, "{bytes} bytes in {took:?}");
    bus.shutdown().await.expect("shutdown");
}
