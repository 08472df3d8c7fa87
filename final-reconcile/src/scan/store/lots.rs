//! Rows of a unit that are removed lot by lot, so that each transaction is short.

use final_core::database::{DbResult, Driver, Value, read};

use crate::state::SqlState;

/// Rows that are removed in one transaction.
pub(super) const LOT: usize = 500;

/// A table with rows of a unit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Suspects,
    Runs,
    Repairs,
    Alerts,
}

impl Part {
    /// The table, its key, and the condition on rows that may be removed.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Suspects => ("{suspects}", "slot", "unit = ?"),
            Self::Runs => ("{runs}", "id", "unit = ?"),
            // A process that has a repair writes down what came of it.
            Self::Repairs => ("{repairs}", "slot", "unit = ? AND claimed_until <= {now}"),
            Self::Alerts => ("{alerts}", "slot", "unit = ?"),
        }
    }
}

impl<DB: Driver> SqlState<DB> {
    /// Removes some rows of a unit. There may be more if it were [`LOT`].
    pub(super) async fn remove_lot(
        &self,
        conn: &mut DB::Connection,
        part: Part,
        unit: &str,
    ) -> DbResult<usize> {
        let templates = self.templates().await?;
        let (table, key, condition) = part.words();
        let find = format!("SELECT {key} FROM {table} WHERE {condition} LIMIT {LOT}");
        let found = read::<DB, String>(conn, &templates.sql(&find), &[unit.into()]).await?;
        if !found.is_empty() {
            let these = vec!["?"; found.len()].join(", ");
            let remove = format!("DELETE FROM {table} WHERE {condition} AND {key} IN ({these})");
            let keys = found.iter().map(|key| Value::from(key.as_str()));
            let values: Vec<Value<'_>> = [unit.into()].into_iter().chain(keys).collect();
            DB::run_sql(conn, &templates.sql(&remove), &values).await?;
        }
        Ok(found.len())
    }
}
