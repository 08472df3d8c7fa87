//! `final reconcile compare` and `explain`: whether tables agree, and what would be compared.
//!
//! Input: a file with jobs. Output: what differs, and exit code 3 if something does. Nothing is changed.

use clap::Args;
use final_reconcile::Comparison;
use serde::Serialize;

use super::file::JobsArgs;
use crate::{
    exit::{Exit, Failure},
    output::{Output, progress::Progress, text::harmless},
};

/// Compare every row once, and say which differ
///
/// A row counts as different only if both sides have stayed as they are for twice the job's `settle`, or until the mirror has
/// passed two looks at it where the target has a `heartbeat`. The exit code is 0 if all tables are equal, and 3 if not.
#[derive(Debug, Args)]
#[command(after_help = "Example: final reconcile compare --config reconcile.toml --job users")]
pub(super) struct CompareArgs {
    #[command(flatten)]
    jobs: JobsArgs,

    /// Also shows the values that differ
    #[arg(long)]
    values: bool,

    /// How many differences are described; all are counted
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    examples: usize,
}

/// Show what would be compared, and by which statements
///
/// Catalogs are read, and no row of a table.
#[derive(Debug, Args)]
#[command(after_help = "Example: final reconcile explain --config reconcile.toml")]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    jobs: JobsArgs,
}

/// A comparison as a line of JSON.
#[derive(Serialize)]
struct ComparisonView<'a> {
    job: &'a str,
    equal: bool,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

impl CompareArgs {
    pub(super) async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let mut exit = Exit::Done;
        for (name, job) in self.jobs.read()? {
            let job = job.show_values(self.values).examples(self.examples);
            let mut progress: Option<Progress> = None;
            let compared = job.compare_with(|walked| {
                let bar = progress.get_or_insert_with(|| Progress::of(walked.of));
                bar.at(walked.rows);
            });
            let comparisons = compared.await;
            drop(progress);
            for comparison in comparisons.map_err(|error| self.jobs.failed(&name, &error))? {
                if !comparison.is_equal() {
                    exit = Exit::Found;
                }
                show(out, &name, &comparison)?;
            }
        }
        Ok(exit)
    }
}

fn show(out: &mut Output, job: &str, comparison: &Comparison) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(
            "comparison",
            &ComparisonView {
                job,
                equal: comparison.is_equal(),
                comparison,
            },
        );
    }
    out.line(&harmless(&format!("{job}: {comparison}")))?;
    for example in &comparison.examples {
        out.line(&harmless(&format!("  {example}")))?;
        for column in &example.columns {
            if column.source.is_none() && column.target.is_none() {
                continue;
            }
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".into());
            let (source, target) = (value(&column.source), value(&column.target));
            out.line(&harmless(&format!(
                "    {}: {source} | {target}",
                column.name
            )))?;
        }
    }
    let more = comparison
        .differences()
        .saturating_sub(comparison.examples.len() as u64);
    if more > 0 {
        out.line(&format!("  and {more} more"))?;
    }
    Ok(())
}

impl ExplainArgs {
    pub(super) async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        for (name, job) in self.jobs.read()? {
            let explained = job.explain().await;
            let explanation = explained.map_err(|error| self.jobs.failed(&name, &error))?;
            match out.is_json() {
                true => out.json("explanation", &explanation)?,
                false => {
                    for line in explanation.to_string().lines() {
                        out.line(&harmless(line))?;
                    }
                }
            }
        }
        Ok(Exit::Done)
    }
}
