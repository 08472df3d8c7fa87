//! Two groups that read a log whose sequence goes back, beside books of every message.
//!
//! Transactions allocate sequence numbers and commit in any order, or roll back. The table is truncated, and its
//! sequence restarted at any number. Members read, refresh, trim, stop, die and start. Streams, lanes, gaps and
//! watermarks are the real ones. The test plays what the engine and the mending do with them, by their rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use crate::log::progress::{
    rows::{LaneId, LaneRow, LogRow, Topics},
    spans::Spans,
    stream::{Offer, Stream},
    watermark::{MARGIN, Watermark, Watermarks, left_together, written_by},
};

const GROUPS: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(usize),
    /// Transactions that commit at once.
    Publish(usize),
    Commit(usize),
    RollBack(usize),
    Read(usize, usize),
    Gaps(usize),
    Settle(usize, usize),
    Write(usize),
    /// An engine checks the sequence.
    Check(usize),
    Walk,
    Trim(usize),
    Start(usize),
    Stop(usize),
    Die(usize),
    /// The next sequence number is the one after this, if that is less than it was.
    Restart(i64),
    Truncate(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let group = 0..GROUPS;
    prop_oneof![
        4 => (1_usize..6).prop_map(Step::Insert),
        6 => (1_usize..20).prop_map(Step::Publish),
        6 => (0_usize..6).prop_map(Step::Commit),
        1 => (0_usize..6).prop_map(Step::RollBack),
        8 => (group.clone(), 1_usize..30).prop_map(|(group, rows)| Step::Read(group, rows)),
        3 => group.clone().prop_map(Step::Gaps),
        6 => (group.clone(), 0_usize..6).prop_map(|(group, which)| Step::Settle(group, which)),
        5 => group.clone().prop_map(Step::Write),
        4 => group.clone().prop_map(Step::Check),
        1 => Just(Step::Walk),
        3 => group.clone().prop_map(Step::Trim),
        3 => group.clone().prop_map(Step::Start),
        1 => group.clone().prop_map(Step::Stop),
        1 => group.prop_map(Step::Die),
        1 => (0_i64..40).prop_map(Step::Restart),
        2 => (0_i64..10).prop_map(Step::Truncate),
    ]
}

/// A row of the log. A row without a message has filled a gap.
#[derive(Clone, Copy, Debug)]
struct Row {
    message: Option<usize>,
    written_at: i64,
    is_open: bool,
}

struct Engine {
    stream: Stream,
    watermarks: Watermarks,
    /// What its handlers have, by sequence number.
    in_flight: BTreeMap<i64, usize>,
    /// Whether the sequence went back, and some row with a reused number was not visible at the last check.
    is_behind: bool,
}

/// A group, with one lane for all.
struct Group {
    read_to: i64,
    open: String,
    settled_to: i64,
    engine: Option<Engine>,
    handled: BTreeMap<usize, usize>,
}

struct World {
    now: Instant,
    clock: i64,
    /// The last sequence number that was allocated.
    last: i64,
    rows: BTreeMap<i64, Row>,
    messages: usize,
    groups: Vec<Group>,
    trimmed: i64,
    newest: Watermark,
    left: Vec<Watermark>,
    went_back: Vec<Watermark>,
    /// Messages that an operator has removed.
    truncated: BTreeSet<usize>,
    committed: BTreeSet<usize>,
    has_gone_back: bool,
}

fn topic() -> Arc<str> {
    "placed".into()
}

/// In this test time passes in steps that are longer than the margin.
fn for_others(watermarks: &Watermarks) -> Vec<Watermark> {
    let mut marks = watermarks.for_others();
    marks.iter_mut().for_each(|mark| mark.written_at -= MARGIN);
    marks
}

/// As the engine does with each row.
fn note(watermarks: &mut Watermarks, row: &LogRow) {
    if row.topic.is_empty() {
        watermarks.saw_filled_gap(row.written_at);
    } else {
        watermarks.saw(row.seq, row.written_at);
    }
}

impl World {
    fn new() -> Self {
        let group = || Group {
            read_to: 0,
            open: String::new(),
            settled_to: 0,
            engine: None,
            handled: BTreeMap::new(),
        };
        Self {
            now: Instant::now(),
            clock: 0,
            last: 0,
            rows: BTreeMap::new(),
            messages: 0,
            groups: (0..GROUPS).map(|_| group()).collect(),
            trimmed: 0,
            newest: Watermark {
                seq: 0,
                written_at: 0,
            },
            left: Vec::new(),
            went_back: Vec::new(),
            truncated: BTreeSet::new(),
            committed: BTreeSet::new(),
            has_gone_back: false,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Insert(rows) => (0..rows).for_each(|_| self.insert(true)),
            Step::Publish(rows) => (0..rows).for_each(|_| self.insert(false)),
            Step::Commit(which) => self.end(which, true),
            Step::RollBack(which) => self.end(which, false),
            Step::Read(group, most) => self.read(group, most),
            Step::Gaps(group) => self.look_for_gaps(group),
            Step::Settle(group, which) => self.settle(group, which),
            Step::Write(group) => self.write(group),
            Step::Check(group) => self.check(group),
            Step::Walk => self.walk(),
            Step::Trim(group) => self.trim(group),
            Step::Start(group) => self.start(group),
            Step::Stop(group) => self.stop(group),
            Step::Die(group) => self.die(group),
            Step::Restart(after) => self.restart(after, false),
            Step::Truncate(after) => self.restart(after, true),
        }
    }

    fn insert(&mut self, is_open: bool) {
        self.last += 1;
        self.clock += 1;
        // An INSERT with a number that a row has is an error of the caller.
        if !self.rows.contains_key(&self.last) {
            let row = Row {
                message: Some(self.messages),
                written_at: self.clock,
                is_open,
            };
            if !is_open {
                self.committed.insert(self.messages);
            }
            self.messages += 1;
            self.rows.insert(self.last, row);
        }
    }

    fn end(&mut self, which: usize, commits: bool) {
        let open = self.rows.iter_mut().filter(|(_, row)| row.is_open);
        if let Some((seq, row)) = open.map(|(seq, row)| (*seq, row)).nth(which) {
            row.is_open = false;
            match (commits, row.message) {
                (true, Some(message)) => drop(self.committed.insert(message)),
                _ => drop(self.rows.remove(&seq)),
            }
        }
    }

    /// The log does not promise to notice one case, so the test leaves it out: the sequence goes back while a process
    /// is dead that had read further than its watermark in the table.
    fn restart(&mut self, after: i64, truncates: bool) {
        let knows = |group: &Group| group.engine.is_some() || self.newest.seq >= group.read_to;
        if after >= self.last || !self.groups.iter().all(knows) {
            return;
        }
        if truncates {
            // Truncating waits for every transaction.
            while self.rows.values().any(|row| row.is_open) {
                self.end(0, true);
            }
            let messages = self.rows.values().filter_map(|row| row.message);
            self.truncated.extend(messages);
            self.rows.clear();
        }
        self.last = after;
        self.has_gone_back = true;
        for engine in self.groups.iter_mut().filter_map(|g| g.engine.as_mut()) {
            engine.is_behind = true;
        }
    }

    fn visible(&self, seq: i64) -> Option<LogRow> {
        let row = self.rows.get(&seq).filter(|row| !row.is_open)?;
        let topic = if row.message.is_some() {
            topic()
        } else {
            "".into()
        };
        let mut visible = LogRow::plain(seq, 0, topic, None);
        visible.written_at = row.written_at;
        Some(visible)
    }

    fn start(&mut self, at: usize) {
        if self.groups[at].engine.is_some() {
            return;
        }
        self.mend(&[], false, &|_, _| false);
        let mut watermarks = Watermarks::default();
        watermarks.learn(self.newest, self.clock);
        let group = &mut self.groups[at];
        let mut stream = Stream::new(0, None, Topics::from([(topic(), 0)]));
        stream.adopt(LaneRow {
            id: LaneId { stream: 0, lane: 0 },
            member: None,
            is_held: true,
            epoch: 1,
            read_to: group.read_to,
            settled_to: group.settled_to,
            open: Spans::parse(&group.open),
            ends_at: None,
        });
        watermarks.reached(stream.position);
        group.engine = Some(Engine {
            stream,
            watermarks,
            in_flight: BTreeMap::new(),
            is_behind: false,
        });
    }

    fn read(&mut self, at: usize, most: usize) {
        let Some(read) = self.groups[at].engine.as_ref().map(|e| e.stream.position) else {
            return;
        };
        let seqs = self.rows.range(read + 1..).map(|(seq, _)| *seq);
        let rows: Vec<LogRow> = seqs.filter_map(|seq| self.visible(seq)).collect();
        let trimmed = self.trimmed;
        for row in rows.into_iter().take(most) {
            let Some(engine) = self.groups[at].engine.as_mut() else {
                return;
            };
            if !engine.stream.can_read() {
                return;
            }
            note(&mut engine.watermarks, &row);
            engine.stream.note_missing(row.seq, trimmed);
            let offer = engine.stream.offer(&row, "shop");
            engine.stream.gaps.close(row.seq);
            engine.stream.reach(row.seq);
            self.take(at, offer, row.seq);
        }
        if let Some(engine) = self.groups[at].engine.as_mut() {
            engine.watermarks.reached(engine.stream.position);
            engine.stream.has_more = true;
        }
    }

    fn take(&mut self, at: usize, offer: Offer, seq: i64) {
        let message = self.rows.get(&seq).and_then(|row| row.message);
        if let (Offer::Take, Some(message), Some(engine)) =
            (offer, message, self.groups[at].engine.as_mut())
        {
            engine.in_flight.insert(seq, message);
        }
    }

    /// Looks for gaps, and fills those that no transaction has.
    fn look_for_gaps(&mut self, at: usize) {
        self.now += Duration::from_secs(60);
        let now = self.now;
        let Some(engine) = self.groups[at].engine.as_mut() else {
            return;
        };
        let inherited = engine.stream.inherited(500);
        engine.stream.looked_for(&inherited);
        let overdue = engine.stream.gaps.take_overdue(now, 500);
        let gaps: Vec<i64> = engine
            .stream
            .gaps
            .within(0, i64::MAX - 1)
            .flat_map(|(start, end)| start..=end)
            .collect();
        for seq in overdue {
            self.clock += 1;
            let empty = Row {
                message: None,
                written_at: self.clock,
                is_open: false,
            };
            if seq > self.trimmed {
                self.rows.entry(seq).or_insert(empty);
            }
        }
        for seq in gaps {
            let row = self.visible(seq);
            let Some(engine) = self.groups[at].engine.as_mut() else {
                return;
            };
            let Some(row) = row else {
                if seq <= self.trimmed && !self.rows.contains_key(&seq) {
                    engine.stream.gaps.close(seq);
                }
                continue;
            };
            note(&mut engine.watermarks, &row);
            let offer = engine.stream.offer(&row, "shop");
            engine.stream.gaps.close(seq);
            self.take(at, offer, seq);
        }
    }

    fn settle(&mut self, at: usize, which: usize) {
        let group = &mut self.groups[at];
        let Some(engine) = group.engine.as_mut() else {
            return;
        };
        let Some((seq, message)) = engine.in_flight.iter().nth(which).map(|(s, m)| (*s, *m)) else {
            return;
        };
        engine.in_flight.remove(&seq);
        if let Some(lane) = engine.stream.lane_mut(0) {
            lane.settle(seq);
        }
        *group.handled.entry(message).or_default() += 1;
    }

    fn write(&mut self, at: usize) {
        let group = &mut self.groups[at];
        let Some(engine) = group.engine.as_mut() else {
            return;
        };
        let gaps = engine.stream.gaps.clone();
        if let Some(lane) = engine.stream.lane_mut(0) {
            let progress = lane.progress(&gaps);
            group.read_to = progress.read_to;
            group.open = progress.open.to_string();
            group.settled_to = progress.settled_to;
            lane.committed(progress);
        }
    }

    fn check(&mut self, at: usize) {
        let Some(engine) = self.groups[at].engine.as_ref() else {
            return;
        };
        let marks = engine.watermarks.list();
        let gaps = engine.stream.gaps.clone();
        let late = engine.watermarks.late();
        self.mend(&marks, true, &|seq, at| {
            gaps.contains(seq) || late.get(&seq) == Some(&at)
        });
        let Some(engine) = self.groups[at].engine.as_mut() else {
            return;
        };
        // The log does not promise to notice one more case: a transaction has such a number, and commits after the
        // processes have died that had read the number before.
        let marks = engine.watermarks.list();
        let is_second = |(seq, row): (&i64, &Row)| {
            row.is_open
                && marks
                    .iter()
                    .any(|mark| mark.is_broken_by(*seq, row.written_at))
        };
        engine.is_behind &= self.rows.iter().any(is_second);
        if let Some(last) = for_others(&engine.watermarks).pop()
            && last.seq > self.newest.seq
        {
            self.newest = last;
        }
    }

    /// As `Log::mend` does. The log is short, so all of it is at its ends.
    fn mend(&mut self, marks: &[Watermark], same_server: bool, is_open: &dyn Fn(i64, i64) -> bool) {
        let visible = self.rows.iter().filter(|(_, row)| !row.is_open);
        let read_to = self.groups.iter().map(|group| group.read_to).max();
        let written: Vec<_> = self.left.iter().chain([&self.newest]).copied().collect();
        let told = marks.iter().chain(&written).map(|mark| mark.seq);
        let told = told.max().unwrap_or(0);
        let highest = visible.clone().map(|(seq, _)| *seq).max().unwrap_or(0);
        let highest = highest
            .max(read_to.unwrap_or(0))
            .max(self.trimmed)
            .max(told);
        let mut lost = None;
        if self.last < highest {
            let exact = written_by(marks, self.last);
            let exact = exact.or_else(|| written_by(&written, self.last));
            let exact = exact.unwrap_or(0);
            self.went_back.push(Watermark {
                seq: told.min(self.last),
                written_at: exact,
            });
            lost = Some(Watermark {
                seq: self.last,
                written_at: exact - i64::from(!same_server),
            });
            self.last = highest;
        }
        let is_second = |seq: i64, row: &Row| {
            let mut all = marks.iter().chain(&written).chain(&self.went_back);
            let passed = self.groups.iter().any(|group| group.read_to >= seq);
            row.message.is_some()
                && (all.any(|mark| mark.is_broken_by(seq, row.written_at))
                    || passed && lost.is_some_and(|lost| lost.is_broken_by(seq, row.written_at)))
        };
        let second: Vec<(i64, Row)> = visible
            .filter(|(seq, row)| is_second(**seq, row) && !is_open(**seq, row.written_at))
            .map(|(seq, row)| (*seq, *row))
            .collect();
        if let (Some((seq, _)), None) = (second.last(), lost) {
            let marks: Vec<_> = marks.iter().chain(&written).copied().collect();
            self.went_back.push(Watermark {
                seq: *seq,
                written_at: written_by(&marks, *seq).unwrap_or(0),
            });
        }
        for (seq, row) in second {
            assert!(self.has_gone_back, "{seq} was allocated once");
            self.rows.remove(&seq);
            self.last += 1;
            self.rows.insert(self.last, row);
        }
    }

    fn walk(&mut self) {
        for at in 0..GROUPS {
            self.check(at);
        }
    }

    fn trim(&mut self, at: usize) {
        let settled = self.groups.iter().map(|group| group.settled_to).min();
        let Some(engine) = self.groups[at].engine.as_ref() else {
            return;
        };
        let mut end = self.trimmed;
        for (seq, row) in self.rows.range(self.trimmed + 1..) {
            let is_read = engine
                .watermarks
                .last()
                .is_some_and(|last| *seq <= last.seq);
            let is_second =
                row.message.is_some() && engine.watermarks.are_broken_by(*seq, row.written_at);
            if row.is_open {
                continue;
            }
            if is_second || !is_read || settled.is_none_or(|settled| *seq > settled) {
                break;
            }
            end = *seq;
        }
        let trimmed = self.trimmed;
        self.rows
            .retain(|seq, row| row.is_open || *seq <= trimmed || *seq > end);
        self.trimmed = end;
    }

    fn stop(&mut self, at: usize) {
        self.write(at);
        self.check(at);
        if let Some(engine) = self.groups[at].engine.take() {
            let left = std::mem::take(&mut self.left);
            self.left = left_together(left, &for_others(&engine.watermarks));
        }
    }

    fn die(&mut self, at: usize) {
        let engine = self.groups[at].engine.as_ref();
        if engine.is_some_and(|engine| !engine.is_behind) {
            self.groups[at].engine = None;
        }
    }

    fn finish(&mut self) {
        while self.rows.values().any(|row| row.is_open) {
            self.end(0, true);
        }
        for _ in 0..4 {
            for at in 0..GROUPS {
                self.start(at);
                self.check(at);
                self.look_for_gaps(at);
                self.look_for_gaps(at);
                self.read(at, usize::MAX);
                let engine = |world: &Self| {
                    let engine = world.groups[at].engine.as_ref();
                    engine.map_or(0, |engine| engine.in_flight.len())
                };
                while engine(self) > 0 {
                    self.settle(at, 0);
                }
                self.write(at);
            }
        }
        for (at, group) in self.groups.iter().enumerate() {
            for message in self.committed.difference(&self.truncated) {
                let times = group.handled.get(message).copied().unwrap_or(0);
                assert!(times > 0, "{message} is lost to group {at}");
            }
        }
    }
}

fn play(steps: &[Step]) {
    let mut world = World::new();
    (0..GROUPS).for_each(|group| world.start(group));
    for step in steps {
        world.step(*step);
    }
    world.finish();
}

/// Message 1 commits after everything else. The second group has read nothing but the filled gap above it.
#[test]
fn a_filled_gap_makes_no_message_below_it_look_renumbered() {
    use Step::{Gaps, Insert, Publish, Read, RollBack, Stop};
    play(&[
        Insert(2),
        RollBack(1),
        Publish(1),
        Read(0, 1),
        Gaps(0),
        Read(1, 1),
        Stop(1),
    ]);
}

/// The second group has read nothing of the old numbers, so its own watermarks say nothing about them.
#[test]
fn a_group_that_stops_after_another_leaves_the_watermarks_of_both() {
    use Step::{Insert, Publish, Read, Settle, Stop, Truncate};
    play(&[
        Insert(2),
        Publish(4),
        Read(0, 4),
        Settle(0, 3),
        Truncate(3),
        Insert(4),
        Publish(1),
        Stop(0),
        Read(1, 1),
        Stop(1),
    ]);
}

/// Number 14 was a gap when the numbers went back, and a message took it then. Messages below it have used numbers.
#[test]
fn a_late_message_hides_no_used_number_below_it() {
    use Step::{Gaps, Insert, Publish, Read, Restart, Settle, Stop, Truncate};
    play(&[
        Publish(6),
        Truncate(4),
        Insert(3),
        Publish(6),
        Insert(1),
        Publish(1),
        Read(1, 7),
        Truncate(6),
        Insert(4),
        Publish(28),
        Read(1, 1),
        Restart(0),
        Insert(1),
        Settle(1, 0),
        Gaps(1),
        Stop(1),
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn no_message_is_lost_when_the_sequence_goes_back_and_none_is_renumbered_when_it_does_not(
        steps in prop::collection::vec(step(), 0..120)
    ) {
        play(&steps);
    }
}
