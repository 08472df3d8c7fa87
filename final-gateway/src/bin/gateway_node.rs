//! A gateway as a process of its own, for tests that kill and freeze it.
//!
//! Input: `--name value` arguments. Output: one line with its addresses once clients can come; it ends at SIGTERM.

use std::{collections::HashMap, error::Error, time::Duration};

use final_core::{OutboxDatabase, SqlBroker};
use final_gateway::{Engine, Gateway, Limits, Listen};
use sqlx::Pool;
use tokio::signal::unix::{SignalKind, signal};

type Anything = Box<dyn Error + Send + Sync>;

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

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Anything> {
        Ok(self.text(name).map(str::parse).transpose()?)
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Anything> {
    let arguments = Arguments::read()?;
    let url = arguments
        .text("--database")
        .ok_or("--database is missing")?;
    let engine = match url.split(':').next().unwrap_or_default() {
        "postgres" => engine(Pool::<sqlx::Postgres>::connect_lazy(url)?),
        "sqlite" => engine(Pool::<sqlx::Sqlite>::connect_lazy(url)?),
        _ => engine(Pool::<sqlx::MySql>::connect_lazy(url)?),
    };
    let mut limits = Limits::default();
    if let Some(seconds) = arguments.number("--visibility")? {
        limits.visibility = Duration::from_secs(seconds);
    }
    if let Some(times) = arguments.number("--max-deliveries")? {
        limits.max_deliveries = u32::try_from(times)?;
    }
    let mut gateway = Gateway::new("edge", engine).limits(limits);
    if let Some(node) = arguments.text("--node") {
        gateway = gateway.node(node);
    }
    let address = |name| Listen::at(arguments.text(name).unwrap_or("127.0.0.1:0"));
    let gateway = gateway.resp(address("--resp")).http(address("--http"));

    let mut stop = signal(SignalKind::terminate())?;
    let start = gateway.start();
    let running = tokio::select! {
        running = start => running?,
        _ = stop.recv() => return Ok(()),
    };
    let addresses = running.addresses();
    println!("{addresses:?}");
    tokio::select! {
        _ = stop.recv() => running.shutdown().await,
        why = running.died() => return Err(why.into()),
    }
    Ok(())
}

fn engine<DB: OutboxDatabase>(pool: Pool<DB>) -> Engine {
    let log = SqlBroker::new(pool.clone()).poll_interval(Duration::from_millis(200));
    Engine::log(pool, log)
}
