//! A repair as the table has it, and as an operator sees it.

use final_core::database::columns;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::{form::Row, pair::difference::DifferenceKind};

columns! {
    /// A repair as the table has it.
    #[derive(Clone, Debug)]
    pub(crate) struct RepairRow {
        pub(crate) slot: String,
        pub(crate) id: Uuid,
        pub(crate) unit: String,
        pub(crate) source: String,
        pub(crate) target: String,
        pub(crate) key_form: String,
        pub(crate) row_key: Vec<u8>,
        pub(crate) key_text: String,
        pub(crate) kind: i64,
        pub(crate) columns_text: String,
        pub(crate) attempts: i64,
        pub(crate) last_error: Option<String>,
        pub(crate) is_ours: i64,
        /// The time that the mirror has to pass before the row is looked at again.
        pub(crate) passes_at: Option<i64>,
        pub(crate) found_again: i64,
        pub(crate) waits: i64,
        pub(crate) age: i64,
    }
}

/// A repair that is not done.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OpenRepair {
    /// Its id, with which the idempotency keys of its calls begin.
    #[serde(serialize_with = "as_text")]
    pub id: Uuid,
    /// The source table and its database.
    pub source: String,
    /// The target table and its database.
    pub target: String,
    /// Whether the job has the source and the target of the repair. Otherwise this configuration does not try it.
    pub is_of_job: bool,
    /// Whether a process of another configuration has the source and the target, and works now.
    pub is_of_another: bool,
    /// The row's key: the source's columns with their values in canonical form. The text of a value ends after 200
    /// characters.
    pub key: Vec<(String, String)>,
    /// What is wrong with the row.
    pub kind: DifferenceKind,
    /// The columns that differ.
    pub columns: Vec<String>,
    /// How often it has failed in a row. 0 while it waits for the mirror.
    pub attempts: u64,
    /// Why it failed last.
    pub last_error: Option<String>,
    /// Whether it is done, and waits until the mirror has passed it.
    pub waits_for_mirror: bool,
    /// How long until it is tried again, in milliseconds.
    pub due_in_ms: u64,
    /// How long it is open, in milliseconds.
    pub age_ms: u64,
}

impl RepairRow {
    /// The repair as it is shown: whether the job has its unit, and whether another configuration has.
    pub(crate) fn shown(self, is_of_job: bool, is_of_another: bool) -> OpenRepair {
        let ms = |micros: i64| u64::try_from(micros / 1_000).unwrap_or_default();
        OpenRepair {
            is_of_job,
            is_of_another,
            key: self.named(),
            kind: self.difference(),
            columns: self.columns(),
            id: self.id,
            attempts: u64::try_from(self.attempts).unwrap_or_default(),
            waits_for_mirror: self.passes_at.is_some(),
            due_in_ms: ms(self.waits),
            age_ms: ms(self.age),
            source: self.source,
            target: self.target,
            last_error: self.last_error,
        }
    }

    pub(crate) fn difference(&self) -> DifferenceKind {
        match self.kind {
            1 => DifferenceKind::Missing,
            2 => DifferenceKind::Different,
            _ => DifferenceKind::Extra,
        }
    }

    pub(crate) fn columns(&self) -> Vec<String> {
        serde_json::from_str(&self.columns_text).unwrap_or_default()
    }

    pub(crate) fn key(&self) -> Row {
        Row(self.row_key.clone())
    }

    /// The columns of the key with their values.
    fn named(&self) -> Vec<(String, String)> {
        serde_json::from_str(&self.key_text).unwrap_or_default()
    }
}

fn as_text<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}
