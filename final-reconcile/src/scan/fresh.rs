//! Rows with new ids, also those that become visible late.
//!
//! Input: the ids of the source. State: the last id that was compared, and the ids below it that were not there; both are
//! stored. Output: suspects.
//!
//! A row is compared when its id was the newest for as long as the copy may take, or when the mirror has passed it, so that
//! most rows have been copied by then.

use std::{collections::VecDeque, time::Duration};

use futures::future::BoxFuture;

use super::{
    column::{ColumnReader, PAGE, Placed},
    context::{Context, Ended},
    gaps::{Gaps, missed},
    progress::FreshIds,
    round::Scan,
    store::{ScanKind, Standing, Step, Tally},
};
use crate::{
    error::{ReconcileError, Reconciled},
    form::{Form, Row, time::micros_of},
    job::scans::FreshScan,
    mirror::stand::later,
};

/// How far before the newest id a scan without a stored position begins.
const BEFORE: i64 = 10_000;

/// How many ranges with gaps are read in one round, and after how many pages it ends. Gaps that are near to each other are
/// read together.
const RANGES: usize = 50;
const NEAR: i64 = 100;
const PAGES: usize = 20;

/// How many times at which an id was the newest are kept.
const MOST_TIMES: usize = 10_000;

/// The shortest pause between two rounds.
const LEAST: Duration = Duration::from_millis(20);

pub(super) struct Fresh {
    wanted: FreshScan,
    look_back: Duration,
    /// The newest id at some times of the past, the earliest first.
    newest: VecDeque<(i64, i64)>,
    /// The id at which the next round goes on to look for gaps.
    place: i64,
    /// When the look at all gaps has begun that is under way.
    looks_since: i64,
}

impl Fresh {
    pub(super) fn new(wanted: FreshScan, look_back: Duration) -> Self {
        Self {
            wanted,
            look_back,
            newest: VecDeque::new(),
            place: i64::MIN,
            looks_since: i64::MIN,
        }
    }

    /// The id that was the newest at a time before.
    fn settled(&mut self, now: i64, newest: i64, before: i64) -> Option<i64> {
        if self.newest.back().is_some_and(|last| now < last.0) {
            // The clock was set back.
            self.newest.clear();
        }
        if self.newest.back().is_none_or(|last| last.1 != newest) {
            if self.newest.len() >= MOST_TIMES {
                // The mirror stands still. What is told too late is compared all the same.
                self.newest.pop_back();
            }
            self.newest.push_back((now, newest));
        }
        while self.newest.get(1).is_some_and(|second| second.0 <= before) {
            self.newest.pop_front();
        }
        let first = self.newest.front().filter(|first| first.0 <= before);
        first.map(|first| first.1)
    }

    async fn one(&mut self, context: &Context) -> Result<Duration, Ended> {
        let pause = self.wanted.every.max(LEAST);
        let standing = context.standing().await?;
        let tables = context.tables().await?;
        let ids = self.wanted.ids(&tables.plan.source)?;
        let reader = ColumnReader::new(&tables, ids, Form::Integer);
        let newest = match reader.last().await? {
            Some(newest) => Some(id(&reader, &newest)?),
            None => None,
        };
        let stored = standing.fresh.as_deref().map(FreshIds::read).transpose();
        let stored = stored.map_err(|problem| unreadable(context, problem))?;
        let stored = match stored {
            Some(ids) if ids.column != reader.name() => {
                let (scan, before) = (ScanKind::Fresh, &ids.column);
                context.begins_anew(scan, before, reader.name()).await?;
                None
            }
            stored => stored,
        };
        let mut ids = match stored {
            Some(ids) => ids,
            None => {
                self.newest.clear();
                self.place = i64::MIN;
                let first = match (self.wanted.first, newest) {
                    (Some(first), _) => first.saturating_sub(1),
                    (None, Some(newest)) => newest.saturating_sub(BEFORE),
                    // All rows are new that an empty table gets.
                    (None, None) => i64::MIN,
                };
                let ids = FreshIds {
                    column: reader.name().to_owned(),
                    last: first,
                    gaps: Gaps::default(),
                };
                context.save(&step(&ids, 0)).await?;
                ids
            }
        };
        let Some(newest) = newest else {
            return Ok(pause);
        };
        if self.place == i64::MIN {
            self.looks_since = standing.now_at;
        }
        self.come_late(context, &reader, &mut ids).await?;
        if self.place == i64::MIN {
            // Each gap was looked at since then. Before that, no process may have run for long, and its row may have come.
            let looked = self.looks_since;
            ids.gaps
                .forget(looked.saturating_sub(micros_of(self.look_back)));
        }
        let settle = micros_of(context.settle());
        let (now, before) = match &tables.pulse {
            None => (standing.now_at, Some(standing.now_at)),
            Some(pulse) => {
                let stand = pulse.look().await?;
                (later(stand.now), stand.passed())
            }
        };
        let before = before.map_or(i64::MIN, |before| before.saturating_sub(settle));
        if let Some(until) = self.settled(now, newest, before) {
            self.come(context, &reader, &mut ids, until, &standing)
                .await?;
        }
        Ok(pause)
    }

    /// Rows with ids above the last one.
    async fn come(
        &self,
        context: &Context,
        reader: &ColumnReader,
        ids: &mut FreshIds,
        until: i64,
        standing: &Standing,
    ) -> Result<(), Ended> {
        let missed = missed(standing.now_at, micros_of(self.look_back));
        let mut after = reader.behind(ids.last);
        while ids.last < until {
            let page = reader.page(after.as_ref(), &until.to_string()).await?;
            let is_last = (page.len() as u64) < PAGE;
            let mut next = ids.last.saturating_add(1);
            for row in &page {
                let id = id(reader, &row.value)?;
                ids.gaps.add(next, id.saturating_sub(1), missed);
                next = next.max(id.saturating_add(1));
            }
            match (page.last(), is_last) {
                (Some(last), false) => {
                    after = Some(last.place.clone());
                    // Other rows may have the same id, if it is not the key.
                    ids.last = id(reader, &last.value)?.saturating_sub(1).max(ids.last);
                }
                _ => {
                    ids.gaps.add(next, until, missed);
                    ids.last = until;
                }
            }
            examine(context, ids, &page).await?;
        }
        Ok(())
    }

    /// Rows with ids that were not there when later ones were.
    async fn come_late(
        &mut self,
        context: &Context,
        reader: &ColumnReader,
        ids: &mut FreshIds,
    ) -> Result<(), Ended> {
        let ranges = ids.gaps.ranges(self.place, RANGES, NEAR);
        let is_all = ranges.len() < RANGES;
        let mut pages = 0;
        for (mut from, to) in ranges {
            let mut after = reader.behind(from.saturating_sub(1));
            loop {
                let page = reader.page(after.as_ref(), &to.to_string()).await?;
                pages += 1;
                let Some(last) = page.last() else {
                    break;
                };
                let is_full = page.len() as u64 >= PAGE;
                let until = id(reader, &last.value)?;
                after = Some(last.place.clone());
                let (mut came, mut late) = (Vec::new(), Vec::new());
                for row in page {
                    let id = id(reader, &row.value)?;
                    if ids.gaps.has(id) {
                        late.push(row);
                        came.push(id);
                    }
                }
                if is_full {
                    // Other rows may have the same id, if it is not the key.
                    came.retain(|id| *id < until);
                }
                if !late.is_empty() {
                    ids.gaps.close((from, until), &came);
                    examine(context, ids, &late).await?;
                }
                if !is_full {
                    break;
                }
                if pages >= PAGES && until > from {
                    self.place = until;
                    return Ok(());
                }
                from = until;
            }
            self.place = to.saturating_add(1);
        }
        if is_all {
            self.place = i64::MIN;
        }
        Ok(())
    }
}

impl Scan for Fresh {
    fn kind(&self) -> ScanKind {
        ScanKind::Fresh
    }

    fn round<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, Result<Duration, Ended>> {
        Box::pin(self.one(context))
    }
}

fn step(ids: &FreshIds, rows: usize) -> Step {
    let tally = Tally {
        rows: rows as u64,
        ..Tally::default()
    };
    Step {
        scan: ScanKind::Fresh,
        position: Some(ids.text()),
        tallies: match rows {
            0 => Vec::new(),
            _ => vec![(ScanKind::Fresh, None, tally)],
        },
        ..Step::default()
    }
}

/// Compares the rows of a page, and stores the position behind it.
async fn examine(context: &Context, ids: &FreshIds, page: &[Placed]) -> Result<(), Ended> {
    let keys: Vec<Row> = page.iter().map(|row| row.key.clone()).collect();
    let suspects = context.examine(&keys).await?;
    let step = Step {
        due: context.due(&suspects).await?,
        suspects,
        ..step(ids, page.len())
    };
    context.save(&step).await
}

fn id(reader: &ColumnReader, text: &str) -> Reconciled<i64> {
    text.parse().map_err(|_| ReconcileError::Row {
        side: reader.shown().to_owned(),
        problem: "an id is no whole number of 64 bits with a sign".into(),
    })
}

fn unreadable(context: &Context, problem: String) -> ReconcileError {
    context.unit.job.wrong(&problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_settled_once_it_was_the_newest_for_as_long_as_a_copy_may_take() {
        let wanted = FreshScan {
            every: Duration::ZERO,
            column: None,
            first: None,
        };
        let mut fresh = Fresh::new(wanted, Duration::ZERO);
        let mut settled = |now, newest| fresh.settled(now, newest, now - 10);
        assert_eq!(settled(0, 5), None);
        assert_eq!(settled(9, 7), None);
        assert_eq!(settled(10, 8), Some(5));
        assert_eq!(settled(19, 8), Some(7));
        assert_eq!(settled(30, 8), Some(8));
    }
}
