//! The most memory that a reader takes for one large transaction, in a process of its own.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    time::Duration,
};

use final_capture::target::Target;
use final_core::SqlBroker;
use sqlx::{MySql, Postgres};

use super::{source::CaptureSource, streams};
use crate::{
    Result,
    bench::Bench,
    db::Db,
    load::until,
    process,
    row::{Must, Row},
    sides::OURS,
};

/// The first word of this program's command line in a process that is a reader; then the kind of database, where the
/// source is, and where the log.
pub(crate) const READER: &str = "capture-reader";

const NAME: &str = "memory";

/// That process. It says when it reads, and ends when its input does.
pub(crate) async fn read(words: &[String]) -> Result<()> {
    let [kind, source, log] = words else {
        return Err("a reader is told its database, its source, and its log".into());
    };
    match kind.as_str() {
        "postgres" => read_to::<Postgres>(source, log).await,
        _ => read_to::<MySql>(source, log).await,
    }
}

async fn read_to<DB: Db>(source: &str, log: &str) -> Result<()> {
    let pool = DB::connect(log).await?;
    let target = Target::log(pool.clone(), SqlBroker::new(pool));
    let running = super::source::capture_of(source, NAME)?
        .to(target)
        .start()
        .await?;
    streams(&running).await?;
    println!("reads");
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    ended.await??;
    running.shutdown().await;
    Ok(())
}

pub(super) async fn run<DB: Db>(bench: &mut Bench, source: &CaptureSource) -> Result<()> {
    let rows = bench.count(300_000);
    let place = DB::fresh().await?;
    let reader = Reader::start(source, &place.url).await?;
    source.load(1, rows, u64::MAX).await?;
    let sql = "SELECT count(*) FROM final_log";
    until("for the large transaction", async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(u64::try_from(DB::number(&place.pool, sql).await?)? >= rows)
    })
    .await?;
    let peak = process::most_memory_mib_of(&reader.0.id().to_string())?;
    drop(reader);
    source.forget(NAME).await?;
    source.clear().await?;
    let metric = "MiB at most, a transaction of 300,000 rows";
    let row = Row::alone("capture", OURS, source.label(), metric, &[peak]);
    bench.add([row.must(Must::Below(150.0))]);
    Ok(())
}

/// A reader in another process.
struct Reader(Child);

impl Reader {
    async fn start(source: &CaptureSource, log: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([READER, source.label(), &source.url(), log])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        let reader = Self(child);
        let first = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line).map(|_| line)
        });
        match first.await??.trim() {
            "reads" => Ok(reader),
            _ => Err("the reader did not begin; see its error above".into()),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
