//! Plans: what a bulk action would do, before it does it.
//!
//! Input: an [`Action`] and a filter. Output: a [`Plan`]: a count, samples, and a cut-off. It is written down as an
//! operation, which [`Admin::carry_out`](super::Admin::carry_out) carries out later, perhaps in another process.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use super::{
    AdminError, Answer, Count, Letter, LetterSource, RecordFilter, RecordInfo, RecordState,
    desk::{Desk, doing, time_of},
    letters::{LISTED, ListedRow},
    operations::NewOperation,
    records::{InfoRow, info_columns},
    services::ServiceTables,
    walk::{MOST_LOOKED_AT, Walk},
};
use crate::{
    OutboxDatabase,
    broker::DeadLetterFilter,
    database::{DbResult, Driver, limits::moment},
};

/// How many of those that are meant a plan shows.
const SAMPLES: usize = 5;

/// How long a plan waits behind its cut-off before it counts. Letters that died before the cut-off may be in
/// transactions that commit a moment later.
const SETTLING: Duration = Duration::from_millis(100);

/// What is done with many letters or records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Dead letters go back to their service, which alone gets them again, with the same ids.
    Replay,
    /// Failed or unroutable records become pending and due, attempts forgotten.
    Retry,
    /// Dead letters, or failed or unroutable records, are deleted for good.
    Discard,
}

/// `replay`, `retry` or `discard`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replay => "replay",
            Self::Retry => "retry",
            Self::Discard => "discard",
        })
    }
}

/// What a plan is about: dead letters, or records.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Selection {
    /// Dead letters, of the log and collected ones.
    Letters(DeadLetterFilter),
    /// Records of the outbox: failed ones, unless the filter names [`Unroutable`](super::RecordState::Unroutable).
    Records(RecordFilter),
}

impl From<DeadLetterFilter> for Selection {
    fn from(filter: DeadLetterFilter) -> Self {
        Self::Letters(filter)
    }
}

impl From<&DeadLetterFilter> for Selection {
    fn from(filter: &DeadLetterFilter) -> Self {
        Self::Letters(filter.clone())
    }
}

impl From<RecordFilter> for Selection {
    fn from(filter: RecordFilter) -> Self {
        Self::Records(filter)
    }
}

impl From<&RecordFilter> for Selection {
    fn from(filter: &RecordFilter) -> Self {
        Self::Records(filter.clone())
    }
}

/// One of those that a plan means.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Sample {
    /// A dead letter.
    Letter(Letter),
    /// A record.
    Record(RecordInfo),
}

/// What a bulk action would do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The number of its operation. 0 if nothing is meant: an empty plan is not written down.
    pub id: i64,
    /// The service.
    pub service: String,
    /// The action.
    pub action: Action,
    /// The filter, as a person reads it.
    pub filter: String,
    /// How many letters or records are meant.
    pub count: Count,
    /// Up to five of them, the first ones.
    pub sample: Vec<Sample>,
    /// What dies or fails after this moment of the database's clock is not touched.
    pub cut_off: SystemTime,
}

/// How quickly a plan is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace(pub(super) u32);

impl Pace {
    /// As quickly as the database can.
    #[must_use]
    pub fn unlimited() -> Self {
        Self(u32::MAX)
    }

    /// So many letters or records in a second at most; 1 at least.
    #[must_use]
    pub fn per_second(number: u32) -> Self {
        Self(number.max(1))
    }
}

/// Up to where a plan goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct CutOff {
    /// The moment up to which letters of the log have died, and records have failed.
    pub(super) at: i64,
    /// The highest number of a collected letter. Those have died before they were collected, so a moment would tell
    /// nothing.
    pub(super) seq: i64,
}

/// A part of what a plan means: a table, and the walk along it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlanPart {
    Letters(LetterSource),
    Records(RecordState),
}

impl Selection {
    /// Checks that a plan can be made of it. Records are failed ones unless the filter says something else.
    fn checked(self, action: Action) -> Answer<Self> {
        let wrong = |text| Err(AdminError::InvalidFilter(text));
        match (action, &self) {
            (Action::Replay, Self::Records(_)) => wrong(
                "records are not replayed but retried; to replay takes a filter of dead letters",
            ),
            (Action::Retry, Self::Letters(_)) => wrong(
                "dead letters are not retried but replayed; to retry takes a filter of records",
            ),
            (_, Self::Letters(DeadLetterFilter { after: Some(_), .. }))
            | (_, Self::Records(RecordFilter { after: Some(_), .. })) => {
                wrong("a plan cannot begin at a place of a list; leave `after` out")
            }
            // Every reason contains it, so the filter would mean all.
            (_, selection) if selection.words().reason.as_deref() == Some("") => {
                wrong("an empty text is in every reason; leave `reason` out to mean all")
            }
            _ => match self {
                Self::Records(mut filter) => {
                    let can = [RecordState::Failed, RecordState::Unroutable];
                    if !filter.states.iter().all(|state| can.contains(state)) {
                        return wrong(
                            "only failed and unroutable records can be retried or discarded; the others are \
                             being sent, or are done",
                        );
                    }
                    if filter.states.is_empty() {
                        filter.states.push(RecordState::Failed);
                    }
                    Ok(Self::Records(filter))
                }
                letters => Ok(letters),
            },
        }
    }

    /// Its parts, in the order in which they are carried out.
    pub(super) fn parts(&self, tables: &ServiceTables) -> Vec<PlanPart> {
        match self {
            Self::Letters(_) => {
                let sources = LetterSource::ALL.into_iter();
                let sources = sources.filter(|source| source.is_in(tables));
                sources.map(PlanPart::Letters).collect()
            }
            Self::Records(_) if !tables.has_outbox() => Vec::new(),
            Self::Records(filter) => filter
                .states
                .iter()
                .copied()
                .map(PlanPart::Records)
                .collect(),
        }
    }

    /// The walk along a part, up to the cut-off.
    pub(super) fn walk<'a, DB: Driver>(
        &'a self,
        part: PlanPart,
        tables: &'a ServiceTables,
        cut_off: CutOff,
    ) -> Option<Walk<'a>> {
        let mut walk = match (part, self) {
            (PlanPart::Letters(source), Self::Letters(filter)) => source.walk::<DB>(tables, filter),
            (PlanPart::Records(state), Self::Records(filter)) => Walk {
                filter: filter.condition(DB::DIALECT, tables.has_sent_as()),
                ..state.walk(DB::DIALECT, tables)
            },
            _ => return None,
        };
        let (bound, value) = match part {
            PlanPart::Letters(LetterSource::Log) => ("died_at <= ?".to_owned(), cut_off.at),
            PlanPart::Letters(LetterSource::Collected) => ("seq <= ?".to_owned(), cut_off.seq),
            // When it failed: the broker's last answer. A record that was never sent has none.
            PlanPart::Records(_) => {
                let at = time_of(DB::DIALECT, "?");
                (format!("COALESCE(sent_at, created_at) <= {at}"), cut_off.at)
            }
        };
        let (filter, values) = &mut walk.filter;
        if !filter.is_empty() {
            filter.push_str(" AND ");
        }
        filter.push_str(&bound);
        values.push(value.into());
        Some(walk)
    }
}

impl<DB: OutboxDatabase> Desk<DB> {
    /// Makes a plan and writes it down.
    pub(super) async fn plan(
        &self,
        tables: &ServiceTables,
        action: Action,
        selection: Selection,
        who: &str,
    ) -> Answer<Plan> {
        let selection = selection.checked(action)?;
        self.ready_for_operations().await?;
        let planned = self.look_ahead(tables, selection).await;
        let (selection, cut_off, total, sample) =
            planned.map_err(doing("counting what a plan means"))?;
        let service = tables.service.as_str();
        let id = match total.is_zero() {
            true => 0,
            false => {
                let new = NewOperation {
                    service,
                    who,
                    action,
                    selection: &selection,
                    cut_off,
                    total,
                };
                let written = self.write_down(&new).await;
                written.map_err(doing("writing a plan down"))?
            }
        };
        Ok(Plan {
            id,
            service: service.to_owned(),
            action,
            filter: selection.sentence(),
            count: total,
            sample,
            cut_off: moment(cut_off.at),
        })
    }

    /// The cut-off, the count, and samples.
    async fn look_ahead(
        &self,
        tables: &ServiceTables,
        selection: Selection,
    ) -> DbResult<(Selection, CutOff, Count, Vec<Sample>)> {
        let cut_off = self.cut_off(tables).await?;
        let selection = selection.fixed_at(cut_off.at);
        let (mut total, mut sample) = (Count::default(), Vec::new());
        let mut left = MOST_LOOKED_AT;
        for part in selection.parts(tables) {
            let walk = || selection.walk::<DB>(part, tables, cut_off);
            let (Some(counted), Some(sampled)) = (walk(), walk()) else {
                continue;
            };
            total = total.plus(counted.count(self, &mut left).await?);
            let missing = SAMPLES - sample.len();
            if missing == 0 {
                continue;
            }
            let looked_at = &mut { MOST_LOOKED_AT };
            match part {
                PlanPart::Letters(source) => {
                    let (rows, _) = sampled
                        .read::<DB, ListedRow>(self, LISTED, missing, looked_at)
                        .await?;
                    let service = tables.service.as_str();
                    let letters = rows.into_iter().map(|row| row.letter(source, service));
                    sample.extend(letters.map(Sample::Letter));
                }
                PlanPart::Records(_) => {
                    let columns = info_columns(DB::DIALECT, tables);
                    let (rows, _) = sampled
                        .read::<DB, InfoRow>(self, &columns, missing, looked_at)
                        .await?;
                    let records = rows.into_iter().map(|row| row.info(&[]));
                    sample.extend(records.map(Sample::Record));
                }
            }
        }
        if let Some(limit) = selection.words().limit {
            total = total.at_most(limit);
            sample.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        Ok((selection, cut_off, total, sample))
    }

    /// A moment that is over, and the highest number of a collected letter.
    async fn cut_off(&self, tables: &ServiceTables) -> DbResult<CutOff> {
        let seq = match LetterSource::Collected.is_in(tables) {
            false => None,
            true => {
                let table = LetterSource::Collected.table::<DB>(tables);
                let highest = format!("SELECT MAX(seq) FROM {table}");
                self.first::<Option<i64>>(&highest, &[]).await?.flatten()
            }
        };
        let at = self.now().await?;
        // What dies from now on must have a later moment, also by a clock of milliseconds.
        loop {
            tokio::time::sleep(SETTLING).await;
            if self.now().await? > at {
                return Ok(CutOff {
                    at,
                    seq: seq.unwrap_or(i64::MIN),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_by_an_empty_reason_is_refused_and_not_taken_for_all() {
        let letters = DeadLetterFilter::all();
        let records = RecordFilter::all();
        for (part, is_refused) in [("", true), (" ", false), ("no queue", false)] {
            let of_letters = Selection::from(letters.clone().reason(part)).checked(Action::Discard);
            let of_records = Selection::from(records.clone().reason(part)).checked(Action::Retry);

            assert_eq!(
                (of_letters.is_err(), of_records.is_err()),
                (is_refused, is_refused),
                "{part:?}"
            );
        }
    }
}
