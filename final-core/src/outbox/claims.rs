//! Claims: a stretch of what is due, leased to one process as a whole.
//!
//! To write the owner into each record would write the record anew, with its entry in two indexes, only to
//! delete it a moment later: for the database as much work as everything else on the way out. So a claim
//! is one row beside the records: from which to which, whose, until when.
//!
//! ```text
//!   records by (available_at, message_id):  · · ┃■ ■ ■ ■┃■ ■ ■┃· · · · ·
//!                                               ┃claim 7┃  8  ┃  └ due, free
//!
//!   reserved ──▶ live ──▶ finished: every record of it is settled, or has been given back
//!                   └───▶ run out: its process is gone; what is left of it is due again
//! ```
//!
//! A claim that follows upon a live one begins at its end and not at its own first record: the place in
//! between has been looked at, and each who comes after would do it again.
//!
//! A record that stays longer than a third of the lease is renewed by itself, and its lease then stands in
//! its own row, as with records that were never due: those that a process writes and hands over.

use std::{collections::HashSet, time::Duration};

use sqlx::Pool;
use uuid::Uuid;

use super::{Claimed, OutboxDatabase, Position};
use crate::counter::Counter;
use crate::database::{DbResult, limits::CLAIM_BYTES};

/// How often a claim is tried that others come before. Each of those was a claim that took place.
const TRIES: u32 = 16;

/// How many claims are kept, whatever became of them. A claim is refused where it does not follow upon
/// the last one it saw, so that must not be gone before the claim is written.
const KEPT: i64 = 64;

/// A claim of this process.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) number: i64,
    stretch: Stretch,
    /// The records that were seen. What else shows in their midst stays where it is.
    ids: HashSet<Uuid>,
    /// Whether there may be more: it ended at its limits, or where another process has claimed.
    pub(crate) is_full: bool,
}

/// A record that is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) position: Position,
    /// Of its payload.
    pub(super) bytes: i64,
}

/// The claims there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    /// The number of the last one.
    last: i64,
    /// Those that are neither finished nor have run out, in order.
    live: Vec<Stretch>,
}

/// From one record to another; both belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stretch {
    pub(super) first: Position,
    pub(super) last: Position,
}

/// A place without a live claim; neither end belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) after: Position,
    pub(super) before: Option<Position>,
    /// Whether a live claim ends there where it begins.
    touches: bool,
}

/// The number of the last claim, and a live one: where it begins and ends.
pub(super) type ClaimsRow = (i64, Option<i64>, Option<Uuid>, Option<i64>, Option<Uuid>);

impl Claim {
    /// Where its last record stands.
    pub(crate) fn last(&self) -> Position {
        self.stretch.last
    }
}

impl Gap {
    /// Its end, or a place behind everything that is due.
    pub(super) fn end(&self) -> Position {
        self.before.unwrap_or(Position::END)
    }

    /// Where a claim in it begins if `seen` is its first record.
    fn first(&self, seen: Position) -> Position {
        match self.touches {
            true => self.after.next(),
            false => seen,
        }
    }
}

impl Claims {
    /// Reads the rows of one look at the table: at least one.
    pub(super) fn read(rows: Vec<ClaimsRow>) -> Self {
        let position = |at: Option<i64>, id: Option<Uuid>| {
            Some(Position {
                available_at: at?,
                id: id?,
            })
        };
        let live = rows.iter().filter_map(|row| {
            Some(Stretch {
                first: position(row.1, row.2)?,
                last: position(row.3, row.4)?,
            })
        });
        let mut live: Vec<_> = live.collect();
        live.sort_unstable();
        Self {
            last: rows.first().map_or(0, |row| row.0),
            live,
        }
    }

    /// The first gap behind a place.
    fn gap(&self, after: Position) -> Gap {
        let mut gap = Gap {
            after,
            before: None,
            touches: false,
        };
        for stretch in &self.live {
            if stretch.first > gap.after.next() {
                gap.before = Some(stretch.first);
                break;
            }
            if stretch.last >= gap.after {
                (gap.after, gap.touches) = (stretch.last, true);
            }
        }
        gap
    }
}

/// Claims up to `limit` due pending records for `owner`, oldest first, after `after`; `None` if there are
/// none.
///
/// A claim ends early, after at least one record, where its payloads would be more than 16 MiB.
///
/// `asked` counts the statements. Each stands alone, so a process that stops in between holds up nobody. Of
/// two that look at the same time only the first can write its claim, and the other looks again.
pub(crate) async fn claim<DB: OutboxDatabase>(
    relay: &Pool<DB>,
    statements: &DB::Statements,
    after: Option<Position>,
    limit: u32,
    owner: Uuid,
    lease: Duration,
    asked: &Counter,
) -> DbResult<Option<Claim>> {
    let after = after.unwrap_or(Position::START);
    for _ in 0..TRIES {
        asked.add(1);
        let claims = DB::claims(relay, statements).await?;
        let mut gap = claims.gap(after);
        let due = loop {
            asked.add(1);
            let mut due = DB::look(relay, statements, gap, limit).await?;
            if !due.is_empty() {
                // A row that changes while it is being locked can come out of turn.
                due.sort_unstable_by_key(|due| due.position);
                break due;
            }
            match gap.before {
                Some(before) => gap = claims.gap(before),
                None => return Ok(None),
            }
        };
        let fits = fitting(&due);
        let (Some(first), Some(last)) = (fits.first(), fits.last()) else {
            return Ok(None);
        };
        let stretch = Stretch {
            first: gap.first(first.position),
            last: last.position,
        };
        asked.add(1);
        if !DB::reserve(relay, statements, claims.last, owner, lease, stretch).await? {
            continue;
        }
        let number = claims.last + 1;
        if number % KEPT == 0 {
            asked.add(1);
            // What is not forgotten now is the next time.
            let _ = DB::forget(relay, statements, number - KEPT).await;
        }
        return Ok(Some(Claim {
            number,
            stretch,
            ids: fits.iter().map(|due| due.position.id).collect(),
            is_full: gap.before.is_some() || due.len() >= limit as usize || fits.len() < due.len(),
        }));
    }
    Ok(None)
}

/// Reads the records of a claim, in order.
pub(crate) async fn read<DB: OutboxDatabase>(
    relay: &Pool<DB>,
    statements: &DB::Statements,
    claim: &Claim,
) -> DbResult<Vec<Claimed>> {
    // Twice as many, for what was committed in their midst since. What is left out is due when the claim
    // is finished.
    let most = u32::try_from(claim.ids.len() * 2).unwrap_or(u32::MAX);
    let mut claimed = DB::read(relay, statements, claim.stretch, most).await?;
    claimed.retain(|claimed| claim.ids.contains(&claimed.position.id));
    Ok(claimed)
}

/// How many from the front one claim may carry.
fn fitting(due: &[Due]) -> &[Due] {
    let mut before = 0;
    let fits = due.iter().take_while(|due| {
        let fits = before < CLAIM_BYTES;
        before += due.bytes;
        fits
    });
    &due[..fits.count()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(available_at: i64) -> Position {
        Position {
            available_at,
            id: Uuid::nil(),
        }
    }

    proptest! {
        /// However claims lie, also over one another: which those of a clock that went back may.
        #[test]
        fn gaps_are_all_that_no_live_claim_has(
            stretches in prop::collection::vec((0..40_i64, 0..5_i64), 0..8),
        ) {
            let mut claims = Claims {
                last: 0,
                live: stretches.iter().map(|(first, more)| Stretch { first: at(*first), last: at(first + more) }).collect(),
            };
            claims.live.sort_unstable();
            let mut free = Vec::new();
            let mut gap = claims.gap(at(-1));
            loop {
                let end = gap.before.map_or(50, |before| before.available_at);
                free.extend(gap.after.available_at + 1..end);
                match gap.before {
                    Some(before) => gap = claims.gap(before),
                    None => break,
                }
            }

            let is_claimed = |place: &i64| {
                stretches.iter().any(|(first, more)| (*first..=first + more).contains(place))
            };
            let expected: Vec<i64> = (0..50).filter(|place| !is_claimed(place)).collect();
            prop_assert_eq!(free, expected);
        }
    }

    fn sizes(bytes: impl IntoIterator<Item = i64>) -> usize {
        let due = bytes.into_iter().map(|bytes| Due {
            position: at(0),
            bytes,
        });
        fitting(&due.collect::<Vec<_>>()).len()
    }

    #[test]
    fn a_claim_ends_where_its_payloads_become_too_large() {
        assert_eq!(sizes([CLAIM_BYTES / 3 + 1; 9]), 3);
    }

    #[test]
    fn one_record_is_claimed_however_large() {
        assert_eq!(sizes([CLAIM_BYTES * 2]), 1);
    }

    #[test]
    fn of_an_empty_table_no_claim_is_read() {
        let claims = Claims::read(vec![(0, None, None, None, None)]);

        assert_eq!(claims, Claims::default());
    }
}
