//! `final reconcile`: whether tables agree.
//!
//! Input: a file with jobs. Output: what differs, and exit code 3 if something does. Nothing is changed.

mod config;
mod sides;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use final_reconcile::{Comparison, Job, ReconcileError};
use serde::Serialize;

use self::config::ReconcileConfig;
use crate::{
    arguments::FormatArgs,
    config::{ConfigError, read},
    exit::{Exit, Failure},
    output::{Output, progress::Progress, text::harmless},
};

/// Compare tables with their copies in other databases
///
/// Both databases make digests of the same ranges of rows, so rows that are equal stay where they are. Nothing is changed.
#[derive(Debug, Args)]
#[command(after_help = "Example: final reconcile compare --config reconcile.toml")]
pub(crate) struct ReconcileArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,

    #[command(subcommand)]
    command: ReconcileCommand,
}

#[derive(Debug, Subcommand)]
enum ReconcileCommand {
    Compare(CompareArgs),
    Explain(ExplainArgs),
}

/// Compare every row once, and say which differ
///
/// A row counts as different only if both sides have stayed as they are for twice the job's `settle`. The exit code is 0 if
/// all tables are equal, and 3 if not.
#[derive(Debug, Args)]
#[command(after_help = "Example: final reconcile compare --config reconcile.toml --job users")]
struct CompareArgs {
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
struct ExplainArgs {
    #[command(flatten)]
    jobs: JobsArgs,
}

/// Which jobs are meant.
#[derive(Debug, Args)]
struct JobsArgs {
    /// The file with the jobs
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Only this job; may be given several times
    #[arg(long, value_name = "NAME")]
    job: Vec<String>,
}

/// A comparison as a line of JSON.
#[derive(Serialize)]
struct ComparisonView<'a> {
    job: &'a str,
    equal: bool,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

impl ReconcileArgs {
    pub(crate) async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self.command {
            ReconcileCommand::Compare(args) => args.run(out).await,
            ReconcileCommand::Explain(args) => args.run(out).await,
        }
    }
}

impl CompareArgs {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
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
            for comparison in comparisons.map_err(|error| failed(&name, &error))? {
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
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        for (name, job) in self.jobs.read()? {
            let explanation = job.explain().await.map_err(|error| failed(&name, &error))?;
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

impl JobsArgs {
    /// The jobs of the file, in the order of their names.
    fn read(&self) -> Result<Vec<(String, Job)>, Failure> {
        let told = |error: ConfigError| Failure::usage(error.to_string());
        let loaded = read::<ReconcileConfig>(&self.config).map_err(told)?;
        loaded
            .warnings
            .iter()
            .for_each(|warning| eprintln!("{warning}"));
        let jobs = loaded.config.jobs;
        if let Some(unknown) = self.job.iter().find(|name| !jobs.contains_key(*name)) {
            let known: Vec<&str> = jobs.keys().map(String::as_str).collect();
            return Err(Failure::usage(format!(
                "{} has no job `{unknown}`; it has {}",
                self.config.display(),
                known.join(", ")
            )));
        }
        if jobs.is_empty() {
            return Err(Failure::usage(format!(
                "{} has no jobs; begin one by [jobs.NAME]",
                self.config.display()
            )));
        }
        jobs.into_iter()
            .filter(|(name, _)| self.job.is_empty() || self.job.contains(name))
            .map(|(name, config)| Ok((name.clone(), config.job(&name)?)))
            .collect()
    }
}

/// What is wrong with the job or its tables is a mistake of the file; a database that fails is not.
fn failed(job: &str, error: &ReconcileError) -> Failure {
    match error {
        ReconcileError::Database { .. } | ReconcileError::Row { .. } => {
            Failure::doing(format_args!("job {job}"), error)
        }
        _ => Failure::usage(format!("job {job}: {error}")),
    }
}
