//! `final reconcile forget`: removes what is left of a source or target that a job does not have any more.
//!
//! Input: the tables of the state. Output: rows that say what there is; after a yes it is gone.

use std::time::Duration;

use clap::Args;
use final_reconcile::Leftover;
use serde::Serialize;

use super::{
    file::{FileArgs, JobsArgs},
    state_failed,
    status::whose,
};
use crate::{
    ask::ConsentArgs,
    contexts::Context,
    exit::{Exit, Failure},
    output::{Cell, Output, Table, time::shown},
};

/// How long another file may be away for a restart.
const RECENT: Duration = Duration::from_secs(60 * 60);

/// Remove what is left of a source or target that a job does not have any more
///
/// Shows it first: positions of scans, rows that wait for a look, runs, open repairs and alerts. What a process runs now, by
/// another file with the same state, stays. So does what ran within the last hour. Another file that is stopped for longer
/// looks like a leftover: look at the sources, the targets and the times before you agree.
#[derive(Debug, Args)]
#[command(after_help = "Example: final reconcile forget --config reconcile.toml users")]
pub(super) struct ForgetArgs {
    #[command(flatten)]
    file: FileArgs,

    /// The job; also one that the file does not have any more
    #[arg(value_name = "JOB")]
    job: String,

    /// Only this source, as the list has it
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// Only this target, as the list has it
    #[arg(long, value_name = "NAME")]
    target: Option<String>,

    /// Also what ran within the last hour
    #[arg(long)]
    even_recent: bool,

    #[command(flatten)]
    consent: ConsentArgs,
}

#[derive(Serialize)]
struct LeftoverView<'a> {
    #[serde(flatten)]
    left: &'a Leftover,
    is_forgotten: bool,
}

impl ForgetArgs {
    pub(super) async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let job = self.job.as_str();
        let jobs = JobsArgs::one(self.file.clone(), job.to_owned());
        let (reconciler, _) = jobs.reconciler_of_any().await?;
        let found = reconciler.leftovers(job).await;
        let mut found = found.map_err(|error| state_failed(job, &error))?;
        let is_meant = |wanted: &Option<String>, name: &String| {
            wanted.as_ref().is_none_or(|wanted| wanted == name)
        };
        found.retain(|left| {
            is_meant(&self.source, &left.source) && is_meant(&self.target, &left.target)
        });
        if found.is_empty() {
            eprintln!("nothing is left over of job {job}");
            return Ok(Exit::NothingMatched);
        }
        if !out.is_json() {
            write(&found, out)?;
        }
        let idle = match self.even_recent {
            true => Duration::ZERO,
            false => RECENT,
        };
        let to_go = |left: &&Leftover| !left.is_running && !left.has_run_within(idle);
        let asked = found.iter().filter(to_go).count();
        tell_of_rest(&found, idle);
        let question = format!("remove {asked} of {} from the state?", found.len());
        let is_agreed = asked > 0 && self.consent.ask(&Context::default(), &question)?;
        let mut count = 0;
        for left in &found {
            let is_forgotten = is_agreed && to_go(&left) && {
                let forgotten = reconciler.forget(left, idle).await;
                forgotten.map_err(|error| state_failed(job, &error))?
            };
            count += usize::from(is_forgotten);
            if out.is_json() {
                out.json("leftover", &LeftoverView { left, is_forgotten })?;
            }
        }
        if !is_agreed {
            return Ok(match asked {
                0 => Exit::NothingMatched,
                _ => Exit::NotConfirmed,
            });
        }
        eprintln!("{count} of {} forgotten", found.len());
        if count < asked {
            eprintln!(
                "{} stay, because a process has begun to run them meanwhile",
                asked - count
            );
            return Ok(Exit::NothingMatched);
        }
        Ok(Exit::Done)
    }
}

/// Tells what stays.
fn tell_of_rest(found: &[Leftover], idle: Duration) {
    let running = found.iter().filter(|left| left.is_running).count();
    let recent = found.iter().filter(|left| left.has_run_within(idle));
    let recent = recent.filter(|left| !left.is_running).count();
    if running > 0 {
        eprintln!(
            "{running} stay: a process runs them now, by another file; end it first if they are to go"
        );
    }
    if recent > 0 {
        eprintln!(
            "{recent} stay: they ran within the last hour, so another file may only be away for a restart; --even-recent removes \
             them as well"
        );
    }
}

fn write(found: &[Leftover], out: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&[
        "!job",
        "source",
        "target",
        "state",
        ">ran ago",
        ">positions",
        ">suspects",
        ">runs",
        ">repairs",
        ">alerts",
    ]);
    for left in found {
        table.row([
            left.job.as_str().into(),
            left.source.as_str().into(),
            left.target.as_str().into(),
            whose(left.is_running).into(),
            shown(Duration::from_millis(left.ran_ms_ago)).into(),
            left.positions.to_string().into(),
            left.suspects.to_string().into(),
            left.runs.to_string().into(),
            Cell::new(left.repairs.to_string()).bad(left.repairs > 0),
            left.alerts.to_string().into(),
        ]);
    }
    out.table(&table)?;
    Ok(())
}
