//! How long a message is under way when there is room: from before COMMIT to the handler.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use sqlx::{MySql, Postgres};

use super::{e2e, ours};
use crate::{
    Result,
    bench::Bench,
    db::{Db, Place},
    hand::{self, Publisher, Twin},
    load::{self, quantile},
    payload::Order,
    plot::Plot,
    row::{Must, Row},
};

/// What a handler has seen, in milliseconds.
type Ages = Arc<Mutex<Vec<f64>>>;

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    on::<Postgres>(bench).await?;
    on::<MySql>(bench).await
}

async fn on<DB: Db>(bench: &mut Bench) -> Result<()> {
    if !bench.wants::<DB>() {
        return Ok(());
    }
    let place = DB::fresh().await?;
    let vhost = final_tests::amqp_vhost().await?;
    ours::bus(&place.pool, vhost.url()).await?;
    let sustained = e2e::our_rate(&place, vhost.url(), bench.time(4.0)).await?;
    let mut plot = Plot::new(
        format!("latency-{}", DB::LABEL),
        format!("From before COMMIT to the handler, {}", DB::LABEL),
        ("milliseconds", "% of messages below"),
    );
    for (what, rate) in [
        ("100/s", 100.0),
        ("half the sustained rate", sustained / 2.0),
    ] {
        let time = bench.time(if rate > 100.0 { 4.0 } else { 6.0 });
        let (mut all, mut all_twin, mut all_raw) = (Vec::new(), Vec::new(), Vec::new());
        let (mut p50, mut p99, mut over) = (Vec::new(), Vec::new(), Vec::new());
        let (mut twin_p50, mut twin_p99) = (Vec::new(), Vec::new());
        let (mut raw_p50, mut raw_p99, mut commit_p50) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.rounds(5) {
            let ours = our_ages(&place, vhost.url(), rate, time).await?;
            let twin = twin_ages(&place, vhost.url(), rate, time).await?;
            let raw = raw_ages(vhost.url(), rate, time).await?;
            let commits = commits(&place, rate, time).await?;
            p50.push(quantile(&ours, 500));
            p99.push(quantile(&ours, 990));
            twin_p50.push(quantile(&twin, 500));
            twin_p99.push(quantile(&twin, 990));
            raw_p50.push(quantile(&raw, 500));
            raw_p99.push(quantile(&raw, 990));
            commit_p50.push(quantile(&commits, 500));
            over.push(quantile(&ours, 500) - quantile(&raw, 500) - quantile(&commits, 500));
            all.extend(ours);
            all_twin.extend(twin);
            all_raw.extend(raw);
        }
        let row = |side, metric: &str, values: &[f64]| {
            Row::alone(
                "latency",
                side,
                DB::LABEL,
                format!("{metric}, {what}"),
                values,
            )
        };
        let tail = row("ours", "p99 ms", &p99);
        let slow = rate > 100.0;
        bench.add([
            row("ours", "p50 ms", &p50),
            if slow {
                tail
            } else {
                tail.must(Must::Below(10.0))
            },
            row("ours", "p50 ms beyond lapin and a commit", &over).must(Must::AtMost(1.0)),
            row("the twin by hand", "p50 ms", &twin_p50),
            row("the twin by hand", "p99 ms", &twin_p99),
            row("lapin alone", "p50 ms", &raw_p50),
            row("lapin alone", "p99 ms", &raw_p99),
            row("a transaction alone", "p50 ms", &commit_p50),
        ]);
        if !slow {
            all.sort_by(f64::total_cmp);
            all_twin.sort_by(f64::total_cmp);
            all_raw.sort_by(f64::total_cmp);
            plot.distribution("ours, with its commit", &all);
            plot.distribution("the twin, with its commit", &all_twin);
            plot.distribution("lapin alone", &all_raw);
        }
    }
    bench.plots.push(plot);
    Ok(())
}

async fn our_ages<DB: Db>(
    place: &Place<DB>,
    amqp: &str,
    rate: f64,
    time: Duration,
) -> Result<Vec<f64>> {
    let bus = ours::bus(&place.pool, amqp).await?;
    let ages = Ages::default();
    let seen = Arc::clone(&ages);
    let (router, _) = ours::counting(move |order| note(&seen, order));
    bus.start(router).await?;
    let go_on = Arc::new(AtomicBool::new(false));
    let done = load::paced(rate, time, go_on, |n| ours::transaction(&bus, n, 1)).await?;
    all_seen(&ages, done.count).await?;
    bus.shutdown().await?;
    Ok(sorted(&ages))
}

/// The same job by hand, at the same rate: what the machine and the servers take for it.
async fn twin_ages<DB: Db>(
    place: &Place<DB>,
    amqp: &str,
    rate: f64,
    time: Duration,
) -> Result<Vec<f64>> {
    let ages = Ages::default();
    let seen = Arc::clone(&ages);
    let twin = Twin::start(&place.pool, amqp, move |order| note(&seen, order)).await?;
    let go_on = Arc::new(AtomicBool::new(false));
    let done = load::paced(rate, time, go_on, |n| twin.transaction(n, 1)).await?;
    all_seen(&ages, done.count).await?;
    ours::emptied(&place.pool).await?;
    twin.stop().await;
    Ok(sorted(&ages))
}

/// Publishes and consumes without a database, at the same rate.
async fn raw_ages(amqp: &str, rate: f64, time: Duration) -> Result<Vec<f64>> {
    let connection = hand::connect(amqp).await?;
    let incoming = hand::connect(amqp).await?;
    hand::declare(&connection.create_channel().await?, "raw", "raw").await?;
    let ages = Ages::default();
    let seen = Arc::clone(&ages);
    let consumer = tokio::spawn(async move {
        let consumed = hand::consume_forever(&incoming, "raw", |order| {
            note(&seen, &order);
            true
        });
        consumed.await
    });
    let publisher = Arc::new(tokio::sync::Mutex::new(Publisher::open(&connection).await?));
    let go_on = Arc::new(AtomicBool::new(false));
    let done = load::paced(rate, time, go_on, |n| {
        let publisher = Arc::clone(&publisher);
        async move {
            let order = Order::new(n);
            let mut publisher = publisher.lock().await;
            let id = uuid::Uuid::now_v7();
            publisher.send(("raw", ""), id, &order.encode()?).await?;
            if publisher.waiting() > hand::WINDOW {
                publisher.confirmed().await?;
            }
            Ok(())
        }
    })
    .await?;
    all_seen(&ages, done.count).await?;
    consumer.abort();
    let _ = consumer.await;
    Ok(sorted(&ages))
}

/// The business transaction alone, at the same rate: from before its COMMIT to its answer.
async fn commits<DB: Db>(place: &Place<DB>, rate: f64, time: Duration) -> Result<Vec<f64>> {
    let ages = Ages::default();
    let go_on = Arc::new(AtomicBool::new(false));
    load::paced(rate, time, go_on, |n| {
        let (pool, ages) = (place.pool.clone(), Arc::clone(&ages));
        async move {
            let mut tx = DB::open(&pool).await?;
            DB::insert_order(&mut tx, n).await?;
            let order = Order::new(n);
            DB::commit(tx).await?;
            note(&ages, &order);
            Ok(())
        }
    })
    .await?;
    Ok(sorted(&ages))
}

fn note(ages: &Ages, order: &Order) {
    let mut ages = ages.lock().unwrap_or_else(PoisonError::into_inner);
    ages.push(order.age_ms());
}

async fn all_seen(ages: &Ages, count: u64) -> Result<()> {
    let seen = || ages.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
    load::until("for the last messages", async || Ok(seen() >= count)).await
}

fn sorted(ages: &Ages) -> Vec<f64> {
    let mut ages = ages.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ages.sort_by(f64::total_cmp);
    ages
}
