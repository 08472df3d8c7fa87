//! Rebalance: which lanes a member claims, and which it gives away.
//!
//! Input: the rows of the group's lanes, and how many members are alive. Output: for each stream the lanes to
//! claim and the lanes to drain.
//!
//! ```text
//!   one member has all 16 lanes, a second one joins:  each has a share of 8
//!     the first one drains 8, and releases each when nothing of it is in flight
//!     the second one claims each of them once it is free
//!
//!   members with 4 4 4 4, a fifth one joins:  one has a share of 4, the others of 3
//!     three members drain one lane each, and the fifth claims them
//! ```
//!
//! There is no leader. Each member sees who has how many lanes. Everybody has a share of 16 divided by the
//! members, rounded down, and as many members as there are lanes left over have one more: those with the most
//! lanes, and among equals those with the lowest id. A member claims free lanes up to its share, and gives away
//! lanes beyond it. So in the end no two shares differ by more than one.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::rows::{LANES, LaneRow};

/// How a member sees the lanes of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LaneShare {
    /// Live members of the group, this one included.
    pub(crate) members: usize,
    /// How many of the others come first when lanes are left over: they have more lanes, or as many and a lower
    /// id. A member without a lane is not seen.
    pub(crate) before: usize,
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
    let mut others: BTreeMap<(i64, Uuid), usize> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.id.lane < LANES) {
        let share = shares.entry(row.id.stream).or_default();
        share.members = members;
        match row.member {
            Some(owner) if owner == member => share.mine.push(row.id.lane),
            Some(owner) if row.is_held => {
                *others.entry((row.id.stream, owner)).or_default() += 1;
            }
            _ => share.free.push(row.id.lane),
        }
    }
    for ((stream, other), lanes) in others {
        if let Some(share) = shares.get_mut(&stream) {
            let mine = share.mine.len();
            share.before += usize::from(lanes > mine || lanes == mine && other < member);
        }
    }
    shares
}

impl LaneShare {
    /// How many lanes this member is to have.
    fn size(&self) -> usize {
        let members = self.members.max(1);
        LANES / members + usize::from(self.before < LANES % members)
    }

    /// What to claim and what to give away. A member that has its share does neither.
    pub(crate) fn moves(&self) -> Moves {
        let (size, mine) = (self.size(), self.mine.len());
        let (room, excess) = (size.saturating_sub(mine), mine.saturating_sub(size));
        Moves {
            take: self.free.iter().copied().take(room).collect(),
            give: self.mine.iter().copied().take(excess).collect(),
        }
    }

    /// Whether a member with so many lanes need not refresh often: it has at least what each member has. With 3
    /// members that is 5.
    pub(crate) fn is_content(members: usize, mine: usize) -> bool {
        mine >= LANES / members.max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::progress::rows::LaneId;

    fn id(member: usize) -> Uuid {
        Uuid::from_u128(member as u128)
    }

    /// The moves of a member, as it reads the rows.
    fn moves(owners: &[Option<usize>], member: usize, members: usize) -> Moves {
        let row = |(lane, owner): (usize, &Option<usize>)| LaneRow {
            id: LaneId { stream: 0, lane },
            member: owner.map(id),
            is_held: owner.is_some(),
            epoch: 1,
            read_to: 0,
            settled_to: 0,
            open: None,
            ends_at: None,
        };
        let rows: Vec<_> = owners.iter().enumerate().map(row).collect();
        shares(&rows, id(member), members)[&0].moves()
    }

    /// Lets members move until none moves any more, and returns after how many rounds. In a round each sees the
    /// lanes as they are (`at_once`: as they were before the round, and only the first claim of a lane counts).
    fn settle(owners: &mut [Option<usize>], members: usize, at_once: bool) -> usize {
        for round in 0..100 {
            let before = owners.to_vec();
            let mut moved = false;
            for me in 0..members {
                let Moves { take, give } =
                    moves(if at_once { &before } else { owners }, me, members);
                moved |= !(take.is_empty() && give.is_empty());
                for lane in take {
                    owners[lane] = owners[lane].or(Some(me));
                }
                for lane in give {
                    owners[lane] = None;
                }
            }
            if !moved {
                return round;
            }
        }
        100
    }

    fn counts(owners: &[Option<usize>], members: usize) -> Vec<usize> {
        let of = |me| owners.iter().filter(|owner| **owner == Some(me)).count();
        (0..members).map(of).collect()
    }

    proptest! {
        #[test]
        fn every_lane_finds_an_owner_and_no_two_shares_differ_by_more_than_one(
            start in prop::collection::vec(prop::option::of(0_usize..20), LANES),
            members in 1_usize..20,
            at_once: bool,
        ) {
            let mut owners: Vec<_> =
                start.into_iter().map(|owner| owner.filter(|owner| *owner < members)).collect();

            prop_assert!(settle(&mut owners, members, at_once) < 20);
            prop_assert!(owners.iter().all(Option::is_some));
            let counts = counts(&owners, members);
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{counts:?}");
        }

        /// Each lane that moves has to be drained first.
        #[test]
        fn where_a_member_joins_no_lane_moves_but_to_it(members in 1_usize..16, at_once: bool) {
            let mut owners = vec![None; LANES];
            settle(&mut owners, members, at_once);
            let before = owners.clone();

            settle(&mut owners, members + 1, at_once);

            for (lane, owner) in owners.iter().enumerate() {
                prop_assert!(*owner == before[lane] || *owner == Some(members), "{before:?} {owners:?}");
            }
        }
    }

    #[test]
    fn a_member_that_joins_four_with_four_lanes_each_gets_three() {
        let mut owners: Vec<_> = (0..LANES).map(|lane| Some(lane / 4)).collect();

        settle(&mut owners, 5, true);

        assert_eq!(counts(&owners, 5), [4, 3, 3, 3, 3]);
    }
}
