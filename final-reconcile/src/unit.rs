//! What the state belongs to: a job, its source and one of its targets.
//!
//! Input: names. Output: what stands for them in the tables.

use std::sync::Arc;

use final_core::database::Value;

use crate::form::{Hash, here::hex};

/// A job with its source and one of its targets. Tables and their databases are named as people read them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UnitName {
    /// Its name in the tables.
    pub(crate) name: String,
    pub(crate) job: String,
    pub(crate) source: String,
    pub(crate) target: String,
}

impl UnitName {
    pub(crate) fn new(job: &str, source: &str, target: &str) -> Self {
        Self {
            name: slot(&[job.as_bytes(), source.as_bytes(), target.as_bytes()]),
            job: job.to_owned(),
            source: source.to_owned(),
            target: target.to_owned(),
        }
    }

    /// The place of the repair that a row has: by the key's description, and the row's key. The same values of another key
    /// are another row.
    pub(crate) fn repair(&self, described: &str, key: &[u8]) -> String {
        slot(&[self.name.as_bytes(), described.as_bytes(), key])
    }

    /// The place of a row that waits. Keys of one kind have others than keys of another kind.
    pub(crate) fn suspect(&self, kind: &str, key: &[u8]) -> String {
        slot(&[self.name.as_bytes(), kind.as_bytes(), key])
    }

    /// The place of a trouble.
    pub(crate) fn trouble(&self, kind: &str) -> String {
        slot(&[self.name.as_bytes(), kind.as_bytes()])
    }
}

/// The name of the lease of the alerts of a unit.
pub(crate) fn lease_of_alerts(unit: &str) -> String {
    slot(&[b"alerts", unit.as_bytes()])
}

/// The condition that a column has one of these units, and the values of its placeholders.
pub(crate) fn among<'u>(column: &str, units: &'u [Arc<UnitName>]) -> (String, Vec<Value<'u>>) {
    let names = units.iter().map(|unit| unit.name.as_str().into());
    let condition = match units.len() {
        0 => "1 = 0".to_owned(),
        count => format!("{column} IN ({})", vec!["?"; count].join(", ")),
    };
    (condition, names.collect())
}

/// One place for what these parts name together.
fn slot(parts: &[&[u8]]) -> String {
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(format!("{}:", part.len()).as_bytes());
        all.extend_from_slice(part);
    }
    let mut slot = hex(&Hash::Sha256.of(&all));
    slot.truncate(40);
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_job_source_and_target_makes_another_unit() {
        let unit = |job, source, target| UnitName::new(job, source, target).name;
        let all = [
            unit("people", "a", "b"),
            unit("persons", "a", "b"),
            unit("people", "c", "b"),
            unit("people", "a", "c"),
            unit("people", "ab", ""),
        ];
        let others: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(others.len(), all.len());
    }
}
