//! Members that read a log under random schedules, beside a table that remembers everything.
//!
//! Transactions allocate sequence numbers and commit in any order, or roll back. Members read pages, look for gaps
//! and fill them, settle, write their progress, give lanes away, are thought dead, and die. The lanes, streams and
//! gaps are the real ones. The test plays what an engine does with them, by its rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use uuid::Uuid;

use crate::log::progress::{
    rows::{Advance, LANES, LaneId, LaneRow, LogRow, Topics},
    spans::Spans,
    stream::{Offer, Stream},
};

/// Messages are put into so many of the sixteen lanes. With more of them fewer steps would meet in one lane.
const USED: usize = 3;
const MEMBERS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A transaction allocates a sequence number, for a message of the later topic or not.
    Insert(usize, bool),
    Commit(usize),
    RollBack(usize),
    /// A member reads so many rows.
    Read(usize, usize),
    /// A member looks for its gaps.
    LookForGaps(usize),
    Fill(usize),
    Settle(usize, usize),
    Write(usize),
    /// A member begins to give a lane away. So many of its messages in flight have not begun.
    GiveAway(usize, usize, usize),
    Claim(usize, usize),
    /// A member stands still until its lease is over. Its handlers can still settle what is in flight.
    Expire(usize),
    /// A member renews its lease, and keeps the lanes that are still its own.
    Renew(usize),
    Die(usize),
    ShutDown(usize),
    /// The group subscribes the later topic.
    Subscribe,
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..MEMBERS;
    prop_oneof![
        6 => (0..USED, any::<bool>()).prop_map(|(lane, later)| Step::Insert(lane, later)),
        5 => (0_usize..8).prop_map(Step::Commit),
        1 => (0_usize..8).prop_map(Step::RollBack),
        6 => (member.clone(), 1_usize..6).prop_map(|(who, rows)| Step::Read(who, rows)),
        3 => member.clone().prop_map(Step::LookForGaps),
        2 => member.clone().prop_map(Step::Fill),
        6 => (member.clone(), 0_usize..8).prop_map(|(who, which)| Step::Settle(who, which)),
        4 => member.clone().prop_map(Step::Write),
        1 => (member.clone(), 0..USED, 0_usize..3)
            .prop_map(|(who, lane, left)| Step::GiveAway(who, lane, left)),
        3 => (member.clone(), 0..USED).prop_map(|(who, lane)| Step::Claim(who, lane)),
        1 => member.clone().prop_map(Step::Expire),
        2 => member.clone().prop_map(Step::Renew),
        1 => member.clone().prop_map(Step::Die),
        1 => member.prop_map(Step::ShutDown),
        1 => Just(Step::Subscribe),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Row {
    Open { lane: usize, later: bool },
    Visible { lane: usize, later: bool },
    RolledBack,
    Filled,
}

/// A lane in the table.
#[derive(Debug)]
struct Written {
    member: Option<usize>,
    is_held: bool,
    epoch: i64,
    read_to: i64,
    open: String,
    settled_to: i64,
}

struct Member {
    is_alive: bool,
    stream: Option<Stream>,
    version: i64,
    /// What its handlers have.
    in_flight: BTreeSet<i64>,
    /// Settled, and not written yet.
    settled: BTreeSet<i64>,
    id: Uuid,
}

struct World {
    now: Instant,
    rows: BTreeMap<i64, Row>,
    lanes: Vec<Written>,
    members: Vec<Member>,
    topics: Topics,
    version: i64,
    /// Settled, and written: must never be taken again.
    done: BTreeSet<i64>,
    /// Settled by any member.
    handled: BTreeSet<i64>,
    /// The member that has each sequence number in flight, unless another has taken its lane over.
    holders: BTreeMap<i64, usize>,
}

fn topic(later: bool) -> Arc<str> {
    if later { "later" } else { "placed" }.into()
}

impl World {
    fn new() -> Self {
        let written = || Written {
            member: None,
            is_held: false,
            epoch: 0,
            read_to: 0,
            open: String::new(),
            settled_to: 0,
        };
        let member = || Member {
            is_alive: true,
            stream: None,
            version: 0,
            in_flight: BTreeSet::new(),
            settled: BTreeSet::new(),
            id: Uuid::now_v7(),
        };
        Self {
            now: Instant::now(),
            rows: BTreeMap::new(),
            lanes: (0..LANES).map(|_| written()).collect(),
            members: (0..MEMBERS).map(|_| member()).collect(),
            topics: Topics::from([(topic(false), 0)]),
            version: 0,
            done: BTreeSet::new(),
            handled: BTreeSet::new(),
            holders: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Insert(lane, later) => {
                let seq = self.rows.len() as i64 + 1;
                self.rows.insert(seq, Row::Open { lane, later });
            }
            Step::Commit(which) => self.end(which, true),
            Step::RollBack(which) => self.end(which, false),
            Step::Read(who, most) if self.members[who].is_alive => self.read(who, most),
            Step::LookForGaps(who) if self.members[who].is_alive => self.look_for_gaps(who),
            Step::Fill(who) if self.members[who].is_alive => self.fill(who),
            Step::Settle(who, which) => self.settle(who, which),
            Step::Write(who) => self.write(who, false),
            Step::GiveAway(who, lane, left) => self.give_away(who, lane, left),
            Step::Claim(who, lane) if self.members[who].is_alive => self.claim(who, lane),
            Step::Expire(who) => self.expire(who),
            Step::Renew(who) => self.renew(who),
            Step::Die(who) => {
                self.expire(who);
                self.forget(who);
            }
            Step::ShutDown(who) => {
                self.write(who, true);
                self.write(who, true);
                self.forget(who);
            }
            Step::Subscribe => self.subscribe(),
            Step::Read(..) | Step::LookForGaps(_) | Step::Fill(_) | Step::Claim(..) => {}
        }
    }

    fn end(&mut self, which: usize, commits: bool) {
        let open = |row: &&mut Row| matches!(row, Row::Open { .. });
        if let Some(row) = self.rows.values_mut().filter(open).nth(which)
            && let Row::Open { lane, later } = *row
        {
            *row = if commits {
                Row::Visible { lane, later }
            } else {
                Row::RolledBack
            };
        }
    }

    /// A visible row.
    fn visible(&self, seq: i64) -> Option<LogRow> {
        match *self.rows.get(&seq)? {
            Row::Visible { lane, later } => Some(LogRow::plain(seq, lane, topic(later), None)),
            Row::Filled => Some(LogRow::plain(seq, 0, "".into(), None)),
            Row::Open { .. } | Row::RolledBack => None,
        }
    }

    fn is_wanted(&self, seq: i64, later: bool) -> bool {
        let after = self.topics.get(&topic(later));
        after.is_some_and(|after| seq > *after)
    }

    fn read(&mut self, who: usize, most: usize) {
        let Some(read) = self.members[who]
            .stream
            .as_ref()
            .map(|stream| stream.position)
        else {
            return;
        };
        let seqs: Vec<i64> = self.rows.range(read + 1..).map(|(seq, _)| *seq).collect();
        let rows: Vec<LogRow> = seqs.iter().filter_map(|seq| self.visible(*seq)).collect();
        for row in rows.into_iter().take(most) {
            let Some(stream) = self.members[who].stream.as_mut().filter(|s| s.can_read()) else {
                return;
            };
            stream.note_missing(row.seq, 0);
            let offer = stream.offer(&row, "shop");
            if offer != Offer::Leave {
                stream.gaps.close(row.seq);
            }
            stream.reach(row.seq);
            if offer == Offer::Take {
                self.take(who, row.seq);
            }
        }
        // It is told of the next rows.
        if let Some(stream) = &mut self.members[who].stream {
            stream.has_more = true;
        }
    }

    fn take(&mut self, who: usize, seq: i64) {
        assert!(
            !self.done.contains(&seq),
            "{seq} was done, and is forgotten"
        );
        let before = self.holders.insert(seq, who);
        assert_eq!(before, None, "{seq} is in flight twice");
        self.members[who].in_flight.insert(seq);
    }

    fn offer_gaps(&mut self, who: usize, seqs: Vec<i64>) {
        for seq in seqs {
            let row = self.visible(seq);
            let (Some(row), Some(stream)) = (row, &mut self.members[who].stream) else {
                continue;
            };
            if !stream.gaps.contains(seq) {
                continue;
            }
            let offer = stream.offer(&row, "shop");
            if offer != Offer::Leave {
                stream.gaps.close(seq);
            }
            if offer == Offer::Take {
                self.take(who, seq);
            }
        }
    }

    fn look_for_gaps(&mut self, who: usize) {
        self.now += Duration::from_secs(1);
        let now = self.now;
        let Some(stream) = &mut self.members[who].stream else {
            return;
        };
        let inherited = stream.inherited(4);
        if inherited.is_empty() {
            let due = stream.gaps.take_due(now, 64);
            let seqs = due.into_iter().flat_map(|(start, end)| start..=end);
            self.offer_gaps(who, seqs.collect());
            return;
        }
        self.offer_gaps(who, inherited.clone());
        if let Some(stream) = &mut self.members[who].stream {
            stream.looked_for(&inherited);
        }
    }

    fn fill(&mut self, who: usize) {
        self.now += Duration::from_secs(60);
        let Some(stream) = &mut self.members[who].stream else {
            return;
        };
        for seq in stream.gaps.take_overdue(self.now, 500) {
            // The primary key refuses a row where a transaction has one.
            if let Some(row @ Row::RolledBack) = self.rows.get_mut(&seq) {
                *row = Row::Filled;
            }
        }
    }

    fn lane_of(&self, seq: i64) -> usize {
        match self.rows[&seq] {
            Row::Visible { lane, .. } => lane,
            _ => unreachable!("only visible rows are taken"),
        }
    }

    fn settle(&mut self, who: usize, which: usize) {
        let Some(seq) = self.members[who].in_flight.iter().nth(which).copied() else {
            return;
        };
        let lane = self.lane_of(seq);
        let member = &mut self.members[who];
        member.in_flight.remove(&seq);
        let stream = member.stream.as_mut();
        if let Some(lane) = stream.and_then(|stream| stream.lane_mut(lane)) {
            lane.settle(seq);
            member.settled.insert(seq);
            self.handled.insert(seq);
        }
    }

    /// Writes what an engine would write, all or nothing.
    fn write(&mut self, who: usize, release: bool) {
        let member = &mut self.members[who];
        let Some(stream) = &mut member.stream else {
            return;
        };
        if member.version != self.version {
            stream.set_topics(self.topics.clone());
            stream.reread();
            member.version = self.version;
            return;
        }
        let mut advances = Vec::new();
        stream.advances(release, true, &mut advances);
        let is_lost = |advance: &&Advance| {
            let row = &self.lanes[advance.id.lane];
            (row.member, row.epoch) != (Some(who), advance.epoch)
        };
        let lost: Vec<usize> = advances
            .iter()
            .filter(is_lost)
            .map(|lost| lost.id.lane)
            .collect();
        if !lost.is_empty() {
            lost.into_iter().for_each(|lane| self.lose(who, lane));
            return;
        }
        for advance in advances {
            let (id, goes, progress) = (advance.id, advance.release, advance.progress);
            let row = &mut self.lanes[id.lane];
            row.read_to = progress.read_to;
            row.open = progress.open.to_string();
            row.settled_to = progress.settled_to;
            if goes {
                row.member = None;
            }
            let of_lane =
                |seq: &i64| matches!(self.rows[seq], Row::Visible { lane, .. } if lane == id.lane);
            let member = &mut self.members[who];
            let written = member.settled.range(..=progress.read_to).copied();
            let now_done = written.filter(of_lane);
            self.done.extend(now_done.collect::<Vec<_>>());
            member.settled.retain(|seq| !self.done.contains(seq));
            let untold = member.settled.iter().find(|seq| of_lane(seq));
            assert!(
                !goes || untold.is_none(),
                "{untold:?} is done, and the next owner is not told"
            );
            if let Some(stream) = &mut member.stream {
                if goes {
                    stream.remove(id.lane);
                } else if let Some(lane) = stream.lane_mut(id.lane) {
                    lane.committed(progress);
                }
            }
            if goes {
                self.let_go(who, id.lane);
            }
            self.nothing_needed_can_be_removed(id.lane);
        }
    }

    /// Rows up to `settled_to` can be removed, so none of them may be needed.
    fn nothing_needed_can_be_removed(&self, at: usize) {
        for (seq, row) in self.rows.range(..=self.lanes[at].settled_to) {
            match *row {
                Row::Open { .. } => panic!("{seq} is open, and can be removed"),
                Row::Visible { lane, later } if lane == at && self.is_wanted(*seq, later) => {
                    assert!(
                        self.done.contains(seq),
                        "{seq} is needed, and can be removed"
                    );
                }
                _ => {}
            }
        }
    }

    /// A lane, and what is in flight of it, is no longer the member's.
    fn let_go(&mut self, who: usize, lane: usize) {
        let is_theirs =
            |seq: &i64| matches!(self.rows[seq], Row::Visible { lane: of, .. } if of == lane);
        let member = &mut self.members[who];
        member.in_flight.retain(|seq| !is_theirs(seq));
        member.settled.retain(|seq| !is_theirs(seq));
        self.holders
            .retain(|seq, holder| *holder != who || !is_theirs(seq));
        self.holders.retain(|seq, _| !self.done.contains(seq));
    }

    fn lose(&mut self, who: usize, lane: usize) {
        if let Some(stream) = &mut self.members[who].stream {
            stream.remove(lane);
        }
        self.let_go(who, lane);
    }

    fn give_away(&mut self, who: usize, at: usize, left: usize) {
        let in_flight = self.members[who].in_flight.iter().copied();
        let waiting: Vec<i64> = in_flight.filter(|seq| self.lane_of(*seq) == at).collect();
        let member = &mut self.members[who];
        let stream = member.stream.as_mut();
        let Some(lane) = stream.and_then(|stream| stream.lane_mut(at)) else {
            return;
        };
        lane.drain();
        for seq in waiting.into_iter().rev().take(left) {
            lane.release(seq);
            member.in_flight.remove(&seq);
            self.holders.remove(&seq);
        }
    }

    fn claim(&mut self, who: usize, lane: usize) {
        let row = &mut self.lanes[lane];
        if row.is_held && row.member.is_some() {
            return;
        }
        row.epoch += 1;
        row.is_held = true;
        row.member = Some(who);
        let adopted = LaneRow {
            id: LaneId { stream: 0, lane },
            member: Some(self.members[who].id),
            is_held: true,
            epoch: row.epoch,
            read_to: row.read_to,
            settled_to: row.settled_to,
            open: Spans::parse(&row.open),
            ends_at: None,
        };
        // Commits of the owner before are refused from now on.
        for other in 0..MEMBERS {
            self.holders_forget(other, lane);
        }
        self.lose(who, lane);
        let member = &mut self.members[who];
        let topics = &self.topics;
        let stream = member
            .stream
            .get_or_insert_with(|| Stream::new(0, None, topics.clone()));
        if member.version != self.version {
            stream.set_topics(topics.clone());
            stream.reread();
            member.version = self.version;
        }
        stream.adopt(adopted);
    }

    fn holders_forget(&mut self, who: usize, lane: usize) {
        let rows = &self.rows;
        self.holders.retain(|seq, holder| {
            let of_lane = matches!(rows[seq], Row::Visible { lane: of, .. } if of == lane);
            *holder != who || !of_lane
        });
    }

    fn expire(&mut self, who: usize) {
        self.members[who].is_alive = false;
        for row in self.lanes.iter_mut().filter(|row| row.member == Some(who)) {
            row.is_held = false;
        }
    }

    fn renew(&mut self, who: usize) {
        self.members[who].is_alive = true;
        for lane in 0..LANES {
            let stream = self.members[who].stream.as_mut();
            let epoch = stream
                .and_then(|stream| stream.lane_mut(lane))
                .map(|lane| lane.epoch);
            let row = &mut self.lanes[lane];
            if (row.member, Some(row.epoch)) == (Some(who), epoch) {
                row.is_held = true;
            } else {
                self.lose(who, lane);
            }
        }
    }

    fn forget(&mut self, who: usize) {
        for lane in 0..LANES {
            self.holders_forget(who, lane);
        }
        let member = &mut self.members[who];
        member.is_alive = true;
        member.stream = None;
        member.in_flight.clear();
        member.settled.clear();
        member.id = Uuid::now_v7();
    }

    fn subscribe(&mut self) {
        if self.topics.len() == 1 {
            let visible =
                |(_, row): &(&i64, &Row)| matches!(row, Row::Visible { .. } | Row::Filled);
            let last = self.rows.iter().filter(visible).map(|(seq, _)| *seq).max();
            self.topics.insert(topic(true), last.unwrap_or(0));
            self.version += 1;
        }
    }

    /// All transactions end, and one member goes on alone until nothing is left.
    fn finish(&mut self) {
        while self
            .rows
            .values()
            .any(|row| matches!(row, Row::Open { .. }))
        {
            self.end(0, true);
        }
        for who in 0..MEMBERS {
            self.step(Step::Die(who));
        }
        (0..USED).for_each(|lane| self.claim(0, lane));
        for _ in 0..10 {
            self.look_for_gaps(0);
            self.fill(0);
            for _ in 0..20 {
                self.look_for_gaps(0);
            }
            self.read(0, usize::MAX);
            while !self.members[0].in_flight.is_empty() {
                self.settle(0, 0);
            }
            self.write(0, false);
        }
        for (seq, row) in &self.rows {
            if let Row::Visible { later, .. } = *row
                && self.is_wanted(*seq, later)
            {
                assert!(self.handled.contains(seq), "{seq} is lost");
                assert!(self.done.contains(seq), "{seq} is not written down");
            }
        }
        let last = self.rows.keys().next_back().copied().unwrap_or(0);
        let needs = (1..=last).rev().find(|seq| self.visible(*seq).is_some());
        for lane in &self.lanes[..USED] {
            assert!(
                lane.settled_to >= needs.unwrap_or(0),
                "{lane:?} is not at {needs:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn no_message_is_lost_or_in_flight_twice_and_none_that_is_done_comes_again(
        steps in prop::collection::vec(step(), 0..120)
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.finish();
    }
}
