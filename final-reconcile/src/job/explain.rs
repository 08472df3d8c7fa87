//! What a job would do, before it does anything.
//!
//! Input: plans. Output: an [`Explanation`], as text or as JSON.

use std::fmt;

use serde::Serialize;

use crate::{mirror::Pulse, plan::Plan, side::Side};

/// What a job compares, and by which statements.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The job.
    pub job: String,
    /// One for each target.
    pub targets: Vec<ExplainedTarget>,
}

/// What is compared with one target.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ExplainedTarget {
    /// The source table.
    pub source: String,
    /// The target table.
    pub target: String,
    /// How the tables are walked, and why.
    pub walk: String,
    /// The columns, those of the key first.
    pub columns: Vec<ExplainedColumn>,
    /// The statements: side, name, text.
    pub statements: Vec<(String, String, String)>,
}

/// A pair of columns, and what it is compared as.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ExplainedColumn {
    /// Whether it is a column of the key.
    pub key: bool,
    /// The column of the source.
    pub source: String,
    /// Its type.
    pub source_type: String,
    /// The column of the target.
    pub target: String,
    /// Its type.
    pub target_type: String,
    /// The canonical form.
    pub form: String,
}

impl Explanation {
    pub(crate) fn new(job: &str) -> Self {
        Self {
            job: job.into(),
            targets: Vec::new(),
        }
    }

    /// `is_written`: whether the job writes the target.
    pub(crate) fn add(
        &mut self,
        source: &Side,
        target: &Side,
        plan: Plan,
        pulse: Option<&Pulse>,
        is_written: bool,
    ) {
        let keys = plan.source.keys.len();
        let pairs = plan
            .source
            .columns
            .iter()
            .zip(&plan.target.columns)
            .zip(&plan.source.forms);
        let columns = pairs
            .enumerate()
            .map(|(at, ((a, b), form))| ExplainedColumn {
                key: at < keys,
                source: a.name.clone(),
                source_type: a.declared.clone(),
                target: b.name.clone(),
                target_type: b.declared.clone(),
                form: form.to_string(),
            });
        let walk = match &plan.no_ranges {
            None => "range by range of the key".to_owned(),
            Some(why) => {
                format!("by buckets of hashed keys, because {why}; each side reads its whole table")
            }
        };
        let columns = columns.collect();
        let (of_source, of_target) = (
            plan.source.table.shown.clone(),
            plan.target.table.shown.clone(),
        );
        let mut of_sides = vec![("source", source.reader(plan.source).statements())];
        let written = is_written.then(|| target.writer(plan.target.clone()).statements());
        of_sides.push(("target", target.reader(plan.target).statements()));
        of_sides.extend(written.map(|written| ("target", written)));
        let heartbeat = pulse.map(|pulse| vec![("heartbeat of the mirror", pulse.statement())]);
        of_sides.extend(heartbeat.map(|heartbeat| ("target", heartbeat)));
        let statements = of_sides.into_iter().flat_map(|(side, all)| {
            let all = all.into_iter();
            all.map(move |(name, sql)| (side.to_owned(), name.to_owned(), sql))
        });
        self.targets.push(ExplainedTarget {
            source: of_source,
            target: of_target,
            walk,
            columns,
            statements: statements.collect(),
        });
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "job {}", self.job)?;
        for target in &self.targets {
            writeln!(f, "\n{} with {}", target.source, target.target)?;
            writeln!(f, "walked {}", target.walk)?;
            for column in &target.columns {
                let key = if column.key { " (key)" } else { "" };
                writeln!(
                    f,
                    "  {} {} = {} {}: {}{key}",
                    column.source,
                    column.source_type,
                    column.target,
                    column.target_type,
                    column.form
                )?;
            }
            for (side, name, sql) in &target.statements {
                writeln!(f, "  {side}, {name}:\n    {sql}")?;
            }
        }
        Ok(())
    }
}
