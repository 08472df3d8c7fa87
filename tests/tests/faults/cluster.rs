//! Three nodes, quorum queues: a leader dies, a majority dies.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use final_amqp::{Amqp, QueueKind};
use final_core::{Attempt, Bus, HandlerError, Payload, PgBus, Router};
use final_tests::{Proxy, RabbitCluster, RabbitMq, eventually};

use crate::{
    overheard::is_warned,
    shop::{SOON, Tally, log, options, outbox_is_empty, publish_on, service},
};

async fn bus(service: &str, broker: Amqp) -> PgBus {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let pool = sqlx::PgPool::connect(&url).await.expect("PostgreSQL");
    Bus::new(service, pool, broker).with_options(options())
}

/// A proxy in front of the nodes, like a load balancer.
async fn balancer(nodes: &[RabbitMq]) -> (Proxy, String) {
    let urls: Vec<_> = nodes.iter().map(|node| node.url()).collect();
    let refs: Vec<_> = urls.iter().map(String::as_str).collect();
    let proxy = Proxy::to_first_of(&refs).await.expect("a proxy");
    let url = proxy.url(&urls[0]);
    (proxy, url)
}

async fn on_disk(nodes: &[RabbitMq]) {
    for node in nodes {
        let on_disk = node.declarations_on_disk().await;
        on_disk.expect("declarations on disk");
    }
}

async fn is_whole(cluster: &RabbitCluster, witness: &RabbitMq, queue: &str) {
    eventually(
        "a member of the queue on each node",
        SOON,
        async || match cluster.members(witness, queue).await {
            Ok(3) => Ok(()),
            Ok(members) => Err(format!("{members} members")),
            Err(error) => Err(error.to_string()),
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_leader_of_the_queue_dies() {
    log();
    let cluster = RabbitCluster::start().await.expect("three nodes");
    let (_proxy, url) = balancer(cluster.nodes()).await;
    let (service, tally) = (service(), Tally::default());
    let bus = bus(&service, Amqp::new(url).expect("a URL")).await;
    bus.start(tally.router("placed")).await.expect("start");
    let (stop, publisher) = publish_on(&bus, "placed", 0);
    eventually("traffic", SOON, async || tally.distinct() > 1_000).await;
    is_whole(&cluster, &cluster.nodes()[0], &service).await;
    on_disk(cluster.nodes()).await;

    for round in 0..2 {
        let witness = &cluster.nodes()[round];
        let leader = eventually("a leader", SOON, async || {
            cluster.leader(witness, &service).await.ok().flatten()
        })
        .await;
        leader.kill9();
        let (died, before) = (Instant::now(), tally.distinct());
        eventually("traffic under a new leader", SOON, async || {
            if tally.distinct() > before + 300 {
                return Ok(());
            }
            let alive = cluster
                .nodes()
                .iter()
                .find(|node| node.identity() != leader.identity());
            let queue = match alive {
                Some(node) => node.management().queue("/", &service).await,
                None => panic!("no node is alive"),
            };
            Err(format!(
                "{} handled, {:?}, {queue:?}",
                tally.distinct() - before,
                bus.stats().await
            ))
        })
        .await;
        println!(
            "traffic {:.1} s after the leader died",
            died.elapsed().as_secs_f64()
        );
        leader.start_again().await.expect("the node again");
        is_whole(&cluster, leader, &service).await;
    }
    stop.send(()).expect("the publisher runs");
    let published = publisher.await.expect("joined");

    tally.has_all(published.committed.clone()).await;
    outbox_is_empty(&bus).await;
    let invented = tally.beyond(|n| published.committed.contains(&n));
    assert_eq!(invented, Vec::<i64>::new());
    // Each death may repeat a window on the way out, and the messages in flight on the way in.
    assert!(tally.repeats() <= 2 * 1_300, "{} repeats", tally.repeats());
    bus.shutdown().await.expect("shutdown");
}

/// Messages that wait for a later retry are in the database. The queue that they come back to has another leader by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_on_a_detour_come_back_to_a_queue_whose_leader_has_died() {
    const MESSAGES: i64 = 300;
    // What waits for five seconds or more leaves the queue.
    const AWAY: Duration = Duration::from_secs(10);
    log();
    let cluster = RabbitCluster::start().await.expect("three nodes");
    let (_proxy, url) = balancer(cluster.nodes()).await;
    let service = service();
    let bus = bus(&service, Amqp::new(url).expect("a URL")).await;
    let tries = Arc::<Mutex<HashMap<i64, Vec<u32>>>>::default();
    let noted = Arc::clone(&tries);
    let router = Router::new().route(
        "placed",
        move |Payload(n): Payload<i64>, Attempt(attempt): Attempt| {
            noted
                .lock()
                .expect("lock")
                .entry(n)
                .or_default()
                .push(attempt);
            async move {
                match attempt {
                    1 => Err(HandlerError::retry_in(AWAY, "later")),
                    _ => Ok(()),
                }
            }
        },
    );
    bus.start(router).await.expect("start");
    for n in 0..MESSAGES {
        bus.publish("placed", &n).await.expect("publish");
    }
    let witness = &cluster.nodes()[0];
    eventually("all messages on their detour", SOON, async || {
        let stats = bus.stats().await.map_err(|error| error.to_string())?;
        let all = MESSAGES as u64;
        let are_away = (stats.pending, stats.postponed) == (all, all);
        are_away.then_some(()).ok_or(format!("{stats:?}"))
    })
    .await;
    is_whole(&cluster, witness, &service).await;
    on_disk(cluster.nodes()).await;

    let leader = cluster.leader(witness, &service).await.expect("asked");
    let leader = leader.expect("a leader");
    leader.kill9();
    eventually("every message handled", SOON, async || {
        let tries = tries.lock().expect("lock");
        let handled = tries.values().filter(|tries| tries.contains(&2)).count() as i64;
        (handled == MESSAGES).then_some(()).ok_or(handled)
    })
    .await;
    leader.start_again().await.expect("the node again");

    outbox_is_empty(&bus).await;
    assert_eq!(bus.stats().await.expect("stats").dead_lettered, 0);
    // None of them has begun anew.
    let begun_twice = |tries: &&Vec<u32>| tries.iter().filter(|attempt| **attempt == 1).count() > 1;
    assert_eq!(
        tries
            .lock()
            .expect("lock")
            .values()
            .filter(begun_twice)
            .count(),
        0
    );
    bus.shutdown().await.expect("shutdown");
}

/// The queues of a service are classic ones, and their node is away when the service starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_starts_while_the_node_of_its_queue_is_down() {
    log();
    let cluster = RabbitCluster::start().await.expect("three nodes");
    let [home, .., other] = cluster.nodes() else {
        panic!("three nodes");
    };
    let (service, tally) = (service(), Tally::default());
    let classic = |node: &RabbitMq| {
        let broker = Amqp::new(node.url()).expect("a URL");
        broker.queue_kind(QueueKind::Classic)
    };
    // RabbitMQ puts a classic queue on the node of the connection that declares it.
    let first = bus(&service, classic(home)).await;
    first.start(tally.router("placed")).await.expect("start");
    first.shutdown().await.expect("shutdown");
    on_disk(cluster.nodes()).await;
    home.stop().await.expect("stopped");

    let second = bus(&service, classic(other)).await;
    second
        .start(tally.router("placed"))
        .await
        .expect("it passes");
    for n in 0..10 {
        second.publish("placed", &n).await.expect("publish");
    }
    // RabbitMQ 3.10 and 4.0 have different words for it, and our advice is the same.
    is_warned(&service, "works again when its node is back").await;
    home.start_again().await.expect("the node again");

    tally.has_all(0..10).await;
    outbox_is_empty(&second).await;
    second.shutdown().await.expect("shutdown");
}

/// A quorum queue without a majority neither confirms nor refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_without_a_majority_holds_up_nobody_else_and_loses_nothing() {
    log();
    let cluster = RabbitCluster::start().await.expect("three nodes");
    let survivor = &cluster.nodes()[0];
    let amqp = || {
        let broker = Amqp::new(survivor.url()).expect("a URL");
        broker.confirm_timeout(Duration::from_secs(10))
    };
    let (shop_name, audit_name) = (service(), service());
    let (placed, audited) = (Tally::default(), Tally::default());
    let shop = bus(&shop_name, amqp()).await;
    shop.start(placed.router("placed")).await.expect("start");
    let audit = bus(&audit_name, amqp().queue_kind(QueueKind::Classic)).await;
    audit.start(audited.router("audited")).await.expect("start");
    for n in 0..1_000 {
        shop.publish("placed", &n).await.expect("publish");
    }
    placed.has_all(0..1_000).await;
    is_whole(&cluster, survivor, &shop_name).await;
    on_disk(cluster.nodes()).await;

    for node in &cluster.nodes()[1..] {
        node.kill9();
    }
    for n in 1_000..2_000 {
        shop.publish("placed", &n).await.expect("commits go on");
        shop.publish("audited", &n).await.expect("commits go on");
    }
    audited.has_all(1_000..2_000).await;
    eventually("a parked topic", SOON, async || {
        let stats = shop.stats().await.expect("stats");
        // All of them are pending: no record was acked without proof.
        (stats.pending == 1_000 && stats.unroutable > 0)
            .then_some(())
            .ok_or(stats)
    })
    .await;
    assert_eq!(placed.distinct(), 1_000);

    let (one, other) = (&cluster.nodes()[1], &cluster.nodes()[2]);
    let (one, other) = tokio::join!(one.start_again(), other.start_again());
    one.and(other).expect("the nodes again");
    let back = Instant::now();
    placed.has_all(0..2_000).await;
    println!(
        "all handled {:.1} s after the majority was back",
        back.elapsed().as_secs_f64()
    );
    outbox_is_empty(&shop).await;
    assert!(placed.repeats() <= 1_300, "{} repeats", placed.repeats());
    // RabbitMQ stops reading the connection, so the connection is replaced.
    assert!(audited.repeats() <= 1_000, "{} repeats", audited.repeats());
    shop.shutdown().await.expect("shutdown");
    audit.shutdown().await.expect("shutdown");
}
