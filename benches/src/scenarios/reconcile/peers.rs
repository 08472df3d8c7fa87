//! Other programs on the same tables. One that is not there is left out, in one line.

use std::{
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use tokio::{process::Command, time::timeout};

use super::{
    NAME,
    tables::{Server, TABLE, Table},
};
use crate::{Result, bench::Bench, row::Row};

/// How long each may take.
const MOST: Duration = Duration::from_secs(30 * 60);

/// Where data-diff is; `cargo xtask bench` installs it and says so.
const DATA_DIFF: &str = "FINAL_BENCH_DATA_DIFF";

pub(super) async fn run(bench: &mut Bench, postgres: &[Table], mariadb: &[Table]) -> Result<()> {
    if let ([source, ..], [target, ..]) = (postgres, mariadb) {
        data_diff(bench, "both", source, target).await?;
    }
    if let [source, target] = postgres {
        data_diff(bench, "postgres", source, target).await?;
    }
    if let [source, target] = mariadb {
        data_diff(bench, "mariadb", source, target).await?;
        checksum(bench, source).await?;
    }
    Ok(())
}

/// data-diff, with the columns that we compare.
async fn data_diff(
    bench: &mut Bench,
    db: &'static str,
    source: &Table,
    target: &Table,
) -> Result<()> {
    let program = std::env::var(DATA_DIFF).unwrap_or_else(|_| "data-diff".into());
    let mut command = Command::new(program);
    for table in [source, target] {
        let url = table.url().replacen("postgres://", "postgresql://", 1);
        // It wants a password in the URL. PostgreSQL of the tests takes any, and MariaDB the empty one.
        let password = if url.starts_with("mysql") {
            ":@"
        } else {
            ":none@"
        };
        let url = match url.matches(':').count() {
            0..=2 => url.replacen('@', password, 1),
            _ => url,
        };
        command.args([url.as_str(), TABLE]);
    }
    command.args(["-k", "id"]);
    for column in ["customer", "total", "placed", "note"] {
        command.args(["-c", column]);
    }
    // It writes a line for each row that differs, which begins with a sign, and warnings into the same place.
    told(bench, "data-diff", db, source.rows, command, |output| {
        let text = String::from_utf8_lossy(&output.stdout);
        let differs = |line: &str| line.starts_with("+ ") || line.starts_with("- ");
        output.status.success() && !text.lines().any(differs)
    })
    .await
}

/// pt-table-checksum, which leaves the checksums of one table in another table. Replication carries them to the copy,
/// where they are made again; so its time is that of one side.
async fn checksum(bench: &mut Bench, table: &Table) -> Result<()> {
    let Server::MariaDb(place) = &table.place else {
        return Ok(());
    };
    let options = place.pool.connect_options();
    let database = options.get_database().unwrap_or_default();
    let mut command = Command::new("pt-table-checksum");
    command.args([
        "--no-version-check",
        "--recursion-method=none",
        "--no-check-binlog-format",
    ]);
    command.args(["--no-check-replication-filters", "--create-replicate-table"]);
    command.arg(format!("--replicate={database}.checksums"));
    command.args([
        format!("--databases={database}"),
        format!("--tables={TABLE}"),
    ]);
    command.arg(format!(
        "h={},P={},u={}",
        options.get_host(),
        options.get_port(),
        options.get_username()
    ));
    let rows = table.rows;
    told(
        bench,
        "pt-table-checksum",
        "mariadb",
        rows,
        command,
        |output| output.status.success(),
    )
    .await
}

/// Runs a program and tells how fast it was, or in one line why there is no result.
async fn told(
    bench: &mut Bench,
    side: &'static str,
    db: &'static str,
    rows: u64,
    mut command: Command,
    is_right: impl Fn(&Output) -> bool,
) -> Result<()> {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let why = match timeout(MOST, output).await {
        Ok(Ok(output)) if is_right(&output) => {
            let speed = rows as f64 / begun.elapsed().as_secs_f64();
            let metric = format!("rows/s, {rows} equal");
            bench.add([Row::alone(NAME, side, db, metric, &[speed])]);
            return Ok(());
        }
        Ok(Ok(output)) => {
            let [out, error] = [&output.stdout, &output.stderr]
                .map(|text| String::from_utf8_lossy(text).into_owned());
            let last = error
                .lines()
                .chain(out.lines())
                .rfind(|line| !line.trim().is_empty());
            format!("{}: {}", output.status, last.unwrap_or("no word"))
        }
        Ok(Err(error)) => format!("it cannot be run: {error}"),
        Err(_) => format!("not at its end after {} minutes", MOST.as_secs() / 60),
    };
    bench.say(&format!("  {side} on {db} is left out: {why}"));
    Ok(())
}
