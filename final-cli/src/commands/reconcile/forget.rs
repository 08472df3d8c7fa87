//! `final reconcile forget`: removes what is left of a source or target that a job has no more.
//!
//! Input: the tables of the state. Output: rows that say what there is; after a yes it is gone.

use clap::Args;
use final_reconcile::Leftover;

use super::{
    file::{FileArgs, JobsArgs},
    state_failed,
};
use crate::{
    ask::ConsentArgs,
    contexts::Context,
    exit::{Exit, Failure},
    output::{Cell, Output, Table},
};

/// Remove what is left of a source or target that a job has no more
///
/// Shows it first: positions of scans, rows that wait for a look, runs, open repairs and alerts. What a process runs now,
/// by another file with the same state, stays.
#[derive(Debug, Args)]
#[command(after_help = "Example: final reconcile forget --config reconcile.toml users")]
pub(super) struct ForgetArgs {
    #[command(flatten)]
    file: FileArgs,

    /// The job
    #[arg(value_name = "JOB")]
    job: String,

    #[command(flatten)]
    consent: ConsentArgs,
}

impl ForgetArgs {
    pub(super) async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let job = self.job;
        let (reconciler, _) = JobsArgs::one(self.file, job.clone()).reconciler()?;
        let found = reconciler.leftovers(&job).await;
        let found = found.map_err(|error| state_failed(&job, &error))?;
        if found.is_empty() {
            eprintln!("nothing is left over of job {job}");
            return Ok(Exit::NothingMatched);
        }
        write(&found, out)?;
        let (running, idle): (Vec<_>, Vec<_>) = found.iter().partition(|left| left.is_running);
        if !running.is_empty() {
            eprintln!(
                "{} of them stay: a process runs them now, by another file",
                running.len()
            );
        }
        if idle.is_empty() {
            return Ok(Exit::NothingMatched);
        }
        let question = format!("remove what is left over of job {job}?");
        if !self.consent.ask(&Context::default(), &question)? {
            return Ok(Exit::NotConfirmed);
        }
        let mut count = 0;
        for left in idle {
            let forgotten = reconciler.forget(left).await;
            count += u64::from(forgotten.map_err(|error| state_failed(&job, &error))?);
        }
        eprintln!("{count} source(s) and target(s) forgotten");
        Ok(match count {
            0 => Exit::NothingMatched,
            _ => Exit::Done,
        })
    }
}

fn write(found: &[Leftover], out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return found.iter().try_for_each(|left| out.json("leftover", left));
    }
    let mut table = Table::new(&[
        "!job",
        "source",
        "target",
        "state",
        ">positions",
        ">suspects",
        ">runs",
        ">repairs",
        ">alerts",
    ]);
    for left in found {
        table.row([
            left.job.as_str().into(),
            left.source.as_deref().unwrap_or("not known").into(),
            left.target.as_str().into(),
            match left.is_running {
                true => "of another file".into(),
                false => "left over".into(),
            },
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
