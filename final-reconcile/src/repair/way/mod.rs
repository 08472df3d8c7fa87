//! The ways to repair a row. Each is one file, and a worker asks all of them alike.
//!
//! Input: a [`Wanted`]: a repair whose rows still differ. Output: a [`Mended`].
//!
//! | way | done is |
//! | --- | --- |
//! | [`call`] | the endpoint has answered that it is |
//! | [`publish`] | the message is committed to outbox or log |
//! | [`sql`] | the target's row has been written, and equals the source's in the same transaction |

mod call;
mod publish;
mod sql;

use std::time::{Duration, Instant};

use final_webhook::Caller;
use serde_json::Value;
use uuid::Uuid;

use super::{body::body, row::RepairRow};
use crate::{
    error::Reconciled,
    form::Row,
    job::repair::{CallbackBody, Way},
    pair::{Sides, difference::DifferenceKind},
    side::Found,
};

/// A repair whose rows differ.
pub(crate) struct Wanted<'w> {
    pub(crate) job: &'w str,
    pub(crate) repair: &'w RepairRow,
    pub(crate) sides: &'w Sides,
    pub(crate) kind: DifferenceKind,
    /// The row of the source, and of the target.
    pub(crate) source: Option<&'w Found>,
    pub(crate) target: Option<&'w Found>,
    pub(crate) form: CallbackBody,
    /// Whether rows that the source has not are repaired.
    pub(crate) extras: bool,
}

/// What came of a try.
#[derive(Debug)]
pub(crate) enum Mended {
    /// There is nothing more to do.
    Done,
    /// The target's row was written; `is_new` if it was not there.
    Written { is_new: bool },
    /// It is tried again, and not before this time is over.
    Failed {
        error: String,
        after: Option<Duration>,
    },
    /// Nothing was tried before this moment.
    Paused { until: Instant },
    /// The row of the source has changed meanwhile.
    Changed,
}

impl Way {
    /// Repairs a row. Dropped, it may have been repaired or not.
    ///
    /// # Errors
    ///
    /// Fails if a row cannot be read.
    pub(crate) async fn mend(&self, caller: &Caller, wanted: &Wanted<'_>) -> Reconciled<Mended> {
        match self {
            Self::Call(endpoint) => call::mend(endpoint, caller, wanted).await,
            Self::Publish { bus, topic } => publish::mend(&**bus, topic, wanted).await,
            Self::Sql => sql::mend(wanted).await,
        }
    }

    /// How many repairs are under way at once. Transactions are as many as a pool of ours has connections.
    pub(crate) fn at_once(&self) -> usize {
        match self {
            Self::Call(_) | Self::Publish { .. } => 8,
            Self::Sql => 2,
        }
    }
}

impl Wanted<'_> {
    /// What is sent, for the ways that send something. None if the whole row is wanted, and is not there any more.
    pub(crate) async fn body(&self) -> Reconciled<Option<Value>> {
        let columns = self.sides.differing(self.source, self.target);
        let row = self.source.and_then(|found| found.row.as_ref());
        let content = (row, columns.as_slice());
        let key = self.repair.key();
        let whole = match self.form {
            CallbackBody::Full => None,
            CallbackBody::Cupid | CallbackBody::CupidRow => self.sides.printed.row(&key).await?,
        };
        if self.form != CallbackBody::Full && self.source.is_some() && whole.is_none() {
            return Ok(None);
        }
        Ok(Some(body(
            self.form, self.job, self.kind, self.sides, &key, content, whole,
        )))
    }
}

/// The id of a call or a message. A repeat with the same content has the same one.
pub(super) fn content_id(repair: &RepairRow, content: &str) -> Uuid {
    Uuid::new_v5(&repair.id, content.as_bytes())
}

/// Whether both sides have the row alike, or neither has it.
pub(super) fn is_equal(source: Option<&Found>, target: Option<&Found>) -> bool {
    source.map(|found| &found.hash) == target.map(|found| &found.hash)
}

/// The row with this key, as a reader finds it.
pub(super) async fn row(reader: &dyn crate::side::Reader, key: &Row) -> Reconciled<Option<Found>> {
    let found = reader.rows(std::slice::from_ref(key)).await?;
    // An index may count several texts as one.
    Ok(found.into_iter().find(|found| found.key == *key))
}
