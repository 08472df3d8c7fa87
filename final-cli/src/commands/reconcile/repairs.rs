//! `final reconcile repairs`: rows that differ and are not repaired yet.
//!
//! Input: the table of open repairs. Output: rows; repairs that are due at once, or removed.

use std::time::{Duration, Instant};

use clap::{ArgGroup, Args, Subcommand};
use final_reconcile::{OpenRepair, Reconciler};
use serde::Serialize;
use uuid::Uuid;

use super::{file::JobsArgs, state_failed, status::whose};
use crate::{
    ask::ConsentArgs,
    contexts::Context,
    exit::{Exit, Failure},
    output::{Cell, Output, Table, time::shown},
};

/// How many repairs are removed by one look at the table.
const PAGE: u32 = 1_000;

/// See repairs that are not done, try them at once, and close them
#[derive(Debug, Args)]
#[command(after_help = "Example: final reconcile repairs list --config reconcile.toml")]
pub(super) struct RepairsArgs {
    #[command(subcommand)]
    command: RepairsCommand,
}

#[derive(Debug, Subcommand)]
enum RepairsCommand {
    /// List open repairs: of each job those of the file first, the oldest first
    #[command(
        after_help = "Example: final reconcile repairs list --config reconcile.toml --job users"
    )]
    List {
        #[command(flatten)]
        jobs: JobsArgs,

        /// At most so many of each job
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: u32,
    },
    /// Try open repairs at once, once the cause is mended
    #[command(
        override_usage = "final reconcile repairs retry [OPTIONS] <ID...|--all>",
        after_help = "Example: final reconcile repairs retry --config reconcile.toml --all"
    )]
    Retry {
        #[command(flatten)]
        jobs: JobsArgs,

        #[command(flatten)]
        which: WhichArgs,
    },
    /// Close open repairs without doing them; the next comparison opens those whose rows still differ
    #[command(
        override_usage = "final reconcile repairs close [OPTIONS] <ID...|--all>",
        after_help = "Example: final reconcile repairs close --config reconcile.toml 019372d0-5a5e-7c3a-a4bb-0d9c51c0b7a4"
    )]
    Close {
        #[command(flatten)]
        jobs: JobsArgs,

        #[command(flatten)]
        which: WhichArgs,

        #[command(flatten)]
        consent: ConsentArgs,
    },
}

/// Which repairs are meant.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["ids", "all"])))]
struct WhichArgs {
    /// The ids of the repairs, as `list` shows them
    #[arg(value_name = "ID")]
    ids: Vec<Uuid>,

    /// All open repairs of the sources and targets that the file has; others only by id
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct RepairView<'a> {
    job: &'a str,
    id: String,
    source: &'a str,
    target: &'a str,
    is_of_job: bool,
    is_of_another: bool,
    key: &'a [(String, String)],
    /// `kind` is that of the line.
    difference: String,
    columns: &'a [String],
    attempts: u64,
    last_error: Option<&'a str>,
    waits_for_mirror: bool,
    due_in_ms: u64,
    age_ms: u64,
}

impl RepairsArgs {
    pub(super) async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self.command {
            RepairsCommand::List { jobs, limit } => list(&jobs, limit, out).await,
            RepairsCommand::Retry { jobs, which } => retry(&jobs, &which).await,
            RepairsCommand::Close {
                jobs,
                which,
                consent,
            } => close(&jobs, &which, consent).await,
        }
    }
}

async fn list(jobs: &JobsArgs, limit: u32, out: &mut Output) -> Result<Exit, Failure> {
    let (reconciler, names) = jobs.reconciler_of_any().await?;
    let mut all = Vec::new();
    for name in &names {
        let repairs = reconciler.repairs(name, limit).await;
        let repairs = repairs.map_err(|error| state_failed(name, &error))?;
        all.extend(repairs.into_iter().map(|repair| (name.as_str(), repair)));
    }
    if all.is_empty() {
        eprintln!("no repair is open");
        return Ok(Exit::NothingMatched);
    }
    if out.is_json() {
        for (job, repair) in &all {
            let view = RepairView {
                job,
                id: repair.id.to_string(),
                source: &repair.source,
                target: &repair.target,
                is_of_job: repair.is_of_job,
                is_of_another: repair.is_of_another,
                key: &repair.key,
                difference: repair.kind.to_string(),
                columns: &repair.columns,
                attempts: repair.attempts,
                last_error: repair.last_error.as_deref(),
                waits_for_mirror: repair.waits_for_mirror,
                due_in_ms: repair.due_in_ms,
                age_ms: repair.age_ms,
            };
            out.json("repair", &view)?;
        }
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        "!id", "job", "target", "key", "kind", "columns", ">tries", ">due", ">age", "error",
    ]);
    for (job, repair) in &all {
        let time = |ms: u64| shown(Duration::from_millis(ms));
        table.row([
            repair.id.to_string().into(),
            (*job).into(),
            repair.target.as_str().into(),
            key(repair).into(),
            repair.kind.to_string().into(),
            repair.columns.join(", ").into(),
            repair.attempts.to_string().into(),
            time(repair.due_in_ms).into(),
            time(repair.age_ms).into(),
            Cell::new(error(repair)).bad(true),
        ]);
    }
    out.table(&table)?;
    Ok(Exit::Done)
}

/// The key of the row.
fn key(repair: &OpenRepair) -> String {
    let columns = repair.key.iter();
    let columns: Vec<String> = columns
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    columns.join(", ")
}

/// Why the repair is not done, and whose it is if not of the file.
fn error(repair: &OpenRepair) -> String {
    let whose = (!repair.is_of_job).then(|| whose(repair.is_of_another));
    let waits = repair
        .waits_for_mirror
        .then_some("done, and waits for the mirror");
    let parts: Vec<&str> = [whose, waits, repair.last_error.as_deref()]
        .into_iter()
        .flatten()
        .collect();
    parts.join(": ")
}

async fn retry(jobs: &JobsArgs, which: &WhichArgs) -> Result<Exit, Failure> {
    let (reconciler, names) = jobs.reconciler()?;
    let mut count = 0;
    for name in &names {
        let ids: Vec<Option<Uuid>> = match which.all {
            true => vec![None],
            false => which.ids.iter().copied().map(Some).collect(),
        };
        for id in ids {
            let retried = reconciler.retry(name, id).await;
            count += retried.map_err(|error| state_failed(name, &error))?;
        }
    }
    Ok(done(count, which, "due now"))
}

async fn close(jobs: &JobsArgs, which: &WhichArgs, consent: ConsentArgs) -> Result<Exit, Failure> {
    let (reconciler, names) = jobs.reconciler_of_any().await?;
    let asked = Instant::now();
    let question = match which.all {
        true => format!(
            "close all open repairs of {}, for the sources and targets that the file has?",
            names.join(", ")
        ),
        false => format!("close {} repair(s)?", which.ids.len()),
    };
    if !consent.ask(&Context::default(), &question)? {
        return Ok(Exit::NotConfirmed);
    }
    let mut count = 0;
    for name in &names {
        match which.all {
            true => count += close_all(&reconciler, name, asked).await?,
            false => count += close_these(&reconciler, name, &which.ids).await?,
        }
    }
    Ok(done(count, which, "closed"))
}

/// Closes what is of the file and was open when somebody asked for it. What is opened meanwhile stays, so there is an end
/// although a service opens more all the time.
async fn close_all(reconciler: &Reconciler, job: &str, asked: Instant) -> Result<u64, Failure> {
    let mut count = 0;
    loop {
        let since = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        let page = reconciler.repairs(job, PAGE).await;
        let page = page.map_err(|error| state_failed(job, &error))?;
        // Those of the file come first, and the oldest of them.
        let ours = page.iter().filter(|repair| repair.is_of_job);
        let before = ours.filter(|repair| repair.age_ms >= since);
        let ids: Vec<Uuid> = before.map(|repair| repair.id).collect();
        let closed = close_these(reconciler, job, &ids).await?;
        count += closed;
        if ids.len() < PAGE as usize || closed == 0 {
            return Ok(count);
        }
    }
}

async fn close_these(reconciler: &Reconciler, job: &str, ids: &[Uuid]) -> Result<u64, Failure> {
    let mut count = 0;
    for id in ids {
        let closed = reconciler.close(job, *id).await;
        count += u64::from(closed.map_err(|error| state_failed(job, &error))?);
    }
    Ok(count)
}

/// Shows how many repairs were changed. The exit code tells if an id has no open repair.
fn done(count: u64, which: &WhichArgs, what: &str) -> Exit {
    eprintln!("{count} repair(s) {what}");
    match count {
        0 => Exit::NothingMatched,
        count if !which.all && count < which.ids.len() as u64 => Exit::NothingMatched,
        _ => Exit::Done,
    }
}
