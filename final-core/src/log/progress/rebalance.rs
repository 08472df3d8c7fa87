//! Rebalance: which lanes a member claims, and which it gives away.
//!
//! Input: the rows of the group's lanes, and how many members are alive. Output: for each stream the lanes to
//! claim and the lanes to drain.
//!
//! ```text
//!   one member has all 16 lanes, a second one joins:  most is 8
//!     the first one drains 8, and releases each when nothing of it is in flight
//!     the second one claims each of them once it is free
//! ```
//!
//! There is no leader. Each member sees who is there and how the lanes are shared. It claims free lanes up to
//! 16 divided by the members, rounded up, and gives away lanes beyond that. So no member has more than this
//! number, but a member can have less than others, or nothing: 4 of 5 members can have 4 lanes each.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::rows::{LANES, LaneRow};

/// How a member sees the lanes of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LaneShare {
    /// Live members of the group, this one included.
    pub(crate) members: usize,
    /// Lanes that this member has.
    pub(crate) mine: Vec<usize>,
    /// Lanes without a live owner.
    pub(crate) free: Vec<usize>,
}

/// What a member does about its share.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    /// Lanes to claim.
    pub(crate) take: Vec<usize>,
    /// Lanes to drain, and then to release.
    pub(crate) give: Vec<usize>,
}

/// How a member sees the lanes of each stream.
pub(crate) fn shares(rows: &[LaneRow], member: Uuid, members: usize) -> BTreeMap<i64, LaneShare> {
    let mut shares: BTreeMap<i64, LaneShare> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.id.lane < LANES) {
        let share = shares.entry(row.id.stream).or_default();
        share.members = members;
        if row.member == Some(member) {
            share.mine.push(row.id.lane);
        } else if !row.is_held {
            share.free.push(row.id.lane);
        }
    }
    shares
}

/// The most lanes that one of so many members keeps. Members above it give lanes away, and members below it
/// claim free ones.
fn most(members: usize) -> usize {
    LANES.div_ceil(members.max(1))
}

impl LaneShare {
    /// What to claim and what to give away. A member that has its share does neither.
    pub(crate) fn moves(&self) -> Moves {
        let most = most(self.members);
        let mine = self.mine.len();
        let (room, excess) = (most.saturating_sub(mine), mine.saturating_sub(most));
        Moves {
            take: self.free.iter().copied().take(room).collect(),
            give: self.mine.iter().copied().take(excess).collect(),
        }
    }

    /// Whether a member with so many lanes has its share, and need not refresh often: 16 divided by the
    /// members, rounded down. With 3 members that is 5.
    pub(crate) fn is_content(members: usize, mine: usize) -> bool {
        mine >= LANES / members.max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lets members move in turn until none moves any more.
    fn settle(owners: &mut [Option<usize>], members: usize) -> usize {
        for round in 0..100 {
            let mut moved = false;
            for me in 0..members {
                let lanes = |who: Option<usize>| {
                    let is_theirs = |(_, owner): &(usize, &Option<usize>)| **owner == who;
                    owners
                        .iter()
                        .enumerate()
                        .filter(is_theirs)
                        .map(|(lane, _)| lane)
                        .collect()
                };
                let share = LaneShare {
                    members,
                    mine: lanes(Some(me)),
                    free: lanes(None),
                };
                let moves = share.moves();
                moves.take.iter().for_each(|lane| owners[*lane] = Some(me));
                moves.give.iter().for_each(|lane| owners[*lane] = None);
                moved |= !(moves.take.is_empty() && moves.give.is_empty());
            }
            if !moved {
                return round;
            }
        }
        100
    }

    proptest! {
        #[test]
        fn every_lane_finds_an_owner_and_no_member_has_far_more_than_another(
            start in prop::collection::vec(prop::option::of(0_usize..20), LANES), members in 1_usize..20
        ) {
            let mut owners: Vec<_> =
                start.into_iter().map(|owner| owner.filter(|owner| *owner < members)).collect();

            prop_assert!(settle(&mut owners, members) < 10);
            prop_assert!(owners.iter().all(Option::is_some));
            let most = (0..members)
                .map(|me| owners.iter().filter(|owner| **owner == Some(me)).count())
                .max();
            prop_assert_eq!(most, Some(LANES.div_ceil(members)));
        }
    }
}
