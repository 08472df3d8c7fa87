//! FastStream with SQLAlchemy: Python, in a process of its own; see `python/jobs.py`.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    sync::OnceCell,
};

use crate::{
    Result,
    contest::{Contest, Job, Size},
    payload::Order,
    place::Place,
    rabbit::{QUEUE, Rabbit, persistent},
};

const PEER: &str = "FastStream 0.7.8";
/// Where it only stands in for a URL that the job does not need.
const NONE: &str = "-";

pub(super) fn contests() -> Vec<Contest> {
    let contest = |job, play| Contest {
        job,
        peer: PEER,
        play,
    };
    vec![
        contest(Job::Tx, |size| Box::pin(tx(size))),
        contest(Job::Relay, |size| Box::pin(relay(size))),
        contest(Job::Consume, |size| Box::pin(consume(size))),
    ]
}

/// What the process says it did.
#[derive(Debug, Deserialize)]
struct Done {
    count: u64,
    /// By its own clock, from when it was told to begin.
    seconds: f64,
}

async fn tx(size: Size) -> Result<f64> {
    let place = Place::new().await?;
    let seconds = size.time.as_secs_f64();
    let done = job("tx", &sqlalchemy(&place), NONE, seconds).await?;
    place.has(done.count, "orders").await?;
    place.has(done.count, "outbox").await?;
    place.remove().await?;
    Ok(done.count as f64 / done.seconds)
}

async fn relay(size: Size) -> Result<f64> {
    let (place, rabbit) = (Place::new().await?, Rabbit::new().await?);
    rabbit.declare(QUEUE).await?;
    let (database, messages) = (sqlalchemy(&place), size.messages as f64);
    job("fill", &database, NONE, messages).await?;
    place.has(size.messages, "outbox").await?;
    let done = job("relay", &database, rabbit.url(), messages).await?;
    place.has(0, "outbox").await?;
    rabbit.had(size.messages, QUEUE).await?;
    place.remove().await?;
    Ok(done.count as f64 / done.seconds)
}

async fn consume(size: Size) -> Result<f64> {
    let rabbit = Rabbit::new().await?;
    rabbit.declare(QUEUE).await?;
    let body = serde_json::to_vec(&Order::new(1))?;
    let properties = persistent("application/json");
    rabbit
        .fill(QUEUE, &properties, &body, size.messages)
        .await?;
    let done = job("consume", NONE, rabbit.url(), size.messages as f64).await?;
    rabbit.is_empty(QUEUE).await?;
    Ok(done.count as f64 / done.seconds)
}

/// Starts the process, and has it begin when its interpreter and its imports are loaded.
async fn job(name: &str, database: &str, rabbitmq: &str, number: f64) -> Result<Done> {
    let mut child = Command::new(python().await?)
        .arg(here().join("jobs.py"))
        .args([name, database, rabbitmq, &number.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout) = (child.stdin.as_mut(), child.stdout.take());
    let mut lines = BufReader::new(stdout.ok_or("no output")?).lines();
    lines.next_line().await?.ok_or("it did not get ready")?;
    stdin.ok_or("no input")?.write_all(b"go\n").await?;
    let done = lines.next_line().await?.ok_or("it said nothing")?;
    let status = child.wait().await?;
    if !status.success() {
        return Err(format!("the process ended with {status}").into());
    }
    Ok(serde_json::from_str(&done)?)
}

/// Where the database is, in its words.
fn sqlalchemy(place: &Place) -> String {
    let (_, rest) = place.url.split_once("://").unwrap_or_default();
    format!("postgresql+asyncpg://{rest}")
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// The interpreter of a virtual environment beside our own binary, made when first asked for.
async fn python() -> Result<&'static Path> {
    static PYTHON: OnceCell<PathBuf> = OnceCell::const_new();
    let made = PYTHON.get_or_try_init(async || {
        let program = std::env::current_exe()?;
        let folder = program.parent().and_then(Path::parent);
        let folder = folder
            .ok_or("our binary is in no folder")?
            .join("peers-python");
        let python = folder.join("bin/python");
        if !python.exists() {
            ran(Command::new("python3").args(["-m", "venv"]).arg(&folder)).await?;
        }
        let install = ["-m", "pip", "install", "--quiet", "--requirement"];
        let requirements = here().join("requirements.txt");
        ran(Command::new(&python).args(install).arg(requirements)).await?;
        Ok::<_, crate::BoxError>(python)
    });
    Ok(made.await?)
}

async fn ran(command: &mut Command) -> Result<()> {
    // What it prints is not a result.
    let status = command.stdout(Stdio::null()).status().await?;
    if !status.success() {
        return Err(format!("{command:?} ended with {status}").into());
    }
    Ok(())
}
