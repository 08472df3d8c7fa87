//! Claims: a range of due records, leased to one process by one row.
//!
//! Input: a position, how many records are wanted, and the live claims of all processes. State: the rows of
//! `final_<service>_claims`. Output: a [`Claim`] on records that no other live claim covers, and those records.
//!
//! ```text
//!   records by (available_at, message_id):  · · ┃■ ■ ■ ■┃■ ■ ■┃· · · · ·
//!                                               ┃claim 7┃  8  ┃  └ due, free
//!
//!   claims ─▶ gap ─▶ look ─┬─ due records ─▶ reserve number 9 ─┬─ written ─▶ live
//!     ▲                    └─ none ─▶ the next gap             └─ another process was first ─┐
//!     └──────────────────────────────────────────────────────────────────────────────────────┘
//!
//!   live ─┬─▶ finished: each of its records is settled or released
//!         └─▶ run out: its process is gone, and the records that are left are due again
//! ```
//!
//! Without claims the owner would be written into each record. That would write the record anew, with its
//! entries in two indexes, only to delete it a moment later: as much work for the database as all the rest of
//! the way out.
//!
//! If a live claim ends where a gap begins, the next claim begins right behind it and not at its own first
//! record. The place in between was looked at already, and would otherwise be looked at again by each later
//! claim.
//!
//! A record that stays in flight for longer than a third of the lease is renewed by itself. From then on its
//! lease stands in its own row. A record that is handed over right after its COMMIT has its lease there from
//! the start.

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

/// How often a claim is tried while other processes are faster. Each of these tries means that another process
/// has claimed something, so the records move all the same.
const TRIES: u32 = 16;

/// How many of the newest claims stay in the table, also when they have ended. A claim is written only if the
/// highest number is still the one that was read before. So the row with that number must not be gone by then.
const KEPT: i64 = 64;

/// A claim of this process: a range, and the records that were seen in it.
#[derive(Debug)]
pub(crate) struct Claim {
    /// The key of its row, by which it is finished.
    pub(crate) number: i64,
    stretch: Stretch,
    /// The records that were due when the claim was made. Records between them that become visible later are
    /// not part of the claim: they are due once it is finished.
    ids: HashSet<Uuid>,
    /// Whether more records may be due behind it: it ended at its limits, or at a claim of another process.
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
    /// The record's place in the order of what is due.
    fn position(&self) -> Position {
        Position {
            available_at: self.position,
            id: self.message_id,
        }
    }
}

/// The claims of all processes, by one look at the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    /// The highest number of a claim. 0 if there is none.
    last: i64,
    /// The ranges of claims that are neither finished nor run out, in order. They overlap if the database's
    /// clock went back.
    live: Vec<Stretch>,
}

/// A range of records. Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stretch {
    pub(super) first: Position,
    pub(super) last: Position,
}

/// A range without a live claim. Neither end belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FreeRange {
    pub(super) after: Position,
    /// Where the next live claim begins. `None` if no live claim follows.
    pub(super) before: Option<Position>,
    /// Whether a live claim ends at `after`, so that the next claim can begin right behind that one.
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

    /// The first free range behind a position. If the position lies within a live claim, the range begins at
    /// the end of that claim.
    ///
    /// ```text
    ///   live claims:  ····┃■■■■┃······┃■■┃■■■┃········
    ///   free ranges:  ────      ──────        ────────
    /// ```
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
    /// Claims up to `most` due pending records behind `after` for the owner, the oldest first. `None` if no
    /// record is due, or if other processes were faster at every try.
    ///
    /// A claim ends early at the record with which its payloads reach 16 MiB.
    ///
    /// `asked` counts the statements. No transaction spans them, so a process that stops between two of them
    /// holds no lock. If two processes look at the same time, only the first one can write its claim, and the
    /// other one looks again.
    pub(crate) async fn claim(
        self,
        after: Option<Position>,
        most: u32,
        asked: &Counter,
    ) -> DbResult<Option<Claim>> {
        self.within(self.try_to_claim(after.unwrap_or(Position::START), most, asked))
            .await
    }

    /// Looks for due records gap by gap, and claims those of the first gap that has some.
    ///
    /// | step | its statement | so that |
    /// | --- | --- | --- |
    /// | [`claims`](Self::claims) | reads the live claims and the highest number | only free records are looked at |
    /// | [`look`](Self::look) | locks due records for reading, until it ends | a record that is being changed is not claimed |
    /// | [`reserve`](Self::reserve) | writes the claim if the number is still free | of two processes only one claims |
    ///
    /// [`read`](Self::read) then reads the payloads without any lock: the claim keeps other processes away.
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
                // A failure does no harm: the rows are deleted the next time.
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
        // Records that were committed between them since take room in the answer, so twice as many are read. A
        // record that is left out is due when the claim is finished.
        let most = u32::try_from(claim.ids.len() * 2).unwrap_or(u32::MAX);
        let arguments = claim.stretch.arguments().into_iter();
        let arguments = arguments.chain([("most", most.into())]).collect();
        let rows: Vec<RecordRow> = self.rows(&self.statements.read, arguments).await?;
        let claimed = rows.into_iter().map(RecordRow::claimed);
        let is_seen = |claimed: &Claimed| claim.ids.contains(&claimed.position.id);
        Ok(claimed.filter(is_seen).collect())
    }

    /// Ends claims of the owner. Records of them that were neither settled nor leased by themselves are due
    /// now. Returns how many claims there were.
    pub(crate) async fn finish(self, numbers: &[i64]) -> DbResult<u64> {
        let finish = &self.statements.finish;
        let mut finished = 0;
        for numbers in numbers.chunks(finish.longest()) {
            let arguments = vec![("numbers", numbers.into()), ("owner", self.owner.into())];
            finished += self.run(finish, arguments).await?;
        }
        Ok(finished)
    }

    /// The live claims of all processes, and the highest number.
    pub(super) async fn claims(self) -> DbResult<Claims> {
        let rows: Vec<ClaimRow> = self.rows(&self.statements.claims, Vec::new()).await?;
        Ok(Claims::read(&rows))
    }

    /// The places of up to `most` due pending records in a gap, and the sizes of their payloads. Records that
    /// another session has locked for writing are passed over.
    ///
    /// It reads no payloads. Its locks last until the server has sent the whole answer, and a process that
    /// stands still must not be able to prolong that.
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

    /// Writes a claim under the number after `last`. False if another process has claimed since `last` was
    /// read.
    pub(super) async fn reserve(self, last: i64, stretch: Stretch) -> DbResult<bool> {
        let mut arguments = vec![
            ("last", last.into()),
            ("owner", self.owner.into()),
            ("lease", micros(self.lease).into()),
        ];
        arguments.extend(stretch.arguments());
        match self.run(&self.statements.reserve, arguments).await {
            Ok(written) => Ok(written == 1),
            // Two processes have written the same number at once, and this one lost.
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
    /// The two ends, as the statements take them.
    fn arguments(self) -> Arguments<'static> {
        vec![
            ("first_at", self.first.available_at.into()),
            ("first_id", self.first.id.into()),
            ("last_at", self.last.available_at.into()),
            ("last_id", self.last.id.into()),
        ]
    }
}

/// The records from the front that one claim may carry: at least one, and the last one is the record with which
/// the payloads reach [`CLAIM_BYTES`].
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
        /// Claims can lie anywhere, also over one another if the clock went back.
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
