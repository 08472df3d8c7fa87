//! A broker of one's own: a directory that processes share, one file for each message.
//!
//! ```sh
//! cargo run --example own_broker
//! ```
//!
//! It prints what happens to three messages between processes: one is taken by a process that is
//! killed, and comes again; one fails, is a dead letter, and is replayed; one has no subscriber yet, and
//! waits in the outbox. It exits with 0 only if everything it prints really happened.
//!
//! The broker is in `own_broker/directory.rs`, and uses nothing but what `final_core` has made public.

#[path = "own_broker/directory.rs"]
mod directory;

use std::{
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use final_core::{
    BoxError, Bus, HandlerError, Options, Payload, Router, SqliteBus, State,
    broker::{DeadLetterFilter, DeadLetters},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    sync::mpsc,
};

use crate::directory::DirectoryBroker;

static MAILS_WORK: AtomicBool = AtomicBool::new(false);

async fn bus(service: &str, broker: &DirectoryBroker) -> Result<SqliteBus, BoxError> {
    let pool = sqlx::SqlitePool::connect("sqlite::memory:").await?;
    let options = Options::default().retry_count(0);
    Ok(Bus::new(service, pool, broker.clone()).with_options(options))
}

async fn send_mail(
    State(sent): State<mpsc::UnboundedSender<i64>>,
    Payload(order): Payload<i64>,
) -> Result<(), HandlerError> {
    if order == 2 && !MAILS_WORK.load(Ordering::Relaxed) {
        return Err("the mail server is away".into());
    }
    let _ = sent.send(order);
    Ok(())
}

/// Another process: it takes a message and never finishes it.
async fn hang(broker: DirectoryBroker) -> Result<(), BoxError> {
    let bus = bus("mails", &broker).await?;
    let router = Router::new().route("order.placed", async |Payload(order): Payload<i64>| {
        println!("{order}");
        std::future::pending::<()>().await;
    });
    bus.start(router).await?;
    println!("started");
    std::future::pending().await
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    if let Some(directory) = std::env::args_os().nth(1) {
        return hang(DirectoryBroker::new(directory)).await;
    }
    let directory = std::env::temp_dir().join(format!("own-broker-{}", std::process::id()));
    let finished = show(&directory);
    let result = tokio::time::timeout(Duration::from_secs(60), finished).await;
    let _ = std::fs::remove_dir_all(&directory);
    result?
}

async fn show(directory: &std::path::Path) -> Result<(), BoxError> {
    let broker = DirectoryBroker::new(directory);
    let mut other = Command::new(std::env::current_exe()?)
        .arg(directory)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = other.stdout.take().ok_or("no stdout")?;
    let mut told = BufReader::new(stdout).lines();
    assert_eq!(told.next_line().await?.as_deref(), Some("started"));

    let shop = bus("shop", &broker).await?;
    shop.start(Router::new()).await?;
    shop.publish("order.placed", &1_i64).await?;
    assert_eq!(told.next_line().await?.as_deref(), Some("1"));
    other.kill().await?;
    println!("order 1 was taken by a process that has been killed");

    let (sent, mut mails_sent) = mpsc::unbounded_channel();
    let mails = bus("mails", &broker).await?;
    let router = Router::new().route("order.placed", send_mail);
    mails.start(router.with_state(sent)).await?;
    assert_eq!(mails_sent.recv().await, Some(1));
    println!("order 1 came again, and was handled");

    shop.publish("order.placed", &2_i64).await?;
    let all = DeadLetterFilter::all();
    let dead = loop {
        if let [letter] = &broker.list("mails", &all).await?[..] {
            break letter.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    println!("order 2 is a dead letter: {}", dead.reason);
    MAILS_WORK.store(true, Ordering::Relaxed);
    assert_eq!(broker.replay("mails", &all.reason("away")).await?, 1);
    assert_eq!(mails_sent.recv().await, Some(2));
    println!("order 2 was replayed, and was handled");

    shop.publish("order.shipped", &3_i64).await?;
    while shop.stats().await?.unroutable == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("order 3 waits in the outbox: no service subscribes its topic");
    mails.shutdown().await?;
    shop.shutdown().await?;
    Ok(())
}
