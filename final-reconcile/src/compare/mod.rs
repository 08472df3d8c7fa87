//! Comparing two tables once.
//!
//! Input: a plan. State: where the walk is, and rows that looked different. Output: a [`Comparison`].
//!
//! | part | does |
//! | --- | --- |
//! | [`walk`] | goes through both tables chunk by chunk |
//! | [`chunk`] | finds the rows of a chunk that differ |
//! | [`texts`] | the same in the texts of a chunk of small rows |
//! | [`suspects`] | looks at such rows again, until they are equal or really different |
//! | [`wait`] | until when such rows wait |
//! | [`sink`] | what takes such rows from a walk |
//! | [`settings`] | what a caller can set |
//! | [`report`] | what is told |

mod chunk;
mod report;
mod settings;
mod sink;
mod suspects;
mod texts;
mod wait;
pub(crate) mod walk;

use std::time::Instant;

pub use self::report::{Comparison, Walked};
pub(crate) use self::{settings::Settings, sink::Sink};
use self::{suspects::Suspects, walk::Walk};
use crate::{
    error::Reconciled,
    mirror::Pulse,
    pair::{difference::RowDifference, prepared},
    plan::Plan,
    side::Side,
};

/// What came of a comparison, and the rows to be repaired.
pub(crate) struct Compared {
    pub(crate) comparison: Comparison,
    pub(crate) rows: Vec<RowDifference>,
}

/// Compares two tables.
pub(crate) async fn compare(
    job: &str,
    (source, target): (&Side, &Side),
    plan: Plan,
    pulse: Option<&Pulse>,
    settings: &Settings,
    walked: &mut (dyn FnMut(&Walked) + Send),
) -> Reconciled<Compared> {
    let begun = Instant::now();
    let estimate = plan.source.table.rows;
    let (sides, is_in_ranges) = prepared(source, target, plan).await?;
    let mut comparison = Comparison::new(sides.source.shown(), sides.target.shown());
    let mut suspects = Suspects::new(&sides, pulse, settings, walked);
    suspects.begin().await?;
    let mut walk = Walk::new(&sides, estimate);
    match is_in_ranges {
        true => walk.ranges(&mut suspects, &mut comparison).await?,
        false => walk.buckets(&mut suspects, &mut comparison).await?,
    }
    let rows = suspects.end(&mut comparison).await?;
    comparison.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        target: "final::reconcile",
        job,
        source = comparison.source,
        copy = comparison.target,
        rows = comparison.rows,
        missing = comparison.missing,
        different = comparison.different,
        extra = comparison.extra,
        unsettled = comparison.unsettled,
        judged_by = comparison.judged_by,
        "two tables were compared"
    );
    Ok(Compared { comparison, rows })
}
