//! What 10,000 connections take that do nothing. The gateway is in a process of its own, and the clients in another.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use sqlx::{MySql, Postgres, Sqlite};

use super::{dsn, gateway};
use crate::{
    Result,
    bench::Bench,
    db::Db,
    hand::RespClient,
    process,
    row::{Must, Row},
    sides::OURS,
};

/// The first word of this program's command line in a process that is a gateway; then the database, and where it is.
pub(crate) const SERVER: &str = "gateway-server";

/// That process. It ends when its input does.
pub(crate) async fn serve(words: &[String]) -> Result<()> {
    let [db, url] = words else {
        return Err("a gateway is told its database, and where it is".into());
    };
    match db.as_str() {
        <Postgres as Db>::LABEL => serve_on::<Postgres>(url).await,
        <MySql as Db>::LABEL => serve_on::<MySql>(url).await,
        _ => serve_on::<Sqlite>(url).await,
    }
}

async fn serve_on<DB: Db>(url: &str) -> Result<()> {
    let (running, address) = gateway(&DB::connect(url).await?).await?;
    println!("{address}");
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    ended.await??;
    running.shutdown().await;
    Ok(())
}

/// A gateway in another process.
struct Other {
    child: Child,
    address: SocketAddr,
}

impl Other {
    async fn start<DB: Db>(url: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([SERVER, DB::LABEL, url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        let first = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line).map(|_| line)
        });
        let address = first.await??.trim().parse()?;
        Ok(Self { child, address })
    }

    fn memory_mib(&self) -> Result<f64> {
        process::memory_mib_of(&self.child.id().to_string())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) async fn run<DB: Db>(bench: &mut Bench) -> Result<()> {
    let place = DB::fresh().await?;
    let other = Other::start::<DB>(&place.url).await?;
    // What the first connections make once.
    let mut clients = vec![RespClient::with_dsn(other.address, &dsn("pub")).await?];
    let before = other.memory_mib()?;
    let connections = bench.count(10_000);
    for _ in 0..connections {
        clients.push(RespClient::with_dsn(other.address, &dsn("pub")).await?);
    }
    tokio::time::sleep(bench.time(2.0).max(Duration::from_millis(100))).await;
    let after = other.memory_mib()?;
    drop(clients);
    let row = |metric: &str, value: f64| Row::alone("gateway", OURS, DB::LABEL, metric, &[value]);
    bench.add([
        row("MiB with 10,000 idle connections", after).must(Must::Below(300.0)),
        row(
            "KiB for each of them",
            (after - before) * 1_024.0 / connections as f64,
        )
        .must(Must::Below(20.0)),
    ]);
    Ok(())
}
