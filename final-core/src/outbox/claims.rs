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

use std::collections::HashSet;

use uuid::Uuid;

use super::{
    OutboxDatabase,
    record::{Claimed, Position, RecordRow},
    table::Table,
};
use crate::{
    database::{
        DbResult, columns,
        limits::{CLAIM_BYTES, micros},
        statement::Arguments,
    },
    runtime::counter::Counter,
};

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

columns! {
    /// A record that is due: where it stands in the order of what is due, and the bytes of its payload.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Due {
        position: i64,
        message_id: Uuid,
        bytes: i64,
    }
}

columns! {
    /// The number of the last claim, and a live one: where it begins and ends.
    struct ClaimRow {
        number: i64,
        first_at: Option<i64>,
        first_id: Option<Uuid>,
        last_at: Option<i64>,
        last_id: Option<Uuid>,
    }
}

impl Due {
    fn position(&self) -> Position {
        Position {
            available_at: self.position,
            id: self.message_id,
        }
    }
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
pub(super) struct FreeRange {
    pub(super) after: Position,
    pub(super) before: Option<Position>,
    /// Whether a live claim ends there where it begins.
    touches: bool,
}

impl Claim {
    /// Where its last record stands.
    pub(crate) fn last(&self) -> Position {
        self.stretch.last
    }
}

impl FreeRange {
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
    fn read(rows: &[ClaimRow]) -> Self {
        let position = |at: Option<i64>, id: Option<Uuid>| {
            Some(Position {
                available_at: at?,
                id: id?,
            })
        };
        let live = rows.iter().filter_map(|row| {
            Some(Stretch {
                first: position(row.first_at, row.first_id)?,
                last: position(row.last_at, row.last_id)?,
            })
        });
        let mut live: Vec<_> = live.collect();
        live.sort_unstable();
        Self {
            last: rows.first().map_or(0, |row| row.number),
            live,
        }
    }

    /// The first gap behind a place.
    fn gap(&self, after: Position) -> FreeRange {
        let mut gap = FreeRange {
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

impl<DB: OutboxDatabase> Table<'_, DB> {
    /// Claims up to `most` due pending records for the owner, oldest first, after `after`; `None` if there
    /// are none.
    ///
    /// A claim ends early, after at least one record, where its payloads would be more than 16 MiB.
    ///
    /// `asked` counts the statements. Each stands alone, so a process that stops in between holds up no
    /// other. Of two that look at the same time only the first can write its claim, and the other looks
    /// again.
    pub(crate) async fn claim(
        self,
        after: Option<Position>,
        most: u32,
        asked: &Counter,
    ) -> DbResult<Option<Claim>> {
        self.within(self.try_to_claim(after.unwrap_or(Position::START), most, asked))
            .await
    }

    async fn try_to_claim(
        self,
        after: Position,
        most: u32,
        asked: &Counter,
    ) -> DbResult<Option<Claim>> {
        for _ in 0..TRIES {
            asked.add(1);
            let claims = self.claims().await?;
            let mut gap = claims.gap(after);
            let due = loop {
                asked.add(1);
                let mut due = self.look(gap, most).await?;
                if !due.is_empty() {
                    // A row that changes while it is being locked can come out of turn.
                    due.sort_unstable_by_key(Due::position);
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
                first: gap.first(first.position()),
                last: last.position(),
            };
            asked.add(1);
            if !self.reserve(claims.last, stretch).await? {
                continue;
            }
            let number = claims.last + 1;
            if number % KEPT == 0 {
                asked.add(1);
                // What is not forgotten now is the next time.
                let _ = self.forget(number - KEPT).await;
            }
            let is_full =
                gap.before.is_some() || due.len() >= most as usize || fits.len() < due.len();
            return Ok(Some(Claim {
                number,
                stretch,
                ids: fits.iter().map(|due| due.message_id).collect(),
                is_full,
            }));
        }
        Ok(None)
    }

    /// Reads the records of a claim, in order.
    pub(crate) async fn read(self, claim: &Claim) -> DbResult<Vec<Claimed>> {
        // Twice as many, for what was committed in their midst since. What is left out is due when the claim
        // is finished.
        let most = u32::try_from(claim.ids.len() * 2).unwrap_or(u32::MAX);
        let arguments = claim.stretch.arguments().into_iter();
        let arguments = arguments.chain([("most", most.into())]).collect();
        let rows: Vec<RecordRow> = self.rows(&self.statements.read, arguments).await?;
        let claimed = rows.into_iter().map(RecordRow::claimed);
        let is_seen = |claimed: &Claimed| claim.ids.contains(&claimed.position.id);
        Ok(claimed.filter(is_seen).collect())
    }

    /// Ends claims of the owner: what is left of them is due.
    pub(crate) async fn finish(self, numbers: &[i64]) -> DbResult<u64> {
        let finish = &self.statements.finish;
        let mut finished = 0;
        for numbers in numbers.chunks(finish.longest()) {
            let arguments = vec![("numbers", numbers.into()), ("owner", self.owner.into())];
            finished += self.run(finish, arguments).await?;
        }
        Ok(finished)
    }

    /// Which claims there are.
    pub(super) async fn claims(self) -> DbResult<Claims> {
        let rows: Vec<ClaimRow> = self.rows(&self.statements.claims, Vec::new()).await?;
        Ok(Claims::read(&rows))
    }

    /// Where up to `most` due pending records in the gap stand, and their payloads' bytes. Those that another
    /// session has locked are passed over.
    ///
    /// Without the payloads: its locks last until the answer is sent, which a process that has stopped must
    /// not draw out.
    pub(super) async fn look(self, gap: FreeRange, most: u32) -> DbResult<Vec<Due>> {
        let (after, before) = (gap.after, gap.end());
        let arguments = vec![
            ("after_at", after.available_at.into()),
            ("after_id", after.id.into()),
            ("before_at", before.available_at.into()),
            ("before_id", before.id.into()),
            ("most", most.into()),
        ];
        self.rows(&self.statements.look, arguments).await
    }

    /// Writes a claim, with the number that follows upon `last`. False if there is one after `last`.
    pub(super) async fn reserve(self, last: i64, stretch: Stretch) -> DbResult<bool> {
        let mut arguments = vec![
            ("last", last.into()),
            ("owner", self.owner.into()),
            ("lease", micros(self.lease).into()),
        ];
        arguments.extend(stretch.arguments());
        match self.run(&self.statements.reserve, arguments).await {
            Ok(written) => Ok(written == 1),
            // Of two that write the same number at once.
            Err(error) if DB::is_deadlock(&error) => Ok(false),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes claims up to this number that have ended.
    async fn forget(self, number: i64) -> DbResult<u64> {
        let number = vec![("number", number.into())];
        self.run(&self.statements.forget, number).await
    }
}

impl Stretch {
    fn arguments(self) -> Arguments<'static> {
        vec![
            ("first_at", self.first.available_at.into()),
            ("first_id", self.first.id.into()),
            ("last_at", self.last.available_at.into()),
            ("last_id", self.last.id.into()),
        ]
    }
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
            position: 0,
            message_id: Uuid::nil(),
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
        let claims = Claims::read(&[ClaimRow {
            number: 0,
            first_at: None,
            first_id: None,
            last_at: None,
            last_id: None,
        }]);

        assert_eq!(claims, Claims::default());
    }
}
