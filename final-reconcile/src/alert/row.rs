//! A trouble as the table of alerts has it.

use final_core::database::columns;
use uuid::Uuid;

use super::Trouble;

columns! {
    /// A trouble as the table has it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct AlertRow {
        pub(crate) slot: String,
        pub(crate) id: Uuid,
        pub(crate) unit: String,
        pub(crate) source: String,
        pub(crate) target: String,
        pub(crate) kind: String,
        pub(crate) first_seen: i64,
        pub(crate) last_error: String,
        pub(crate) is_over: i64,
        pub(crate) told: i64,
        pub(crate) attempts: i64,
    }
}

impl AlertRow {
    pub(super) fn is_about(&self, trouble: &Trouble) -> bool {
        self.unit == trouble.unit.name && self.kind == trouble.kind.name()
    }
}
