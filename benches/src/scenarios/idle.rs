//! What a bus costs that has nothing to do.

use std::time::Duration;

use sqlx::{MySql, Postgres};

use super::ours;
use crate::{
    Result,
    bench::Bench,
    db::Db,
    process,
    row::{Must, Row},
    wire::{Protocol, Wire},
};

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    on::<Postgres>(bench, Protocol::Postgres).await?;
    on::<MySql>(bench, Protocol::MySql).await
}

async fn on<DB: Db>(bench: &mut Bench, protocol: Protocol) -> Result<()> {
    if !bench.wants::<DB>() {
        return Ok(());
    }
    for instances in [1, 10] {
        let place = DB::fresh().await?;
        let vhost = final_tests::amqp_vhost().await?;
        let wire = Wire::to(&place.url, protocol).await?;
        let mut buses = Vec::new();
        for _ in 0..instances {
            let pool = DB::connect(&wire.url(&place.url)?).await?;
            let bus = ours::bus(&pool, vhost.url()).await?;
            bus.start(ours::counting(|_| ()).0).await?;
            buses.push(bus);
        }
        // What starting has left to do.
        tokio::time::sleep(bench.time(5.0)).await;
        let (before, cpu) = (wire.counts().statements, process::cpu_seconds()?);
        let time = bench.time(60.0).max(Duration::from_secs(1));
        tokio::time::sleep(time).await;
        let share = |total: f64| total / time.as_secs_f64() / f64::from(instances);
        let statements = share((wire.counts().statements - before) as f64);
        let cpu = share(process::cpu_seconds()? - cpu) * 100.0;
        for bus in buses {
            bus.shutdown().await?;
        }
        let row = |what: &str, value: f64| {
            let metric = format!("{what} per instance, of {instances}");
            Row::alone("idle", "ours", DB::LABEL, metric, &[value]).must(Must::Below(0.2))
        };
        bench.add([row("statements/s", statements), row("% of a core", cpu)]);
    }
    Ok(())
}
