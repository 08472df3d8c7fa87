//! What a server's table and one of SQLite have in common.
//!
//! Input: keys. Output: conditions on them; rows and whole values, which are looked up by the index first. A row that may
//! have a UUID which is written in another way is searched for by its digits then.

use final_core::database::Dialect;

use super::{
    keys::{misplaced_keys, null_keys, odd_keys},
    odd::{OddKeys, lacking},
};
use crate::{
    error::{ReconcileError, Reconciled},
    form::{
        Row, RowHash,
        here::{Cell, finished},
    },
    plan::SidePlan,
    side::chunk::{Chunk, Found},
    sql::keys::{Condition, Search},
};

/// One table that is asked.
pub(crate) trait Asked: Sync {
    /// In which words.
    const DIALECT: Dialect;

    fn plan(&self) -> &SidePlan;
    fn odd(&self) -> &OddKeys;
    /// Whether a statement finds a row.
    fn is_there(
        &self,
        doing: &'static str,
        sql: String,
    ) -> impl Future<Output = Reconciled<bool>> + Send;
    /// The rows with these keys, if they are found so.
    fn rows_by(
        &self,
        keys: &[Row],
        search: Search,
    ) -> impl Future<Output = Reconciled<Vec<Found>>> + Send;
    /// The whole values of the row with this key, if it is found so.
    fn values_by(
        &self,
        key: &Row,
        search: Search,
    ) -> impl Future<Output = Reconciled<Option<Vec<Cell>>>> + Send;

    /// The condition that all rows fulfil.
    fn condition(&self) -> Condition<'_> {
        Condition::new(Self::DIALECT, &self.plan().keys)
    }

    /// Adds the bounds of a chunk.
    fn bound(&self, condition: &mut Condition<'_>, chunk: &Chunk) -> Reconciled<()> {
        let bounds = [(&chunk.after, ">"), (&chunk.until, "<=")];
        let is_read = bounds.into_iter().all(|(key, sign)| {
            let mut bound = |key| condition.bound(key, sign);
            key.as_ref().is_none_or(&mut bound)
        });
        match is_read {
            true => Ok(()),
            false => Err(self.wrong("a key cannot be taken apart")),
        }
    }

    /// The condition of these keys.
    fn of_keys(&self, keys: &[Row], search: Search) -> Reconciled<Condition<'_>> {
        let mut condition = self.condition();
        match condition.one_of(keys, search) {
            true => Ok(condition),
            false => Err(self.wrong("a key cannot be taken apart")),
        }
    }

    /// A row that a statement gave, in the form that is compared.
    fn found(&self, row: Row) -> Reconciled<Found> {
        found(self.plan(), row).ok_or_else(|| self.wrong("its fields are not those of the plan"))
    }

    fn wrong(&self, problem: impl Into<String>) -> ReconcileError {
        ReconcileError::Row {
            side: self.plan().table.shown.clone(),
            problem: problem.into(),
        }
    }

    /// The rows with these keys, however they are written.
    fn rows_of(&self, keys: &[Row]) -> impl Future<Output = Reconciled<Vec<Found>>> + Send {
        async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let mut found = self.rows_by(keys, Search::ByIndex).await?;
            let lacking = lacking(self.plan(), keys, &found);
            if !lacking.is_empty() && self.has_odd_key().await? {
                found.extend(self.rows_by(&lacking, Search::ByDigits).await?);
            }
            Ok(found)
        }
    }

    /// The whole values of the row with this key, however it is written.
    fn values_of(&self, key: &Row) -> impl Future<Output = Reconciled<Option<Vec<Cell>>>> + Send {
        async move {
            let found = self.values_by(key, Search::ByIndex).await?;
            if found.is_some() || odd_keys(self.plan()).is_none() {
                return Ok(found);
            }
            self.values_by(key, Search::ByDigits).await
        }
    }

    /// Whether a UUID of the key is written in a way that the index is not asked for.
    fn has_odd_key(&self) -> impl Future<Output = Reconciled<bool>> + Send {
        async move {
            if let Some(known) = self.odd().known() {
                return Ok(known);
            }
            let has = match odd_keys(self.plan()) {
                None => false,
                Some(sql) => self.is_there(SEARCHING, sql).await?,
            };
            self.odd().learn(has);
            Ok(has)
        }
    }

    /// Whether a row has no key.
    fn has_null(&self) -> impl Future<Output = Reconciled<bool>> + Send {
        async move {
            match null_keys(self.plan()) {
                None => Ok(false),
                Some(sql) => {
                    let doing = "looking for rows without a key in";
                    self.is_there(doing, sql).await
                }
            }
        }
    }

    /// Whether a UUID of the key has another place in the index than its digits say.
    fn has_misplaced(&self) -> impl Future<Output = Reconciled<bool>> + Send {
        async move {
            match misplaced_keys(self.plan()) {
                None => Ok(false),
                Some(sql) => self.is_there("reading keys of", sql).await,
            }
        }
    }
}

/// What it is called to look for keys without the index.
pub(crate) const SEARCHING: &str = "searching all keys of";

/// A row in the form that is compared. None if its fields are not those of the plan.
fn found(plan: &SidePlan, row: Row) -> Option<Found> {
    let row = finished(row, &plan.forms)?;
    Some(Found {
        key: row.first(plan.forms.get(..plan.keys.len())?)?,
        hash: RowHash(plan.hash.of(&row.0)),
        bytes: row.0.len() as u64,
        row: Some(row),
    })
}
