//! Repair by SQL: the source's row is written into the target.
//!
//! ```text
//!  lock the target's row ─▶ read the source's row ─▶ write ─▶ read both again ─┬ equal ─▶ commit
//!                                                                              └ not ──▶ roll back
//! ```
//!
//! So nothing is kept that does not agree with the source. The source's row may change meanwhile; then what was written is
//! taken back, and the newer row is written by the next try. After a kill the row is equal already, or as it was.
//!
//! The source's row may also be deleted right before the commit, when the copy has nothing to delete yet. So both rows are
//! looked at once more after `settle`, and a row that was inserted here and that the source has not is deleted again.

use super::{Mended, Wanted, is_equal, row};
use crate::{
    error::{ReconcileError, Reconciled},
    form::Row,
    side::{Change, Found, Writing},
};

pub(super) async fn mend(wanted: &Wanted<'_>) -> Reconciled<Mended> {
    let key = wanted.repair.key();
    let mut writing = wanted.sides.writer.begin(&key).await?;
    let tried = write(wanted, &key, &mut *writing).await;
    match tried {
        Ok(Tried::Written { is_new }) => match writing.commit().await {
            Ok(()) => Ok(Mended::Written { is_new }),
            Err(error) => not_written(error),
        },
        Ok(tried) => {
            writing.undo().await;
            match tried {
                Tried::Odd => Ok(Mended::Failed {
                    error: ODD.into(),
                    after: None,
                }),
                Tried::Nothing | Tried::Written { .. } => Ok(Mended::Done),
                Tried::Changed => Ok(Mended::Changed),
                Tried::Unlike(columns) => Ok(Mended::Failed {
                    error: unlike(&columns),
                    after: None,
                }),
            }
        }
        Err(error) => {
            writing.undo().await;
            not_written(error)
        }
    }
}

const ODD: &str = "the target has this row, with a UUID that is written neither in small letters nor in capitals, so its index does \
    not find it; write the UUIDs of its key in one way";

enum Tried {
    /// There is nothing to do.
    Nothing,
    /// The target's row equals the source's, once it is committed. `is_new` if it was not there.
    Written { is_new: bool },
    /// The source's row has changed meanwhile.
    Changed,
    /// The target has the row, and the index does not find it.
    Odd,
    /// The target does not have what was written, in these columns.
    Unlike(Vec<String>),
}

async fn write(
    wanted: &Wanted<'_>,
    key: &Row,
    writing: &mut (dyn Writing + '_),
) -> Reconciled<Tried> {
    let sides = wanted.sides;
    let target = writing.row().await?;
    let (source, values) = tokio::try_join!(row(&*sides.source, key), sides.source.values(key))?;
    if is_equal(source.as_ref(), target.as_ref()) {
        return Ok(Tried::Nothing);
    }
    let change = match (&values, &target) {
        (Some(values), Some(_)) => Change::Update(values),
        (Some(values), None) => Change::Insert(values),
        (None, Some(_)) if wanted.extras => Change::Delete,
        (None, _) => return Ok(Tried::Nothing),
    };
    if target.is_none() && row(&*sides.target, key).await?.is_some() {
        return Ok(Tried::Odd);
    }
    let is_new = target.is_none();
    writing.write(change).await?;
    let target = writing.row().await?;
    let now = row(&*sides.source, key).await?;
    if is_equal(now.as_ref(), target.as_ref()) {
        return Ok(Tried::Written { is_new });
    }
    let hash = |found: &Option<Found>| found.as_ref().map(|found| found.hash.clone());
    if hash(&source) != hash(&now) {
        return Ok(Tried::Changed);
    }
    let columns = sides.differing(now.as_ref(), target.as_ref());
    Ok(Tried::Unlike(columns))
}

/// A row that is refused is a failure of this repair. Any other error is told as it is.
fn not_written(error: ReconcileError) -> Reconciled<Mended> {
    match error {
        ReconcileError::Write { .. } => Ok(Mended::Failed {
            error: error.to_string(),
            after: None,
        }),
        error => Err(error),
    }
}

fn unlike(columns: &[String]) -> String {
    if columns.is_empty() {
        return "the target does not keep the row as it is written, so it was left as it was; look at its triggers".into();
    }
    let names: Vec<String> = columns.iter().map(|name| format!("`{name}`")).collect();
    format!(
        "the target does not keep the source's value of {}, so its row was left as it was; its column may be too small \
         for the value, or a trigger changes it",
        names.join(", ")
    )
}
