//! A table of MariaDB, mirrored into PostgreSQL by its changes.
//!
//! ```sh
//! cargo run --features mirror --example mirror
//! ```
//!
//! ```text
//!   MariaDB ─ binary log ─▶ capture ─ one transaction ─▶ the log in PostgreSQL ─▶ handler ─▶ the copy
//!      ▲                                                                                        ▲
//!      └───────────────────────────────────── reconciler ───────────────────────────────────────┘
//! ```
//!
//! It starts a MariaDB of its own and uses a fresh database of PostgreSQL: both servers have to be installed. While
//! transactions commit and roll back, the capture is cut off twice and goes on where it was. In the end a reconciler proves
//! that both tables agree, and finds what a hand then changes in the copy. It exits with 0 only if it does, and if no
//! change came twice.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use final_capture::{
    Capture, Change, RunningCapture, select::Selection, source::mysql::MySqlSource, target::Target,
};
use final_core::{BoxError, Bus, PgBus, Router, SqlBroker, State, subscribe};
use final_reconcile::{Comparison, Job, Side};
use final_tests::servers::{MariaDb, Setup};
use serde::Deserialize;
use sqlx::{MySqlPool, PgPool};

/// How long the mirror may take to have everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A row of the source. The handler names the columns that it wants.
#[derive(Deserialize)]
struct Hole {
    id: i64,
    content: String,
    likes: i64,
}

/// The database of the copy, and how many changes came.
#[derive(Clone)]
struct Copy {
    pool: PgPool,
    changes: Arc<AtomicU64>,
}

/// Brings each change into the copy. A change that fails holds the later ones of its row, so none runs past it.
#[subscribe("cdc.shop.holes")]
async fn mirror(change: Change<Hole>, State(copy): State<Copy>) -> Result<(), sqlx::Error> {
    copy.changes.fetch_add(1, Ordering::Relaxed);
    match change {
        Change::Insert { after } | Change::Read { after } | Change::Update { after, .. } => {
            let put = "INSERT INTO holes_copy VALUES ($1, $2, $3) \
                ON CONFLICT (id) DO UPDATE SET content = $2, likes = $3";
            sqlx::query(put)
                .bind(after.id)
                .bind(after.content)
                .bind(after.likes)
                .execute(&copy.pool)
                .await?;
        }
        Change::Delete { before } => {
            let remove = "DELETE FROM holes_copy WHERE id = $1";
            sqlx::query(remove)
                .bind(before.id)
                .execute(&copy.pool)
                .await?;
        }
        Change::Truncate => {
            sqlx::query("DELETE FROM holes_copy")
                .execute(&copy.pool)
                .await?;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mirror: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), BoxError> {
    println!("Starting MariaDB with a binary log …");
    let args = [
        "--log-bin=mysql-bin",
        "--binlog-format=ROW",
        "--binlog-row-metadata=FULL",
        "--server-id=7",
    ];
    let setup = Setup {
        args: args.map(str::to_owned).to_vec(),
        ..Setup::default()
    };
    let server = MariaDb::start_with(setup).await?;
    let shop = MySqlPool::connect(&server.url()).await?;
    for statement in [
        "CREATE DATABASE shop CHARACTER SET utf8mb4",
        "CREATE TABLE shop.holes (id BIGINT PRIMARY KEY, content VARCHAR(200) NOT NULL, likes INT NOT NULL)",
    ] {
        sqlx::query(statement).execute(&shop).await?;
    }

    let place = final_tests::pg_database().await?;
    let pool = PgPool::connect(&place).await?;
    let table = "CREATE TABLE holes_copy (id bigint PRIMARY KEY, content text NOT NULL, likes bigint NOT NULL)";
    sqlx::query(table).execute(&pool).await?;
    let log = SqlBroker::new(pool.clone()).key_order(true);
    let copy = Copy {
        pool: pool.clone(),
        changes: Arc::default(),
    };
    let bus: PgBus = Bus::new("mirror", pool.clone(), log.clone());
    bus.start(Router::new().subscribe(mirror).with_state(copy.clone()))
        .await?;

    let capture = async || -> Result<RunningCapture, BoxError> {
        let source = MySqlSource::new(&server.url())?;
        let capture = Capture::new("shop", source, Selection::tables(["shop.holes"]))
            .to(Target::log(pool.clone(), log.clone()))
            .lease(Duration::from_secs(1));
        let running = capture.start().await?;
        let mut state = running.state();
        let streams = state.wait_for(|state| state.to_string() == "streaming");
        tokio::time::timeout(PATIENCE, streams).await??;
        Ok(running)
    };
    let running = capture().await?;
    println!("The capture reads. Changing rows:");

    let mut changes = 0;
    for round in 0..300_i64 {
        let mut tx = shop.begin().await?;
        let put = "INSERT INTO shop.holes VALUES (?, ?, 0), (?, 'second of its transaction', 1)";
        let id = round * 2;
        let text = format!("hole {round}, ö and 漢字");
        sqlx::query(put)
            .bind(id)
            .bind(text)
            .bind(id + 1)
            .execute(&mut *tx)
            .await?;
        if round % 10 == 9 {
            // What is rolled back never comes.
            tx.rollback().await?;
            continue;
        }
        changes += 2;
        let like = "UPDATE shop.holes SET likes = likes + 1 WHERE id = ?";
        sqlx::query(like).bind(id).execute(&mut *tx).await?;
        changes += 1;
        if round % 7 == 6 {
            let remove = "DELETE FROM shop.holes WHERE id = ?";
            sqlx::query(remove).bind(id + 1).execute(&mut *tx).await?;
            changes += 1;
        }
        tx.commit().await?;
    }
    println!("  {changes} changes in small transactions");
    // As a process that is killed: nothing is said goodbye to.
    drop(running);
    println!("  the capture is cut off; the rows go on");
    let all = "UPDATE shop.holes SET likes = likes + 100";
    changes += sqlx::query(all).execute(&shop).await?.rows_affected();
    let running = capture().await?;
    println!("  another reader has taken over");
    let more =
        "INSERT INTO shop.holes SELECT 1000 + seq, CONCAT('row ', seq), seq FROM seq_1_to_5000";
    let more = sqlx::query(more).execute(&shop).await?.rows_affected();
    changes += more;
    drop(running);
    let running = capture().await?;
    println!("  {more} changes in one transaction, and the capture was cut off again");

    let begun = Instant::now();
    while copy.changes.load(Ordering::Relaxed) < changes {
        if begun.elapsed() > PATIENCE {
            return Err("not all changes came".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let holes = Job::new("holes")
        .source(Side::mysql(shop.clone(), "shop.holes"))
        .target(Side::postgres(pool.clone(), "holes_copy"), |map| map)
        .settle(Duration::from_millis(500));
    let proved = compare(&holes).await?;
    let stats = running.stats();
    running.shutdown().await;
    bus.shutdown().await?;
    let came = copy.changes.load(Ordering::Relaxed);
    println!("{came} changes came for {changes} that were committed.");
    if let Some(position) = stats.position {
        println!("The capture stands at {position}.");
    }
    if came != changes {
        return Err("a change came twice, or one that was rolled back".into());
    }

    println!("A hand changes two rows of the copy:");
    for statement in [
        "UPDATE holes_copy SET likes = 0 WHERE id = 1001",
        "DELETE FROM holes_copy WHERE id = 1002",
    ] {
        sqlx::query(statement).execute(&pool).await?;
    }
    let damaged = compare(&holes).await?;
    let is_right =
        proved.is_equal() && (damaged.different, damaged.missing, damaged.extra) == (1, 1, 0);
    match is_right {
        true => Ok(()),
        false => Err("the copy is not what it has to be".into()),
    }
}

/// Compares both tables, and prints what came of it.
async fn compare(job: &Job) -> Result<Comparison, BoxError> {
    let comparison = job.compare().await?.remove(0);
    println!("{comparison}");
    for example in &comparison.examples {
        println!("  {example}");
    }
    Ok(comparison)
}
