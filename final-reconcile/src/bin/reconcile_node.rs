//! A reconciler as a process of its own, for tests that kill and freeze it.
//!
//! Input: `--name value` arguments. Output: rows that its scans find are repaired. Beside them it compares both tables again
//! and again: a line `begins` before each comparison, and a line `compared` with the comparison as JSON, or a line `failed`,
//! after it. It ends at SIGTERM.

use std::{collections::HashMap, error::Error, time::Duration};

use final_reconcile::{Heartbeat, Job, Reconciler, Repair, Side, Sweep};
use final_webhook::{Caller, Endpoint};
use sqlx::{MySqlPool, PgPool};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

type Anything = Box<dyn Error + Send + Sync>;

/// The rest between two comparisons, and between two tries.
const REST: Duration = Duration::from_millis(200);

struct Arguments(HashMap<String, String>);

impl Arguments {
    fn read() -> Result<Self, Anything> {
        let (mut all, mut words) = (HashMap::new(), std::env::args().skip(1));
        while let Some(name) = words.next() {
            let value = words.next().ok_or(format!("{name} has no value"))?;
            all.insert(name, value);
        }
        Ok(Self(all))
    }

    fn text(&self, name: &str) -> Result<&str, Anything> {
        let value = self.0.get(name).ok_or(format!("{name} is missing"))?;
        Ok(value)
    }

    fn time(&self, name: &str) -> Result<Duration, Anything> {
        Ok(Duration::from_millis(self.text(name)?.parse()?))
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Anything> {
    // What is written last before a kill may be half a line.
    println!();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::WARN)
        .init();
    let arguments = Arguments::read()?;
    let (reconciler, job) = (reconciler(&arguments)?, job(&arguments)?);
    let mut stop = signal(SignalKind::terminate())?;
    while let Err(error) = reconciler.migrate().await {
        println!("failed {error}");
        tokio::select! {
            () = sleep(REST) => {}
            _ = stop.recv() => return Ok(()),
        }
    }
    let running = reconciler.start()?;
    tokio::select! {
        never = compare(&job) => match never? {},
        _ = stop.recv() => {}
    }
    running.shutdown().await;
    Ok(())
}

/// Compares again and again, whatever comes of it.
async fn compare(job: &Job) -> Result<std::convert::Infallible, Anything> {
    loop {
        println!("begins");
        match job.compare().await {
            Ok(comparisons) => {
                for comparison in comparisons {
                    println!("compared {}", serde_json::to_string(&comparison)?);
                }
            }
            Err(error) => println!("failed {error}: {:?}", error.source()),
        }
        sleep(REST).await;
    }
}

fn reconciler(arguments: &Arguments) -> Result<Reconciler, Anything> {
    let endpoint = Endpoint::new(arguments.text("--endpoint")?)?
        .allow_private(true)
        .timeout(arguments.time("--call-ms")?);
    let lease = arguments.time("--lease-ms")?;
    let every = arguments.time("--settle-ms")?.max(Duration::from_secs(1));
    let repair = Repair::callback(endpoint)
        .extras(true)
        .lease(lease)
        .pace(Duration::from_millis(200), Duration::from_secs(1));
    let mut job = job(arguments)?
        .fresh_ids(Duration::from_millis(500))
        .sweep(Sweep::every(every))
        .repair(repair)
        .max_repairs(100_000);
    if let Some(column) = arguments.0.get("--updated-by") {
        job = job.updated(column, Duration::from_millis(500), Duration::from_secs(5));
    }
    let caller = Caller::builder()
        .failures(3)
        .pauses(Duration::from_millis(200), Duration::from_secs(1))
        .build()?;
    let state = arguments.text("--state")?;
    let reconciler = match state.starts_with("postgres") {
        true => Reconciler::new(&PgPool::connect_lazy(state)?),
        false => Reconciler::new(&MySqlPool::connect_lazy(state)?),
    };
    Ok(reconciler.lease(lease).caller(caller).job(job)?)
}

/// What is compared. The source alone has the time of each change.
fn job(arguments: &Arguments) -> Result<Job, Anything> {
    let updated_by = arguments.0.get("--updated-by").cloned();
    let heartbeat = arguments.0.get("--heartbeat");
    // A run has lags of any length, and faults beside them.
    let heartbeat = heartbeat.map(|table| Heartbeat::table(table).limit(Duration::from_secs(300)));
    Ok(Job::new("goods")
        .source(side(arguments.text("--source")?)?)
        .target(side(arguments.text("--target")?)?, |map| {
            let map = map.except(updated_by);
            heartbeat
                .into_iter()
                .fold(map, |map, heartbeat| map.heartbeat(heartbeat))
        })
        .settle(arguments.time("--settle-ms")?)
        .examples(100_000))
}

fn side(url: &str) -> Result<Side, Anything> {
    Ok(match url.starts_with("postgres") {
        true => Side::postgres(PgPool::connect_lazy(url)?, "goods"),
        false => Side::mysql(MySqlPool::connect_lazy(url)?, "goods"),
    })
}
