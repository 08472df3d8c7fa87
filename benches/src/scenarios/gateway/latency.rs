//! What the gateway adds to a COMMIT, at 1,000 messages a second.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::Mutex;
use uuid::Uuid;

use super::{TOPIC, VALUE, gateway, publishers, set};
use crate::{
    Result,
    bench::Bench,
    db::{Db, Place},
    load::{self, quantile},
    row::{Must, Row},
    sides::OURS,
};

const CLIENTS: usize = 32;

pub(super) async fn run<DB: Db>(bench: &mut Bench, place: &Place<DB>) -> Result<()> {
    let (running, address) = gateway(&place.pool).await?;
    let (mut through, mut bare, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds(5) {
        let clients = publishers(address, CLIENTS).await?;
        let clients: Arc<[Mutex<_>]> = clients.into_iter().map(Mutex::new).collect();
        let (next, command) = (Arc::new(AtomicUsize::new(0)), Arc::new(set()));
        let never = || Arc::new(AtomicBool::new(false));
        let time = bench.time(5.0);
        let done = load::paced(1_000.0, time, never(), |_| {
            let (clients, command) = (Arc::clone(&clients), Arc::clone(&command));
            let at = next.fetch_add(1, Relaxed) % CLIENTS;
            async move {
                let mut client = clients.get(at).ok_or("no client")?.lock().await;
                client.send(&command).await?;
                client.ok(1).await
            }
        })
        .await?;
        let ours = quantile(&done.latencies, 990);
        let done = load::paced(1_000.0, time, never(), |_| {
            let pool = place.pool.clone();
            async move {
                let mut conn = pool.acquire().await?;
                DB::insert_log(&mut conn, Uuid::now_v7(), TOPIC, VALUE).await
            }
        })
        .await?;
        let other = quantile(&done.latencies, 990);
        through.push(ours);
        bare.push(other);
        added.push(ours - other);
    }
    running.shutdown().await;
    let row =
        |side, metric: &str, values: &[f64]| Row::alone("gateway", side, DB::LABEL, metric, values);
    bench.add([
        row(OURS, "p99 ms at 1,000/s", &through),
        row("one COMMIT each", "p99 ms at 1,000/s", &bare),
        row(OURS, "p99 ms added at 1,000/s", &added).must(Must::Below(5.0)),
    ]);
    Ok(())
}
