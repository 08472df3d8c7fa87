//! `final reconcile status` and `resume`: how the jobs of a file are, and going on after a pause.
//!
//! Input: the tables of jobs and repairs. Output: a row for each job and target, and exit code 3 if one of them needs a person.

use std::time::Duration;

use clap::Args;
use final_reconcile::JobStatus;
use serde_json::json;

use super::{file::JobsArgs, nothing_yet, state_failed};
use crate::{
    exit::{Exit, Failure},
    output::{Cell, Output, Table, text::harmless},
};

/// See where the jobs of a file stand
///
/// The exit code is 3 if a job is paused or in trouble, if no process runs it, or if it has never run. It is 3 as well if the
/// state has something of a source or target that the job does not have any more.
#[derive(Debug, Args)]
#[command(after_help = "Example: final reconcile status --config reconcile.toml")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    jobs: JobsArgs,
}

/// Go on with jobs that are paused, because too many rows differed
#[derive(Debug, Args)]
#[command(after_help = "Example: final reconcile resume --config reconcile.toml --job users")]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    jobs: JobsArgs,
}

impl StatusArgs {
    pub(super) async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let (reconciler, names) = self.jobs.reconciler()?;
        let jobs = reconciler.jobs().await;
        let jobs = jobs.map_err(|error| state_failed(&names.join(", "), &error))?;
        if jobs.is_empty() {
            return Err(nothing_yet());
        }
        let mut never = reconciler.targets();
        never.retain(|(job, _, target)| {
            let is_it =
                |found: &JobStatus| found.is_of_job && found.job == *job && found.target == *target;
            !jobs.iter().any(is_it)
        });
        write(&jobs, &never, out)?;
        let is_well = |job: &JobStatus| match job.is_of_job {
            true => job.is_running && job.paused.is_none() && job.trouble.is_none(),
            // That file tells of it.
            false => job.is_running,
        };
        Ok(match never.is_empty() && jobs.iter().all(is_well) {
            true => Exit::Done,
            false => Exit::Found,
        })
    }
}

/// Writes how jobs are, and then those that have never run.
fn write(
    jobs: &[JobStatus],
    never: &[(String, String, String)],
    out: &mut Output,
) -> Result<(), Failure> {
    if out.is_json() {
        jobs.iter().try_for_each(|job| out.json("job", job))?;
        return never.iter().try_for_each(|(job, source, target)| {
            let row = json!({
                "job": job, "source": source, "target": target, "is_of_job": true, "is_running": false, "paused": null,
                "trouble": "it has never run", "fresh_id": null, "updated_until": null, "is_sweeping": false,
                "sweep_rows": null, "mirror_at": null, "mirror_lag_ms": null, "suspects": 0, "open_repairs": 0,
            });
            out.json("job", &row)
        });
    }
    let mut table = Table::new(&["!job", "source", "target", "state", ">suspects", ">repairs"]);
    for job in jobs {
        let state = state(job);
        table.row([
            job.job.as_str().into(),
            job.source.as_str().into(),
            job.target.as_str().into(),
            Cell::new(state)
                .bad(!matches!(state, RUNNING | OF_ANOTHER))
                .good(state == RUNNING),
            job.suspects.to_string().into(),
            Cell::new(job.open_repairs.to_string()).bad(job.open_repairs > 0),
        ]);
    }
    for (job, source, target) in never {
        table.row([
            job.as_str().into(),
            source.as_str().into(),
            target.as_str().into(),
            Cell::new("never ran").bad(true),
            "0".into(),
            "0".into(),
        ]);
    }
    out.table(&table)?;
    for job in jobs.iter().filter(|job| job.is_of_job) {
        if let Some(reason) = &job.paused {
            let cure =
                "look at its repairs, mend the mapping, and go on by `final reconcile resume`";
            out.line(&harmless(&format!("{}: {reason}; {cure}", job.job)))?;
        }
        if let Some(reason) = &job.trouble {
            out.line(&harmless(&format!("{}: {reason}", job.job)))?;
        }
        if let (Some(at), Some(lag)) = (&job.mirror_at, job.mirror_lag_ms) {
            let behind = Duration::from_millis(lag).as_secs_f64();
            let line = format!(
                "{}: the mirror stands at {at} UTC, {behind:.1} s behind",
                job.job
            );
            out.line(&harmless(&line))?;
        }
    }
    let mut left: Vec<&str> = jobs
        .iter()
        .filter(|job| state(job) == LEFT_OVER)
        .map(|job| job.job.as_str())
        .collect();
    left.dedup();
    for job in left {
        out.line(&harmless(&format!(
            "{job}: the state has a source or target that the job does not have any more; `final reconcile forget {job}` removes \
             what is left over"
        )))?;
    }
    Ok(())
}

const RUNNING: &str = "running";

/// The state of a source or target that the job does not have any more.
const LEFT_OVER: &str = "left over";

/// The state of one that a process runs by another file.
const OF_ANOTHER: &str = "of another file";

/// Whose a source or target is that the job does not have: a process runs it, or none does.
pub(super) fn whose(is_running: bool) -> &'static str {
    match is_running {
        true => OF_ANOTHER,
        false => LEFT_OVER,
    }
}

fn state(job: &JobStatus) -> &'static str {
    match job {
        job if !job.is_of_job => whose(job.is_running),
        job if job.paused.is_some() => "paused",
        job if !job.is_running => "not running",
        job if job.trouble.is_some() => "in trouble",
        _ => RUNNING,
    }
}

impl ResumeArgs {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let (reconciler, names) = self.jobs.reconciler()?;
        let mut count = 0;
        for name in &names {
            let resumed = reconciler.resume(name).await;
            count += resumed.map_err(|error| state_failed(name, &error))?;
        }
        eprintln!("{count} target(s) go on");
        Ok(match count {
            0 => Exit::NothingMatched,
            _ => Exit::Done,
        })
    }
}
