//! The claims of an outbox, and which records they leave.
//!
//! Input: the rows of `final_<service>_claims`. Output: the parts of the index in which records of a state are found: in
//! hand within the claims, pending between them.

use uuid::Uuid;

use super::RecordState;
use crate::{
    OutboxDatabase,
    admin::{
        desk::{Desk, micros_of, table_of, time_of},
        services::ServiceTables,
        walk::WalkPlace,
    },
    database::{DbResult, columns},
};

/// How many live claims are looked at.
const MOST_CLAIMS: i64 = 1_000;

/// How many claims are looked at whose process is gone.
const ENDED_CLAIMS: i64 = 64;

columns! {
    /// A live claim.
    pub(in crate::admin) struct LiveClaim {
        pub(in crate::admin) owner: Uuid,
        live_until: i64,
        first_at: i64,
        first_id: Uuid,
        last_at: i64,
        last_id: Uuid,
        clock: i64,
    }
}

impl LiveClaim {
    fn first(&self) -> WalkPlace {
        WalkPlace::of_time(self.first_at, self.first_id)
    }

    pub(in crate::admin) fn last(&self) -> WalkPlace {
        WalkPlace::of_time(self.last_at, self.last_id)
    }

    /// The place right before its first record.
    pub(in crate::admin) fn before_first(&self) -> WalkPlace {
        match self.first_id.as_u128().checked_sub(1) {
            Some(id) => WalkPlace::of_time(self.first_at, Uuid::from_u128(id)),
            None => WalkPlace::of_time(self.first_at - 1, Uuid::max()),
        }
    }

    /// How long its lease lasts, in microseconds.
    pub(in crate::admin) fn left(&self) -> i64 {
        self.live_until - self.clock
    }

    pub(in crate::admin) fn overlaps(&self, other: &Self) -> bool {
        self.first() <= other.last() && other.first() <= self.last()
    }

    pub(super) fn covers(&self, place: &WalkPlace) -> bool {
        self.first() <= *place && *place <= self.last()
    }
}

/// A part of the records of a state, between two places.
pub(super) struct Segment {
    pub(super) after: Option<WalkPlace>,
    pub(super) up_to: Option<WalkPlace>,
    /// A condition for all its records; empty if there is none.
    pub(super) filter: &'static str,
}

/// What has a lease of its own, in the row. The parameter is the id of zeros, which MySQL has for no owner.
const LEASED: &str = "claimed_by <> ? AND available_at > {clock}";
const NOT_LEASED: &str = "(claimed_by IS NULL OR claimed_by = ? OR available_at <= {clock})";

/// The parts in which records of a state are found.
pub(super) fn segments(state: RecordState, claims: &[LiveClaim], clock: i64) -> Vec<Segment> {
    let whole = |filter| Segment {
        after: None,
        up_to: None,
        filter,
    };
    let mut all = Vec::new();
    // Claims overlap if the database's clock went back, so each begins where the ones before it have ended.
    let mut end: Option<WalkPlace> = None;
    match state {
        RecordState::InHand => {
            for claim in claims {
                let begin = claim.before_first();
                let after = end.clone().map_or(begin.clone(), |end| end.max(begin));
                if after < claim.last() {
                    end = Some(claim.last());
                    all.push(Segment {
                        after: Some(after),
                        up_to: end.clone(),
                        filter: "",
                    });
                }
            }
            let now = WalkPlace::of_time(clock, Uuid::nil());
            all.push(Segment {
                after: Some(end.map_or(now.clone(), |end| end.max(now))),
                up_to: None,
                filter: LEASED,
            });
        }
        RecordState::Pending => {
            for claim in claims {
                let up_to = claim.before_first();
                if end.as_ref().is_none_or(|end| *end < up_to) {
                    all.push(Segment {
                        after: end.clone(),
                        up_to: Some(up_to),
                        filter: NOT_LEASED,
                    });
                }
                end = end.max(Some(claim.last()));
            }
            all.push(Segment {
                after: end,
                ..whole(NOT_LEASED)
            });
        }
        _ => all.push(whole("")),
    }
    all
}

impl<DB: OutboxDatabase> Desk<DB> {
    /// The live claims on the records of a service, in the order of the records.
    pub(in crate::admin) async fn live_claims(
        &self,
        tables: &ServiceTables,
    ) -> DbResult<Vec<LiveClaim>> {
        self.claims(tables, "live_until > {clock}", MOST_CLAIMS)
            .await
    }

    /// The latest claims whose process did not finish them before their lease was over.
    pub(in crate::admin) async fn ended_claims(
        &self,
        tables: &ServiceTables,
    ) -> DbResult<Vec<LiveClaim>> {
        // A claim that was finished has ended in 1970.
        let ended = format!(
            "live_until <= {{clock}} AND live_until > {}",
            time_of(DB::DIALECT, "31536000000000")
        );
        self.claims(tables, &ended, ENDED_CLAIMS).await
    }

    async fn claims(
        &self,
        tables: &ServiceTables,
        condition: &str,
        most: i64,
    ) -> DbResult<Vec<LiveClaim>> {
        if !tables.has_claims {
            return Ok(Vec::new());
        }
        let claims = format!(
            "SELECT owner, {} AS live_until, {} AS first_at, first_id, {} AS last_at, last_id, {{now}} AS clock \
             FROM {} WHERE {condition} ORDER BY number DESC LIMIT ?",
            micros_of(DB::DIALECT, "live_until"),
            micros_of(DB::DIALECT, "first_at"),
            micros_of(DB::DIALECT, "last_at"),
            table_of(DB::DIALECT, &tables.service.claims_table()),
        );
        let mut claims: Vec<LiveClaim> = self.rows(&claims, &[most.into()]).await?;
        claims.sort_by_key(LiveClaim::first);
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(first: i64, last: i64) -> LiveClaim {
        LiveClaim {
            owner: Uuid::max(),
            live_until: 1_000,
            first_at: first,
            first_id: Uuid::from_u128(5),
            last_at: last,
            last_id: Uuid::from_u128(5),
            clock: 0,
        }
    }

    proptest! {
        /// Claims can lie anywhere, also over one another if the clock went back.
        #[test]
        fn what_is_in_hand_and_what_is_not_are_all_records_and_none_twice(
            stretches in prop::collection::vec((0..40_i64, 0..5_i64), 0..8),
        ) {
            let mut claims: Vec<_> = stretches.iter().map(|(first, more)| claim(*first, first + more)).collect();
            claims.sort_by_key(LiveClaim::first);
            let within = |state, place: &WalkPlace| {
                let all = segments(state, &claims, 100);
                all.iter().filter(|segment| {
                    segment.filter != LEASED
                        && segment.after.as_ref().is_none_or(|after| after < place)
                        && segment.up_to.as_ref().is_none_or(|up_to| place <= up_to)
                }).count()
            };

            for at in 0..50 {
                for id in [4, 5, 6] {
                    let place = WalkPlace::of_time(at, Uuid::from_u128(id));
                    let is_claimed = claims.iter().any(|claim| claim.covers(&place));
                    prop_assert_eq!(within(RecordState::InHand, &place), usize::from(is_claimed));
                    prop_assert_eq!(within(RecordState::Pending, &place), usize::from(!is_claimed));
                }
            }
        }
    }
}
