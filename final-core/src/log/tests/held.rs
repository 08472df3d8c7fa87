//! Messages that fail and are held, among others: random histories of one member.
//!
//! The model does with the states what the engine does, and checks after each step that no message begins before what
//! it waits for is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    broker::{Cause, Holding},
    handler::Hold,
    log::{
        engine::deliver::Deliveries,
        member::settlements::Settlements,
        progress::{
            gaps::Gaps,
            held::{HeldMessages, HeldRow, HeldWrite, KnownHeld, Turn, Wish},
            in_flight::InFlight,
            lane::Lane,
            rows::{LaneId, LogRow},
            spans::Spans,
        },
        tuning::Tuning,
    },
};

const KEYS: [Option<&str>; 4] = [Some("a"), Some("b"), Some("c"), None];
/// The first one is held as a whole.
const TOPICS: [&str; 2] = ["whole", "by key"];
const PREFETCH: usize = 6;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A row is taken: which key, and which topic.
    Take(usize, usize),
    /// A handler has succeeded.
    Finish(usize),
    /// A handler has failed.
    Fail(usize),
    /// All pauses are over.
    Due,
    /// An operator skips a held message.
    Skip(usize),
    /// A lane is given away and comes back: what it had open is taken again.
    Move(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..KEYS.len(), 0..TOPICS.len()).prop_map(|(key, topic)| Step::Take(key, topic)),
        3 => any::<usize>().prop_map(Step::Finish),
        3 => any::<usize>().prop_map(Step::Fail),
        2 => Just(Step::Due),
        1 => any::<usize>().prop_map(Step::Skip),
        1 => (0..KEYS.len()).prop_map(Step::Move),
    ]
}

struct Member {
    in_flight: InFlight,
    held: HeldMessages,
    /// Every message: its key, its topic, and whether it is done.
    messages: BTreeMap<i64, (usize, usize, bool)>,
    /// The messages at handlers, with their tags.
    running: BTreeMap<i64, u64>,
    /// The messages that are held, also while they are tried again.
    holding: BTreeSet<i64>,
    /// The messages that are visible and not taken.
    ahead: BTreeSet<i64>,
    /// The tags that wait to be read.
    noted: BTreeSet<u64>,
    tags: BTreeMap<u64, i64>,
}

impl Member {
    fn new() -> Self {
        let whole = [Arc::from(TOPICS[0])];
        Self {
            in_flight: InFlight::new(true, PREFETCH, 0).holding(whole),
            held: HeldMessages::default(),
            messages: BTreeMap::new(),
            running: BTreeMap::new(),
            holding: BTreeSet::new(),
            ahead: BTreeSet::new(),
            noted: BTreeSet::new(),
            tags: BTreeMap::new(),
        }
    }

    /// A lane for each key.
    fn lane(&self, seq: i64) -> LaneId {
        LaneId {
            stream: 0,
            lane: self.messages[&seq].0,
        }
    }

    fn row(&self, seq: i64) -> LogRow {
        let (key, topic, _) = self.messages[&seq];
        LogRow::plain(seq, key, TOPICS[topic].into(), KEYS[key])
    }

    fn take(&mut self, seq: i64) {
        let (tag, goes) = self.in_flight.take(self.lane(seq), self.row(seq));
        self.tags.insert(tag, seq);
        if goes {
            self.begin(tag);
        }
    }

    fn next(&mut self, tag: u64) {
        if !self.in_flight.passes(tag) {
            return;
        }
        match self.in_flight.must_read(tag) {
            true => drop(self.noted.insert(tag)),
            false => self.begin(tag),
        }
    }

    /// Reads as far as there is room: first what waited without its content, then what is new.
    fn read(&mut self) {
        loop {
            let waiting = self.in_flight.take_to_read();
            if waiting.is_empty() {
                break;
            }
            for (tag, _, seq) in waiting {
                self.noted.remove(&tag);
                if self.in_flight.passes(tag) {
                    self.in_flight.fill(tag, Some(self.row(seq)));
                    self.begin(tag);
                }
            }
        }
        while self.in_flight.room() > 0
            && let Some(seq) = self.ahead.pop_first()
        {
            self.take(seq);
        }
    }

    fn begin(&mut self, tag: u64) {
        let seq = self.tags[&tag];
        match self.held.turn(seq, tag) {
            Turn::Go | Turn::Retry => {
                self.may_begin(seq);
                self.running.insert(seq, tag);
                assert!(self.running.len() <= PREFETCH, "the channel overflows");
            }
            Turn::Wait(attempts) => self.in_flight.hold(tag, attempts),
            Turn::Skip(_) => self.settle(seq, tag),
        }
    }

    /// Nothing that a message waits for is open.
    fn may_begin(&self, seq: i64) {
        let (key, topic, is_done) = self.messages[&seq];
        assert!(!is_done && !self.running.contains_key(&seq), "{seq} again");
        let open = self.messages.range(..seq).filter(|(_, (.., done))| !done);
        for (earlier, (of, ..)) in open {
            assert!(*of != key || KEYS[key].is_none(), "{seq} before {earlier}");
        }
        let mut holding = self.holding.iter();
        let is_held = holding.any(|held| self.messages[held].1 == topic);
        let is_holder = self.holding.contains(&seq);
        assert!(topic != 0 || !is_held || is_holder, "{seq} of a held topic");
    }

    fn settle(&mut self, seq: i64, tag: u64) {
        let message = self.messages.get_mut(&seq).unwrap();
        assert!(!std::mem::replace(&mut message.2, true), "{seq} twice");
        self.running.remove(&seq);
        self.holding.remove(&seq);
        let next = self.in_flight.settle(tag).and_then(|(_, next)| next);
        if let Some(next) = next {
            self.next(next);
        }
        if self.held.end(seq) {
            for free in self.in_flight.gates().open(seq) {
                self.next(free);
            }
        }
    }

    fn fail(&mut self, seq: i64, tag: u64) {
        let (_, topic, _) = self.messages[&seq];
        let hold = if topic == 0 { Hold::Topic } else { Hold::Key };
        let known = KnownHeld {
            seq,
            lane: self.lane(seq),
            topic: TOPICS[topic].to_owned(),
            hold,
            reason: "broken".to_owned(),
            attempts: 1,
            times: 0,
            retries: true,
            wish: None,
        };
        let row = HeldRow {
            known,
            id: Uuid::nil(),
            key: None,
            pause: Duration::ZERO,
        };
        self.running.remove(&seq);
        let holding = Holding::new(Cause::new("broken", 1));
        if self.held.hold(tag, row, &holding, Instant::now()).is_err() {
            return self.settle(seq, tag);
        }
        self.holding.insert(seq);
        if hold == Hold::Topic {
            self.in_flight.gates().close(TOPICS[topic], seq);
        }
        self.in_flight.hold(tag, 1);
    }

    fn due(&mut self) {
        for tag in self
            .held
            .take_due(Instant::now() + Duration::from_secs(3_600))
        {
            self.next(tag);
        }
    }

    /// A lane is given away while no handler has a message of it, and comes back.
    fn give_away(&mut self, lane: usize) {
        let id = LaneId { stream: 0, lane };
        let in_flight = &self.in_flight;
        self.noted.retain(|tag| in_flight.get(*tag).is_some());
        let noted = self.noted.iter().map(|tag| &self.tags[tag]);
        let tried = noted.filter(|seq| self.holding.contains(*seq));
        if tried
            .chain(self.running.keys())
            .any(|seq| self.lane(*seq) == id)
        {
            return;
        }
        let (mut open, next) = self.in_flight.take_waiting(id);
        for tag in next {
            self.next(tag);
        }
        let mut left = Vec::new();
        for (seq, tag) in self.held.forget(id, false) {
            self.in_flight.gates().leave(seq);
            let taken = tag.and_then(|tag| self.in_flight.settle(tag));
            let next = taken.and_then(|(_, next)| next);
            assert_eq!(next, None, "all of the lane are taken out");
            let (_, topic, _) = self.messages[&seq];
            open.push(seq);
            left.push((seq, topic));
        }
        // The next owner knows by the table what is held; here it is this member again.
        for (seq, topic) in left {
            let is_whole = topic == 0;
            if is_whole {
                self.in_flight.gates().close(TOPICS[topic], seq);
            }
            self.held.learn(KnownHeld {
                seq,
                lane: id,
                topic: TOPICS[topic].to_owned(),
                hold: if is_whole { Hold::Topic } else { Hold::Key },
                reason: "broken".to_owned(),
                attempts: 1,
                times: 1,
                retries: true,
                wish: None,
            });
        }
        self.ahead.extend(open);
    }

    fn step(&mut self, step: Step) {
        let pick = |which: usize, from: &BTreeMap<i64, u64>| {
            let at = which % from.len().max(1);
            from.iter().nth(at).map(|(seq, tag)| (*seq, *tag))
        };
        match step {
            Step::Take(key, topic) => {
                let seq = self.messages.len() as i64 + 1;
                self.messages.insert(seq, (key, topic, false));
                self.ahead.insert(seq);
            }
            Step::Finish(which) => {
                if let Some((seq, tag)) = pick(which, &self.running) {
                    self.settle(seq, tag);
                }
            }
            Step::Fail(which) => {
                if let Some((seq, tag)) = pick(which, &self.running) {
                    self.fail(seq, tag);
                }
            }
            Step::Due => self.due(),
            Step::Skip(which) => {
                let at = which % self.holding.len().max(1);
                let seq = self.holding.iter().nth(at).copied();
                let skip = Wish::Skip("gone".to_owned());
                if let Some(tag) = seq.and_then(|seq| self.held.wish(seq, skip)) {
                    self.next(tag);
                }
            }
            Step::Move(lane) => self.give_away(lane),
        }
        self.read();
    }
}

proptest! {
    #[test]
    fn nothing_begins_before_what_it_waits_for_and_everything_is_done_once(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut member = Member::new();
        steps.into_iter().for_each(|step| member.step(step));

        // Everything is mended.
        for _ in 0..200 {
            member.due();
            while let Some((seq, tag)) = member.running.first_key_value() {
                let (seq, tag) = (*seq, *tag);
                member.settle(seq, tag);
                member.read();
            }
            member.read();
        }
        prop_assert!(member.messages.values().all(|(.., done)| *done), "{:?}", member.messages);
        prop_assert!(member.held.is_empty() && !member.in_flight.gates().is_closed_elsewhere());
        prop_assert_eq!(member.in_flight.room(), PREFETCH);
    }
}

fn known(retries: bool) -> KnownHeld {
    KnownHeld {
        seq: 7,
        lane: LaneId { stream: 0, lane: 1 },
        topic: "placed".to_owned(),
        hold: Hold::Key,
        reason: "it takes the process down".to_owned(),
        attempts: 3,
        times: 1,
        retries,
        wish: None,
    }
}

/// Otherwise each restart would end with the process.
#[test]
fn what_takes_the_process_down_is_held_after_a_restart_without_an_attempt() {
    let mut held = HeldMessages::default();
    held.learn(known(false));

    assert_eq!(held.turn(7, 1), Turn::Wait(3));
    assert_eq!((held.next(), held.take_due(Instant::now())), (None, vec![]));
    assert_eq!(held.wish(7, Wish::Retry), Some(1));
    assert_eq!(held.turn(7, 1), Turn::Retry);
}

/// The wish is written as heard first: if the message takes the process down again, the next owner holds it.
#[test]
fn an_operators_wish_is_obeyed_once_by_who_takes_the_lane_over() {
    for retries in [false, true] {
        let mut held = HeldMessages::default();
        held.learn(KnownHeld {
            wish: Some(Wish::Retry),
            ..known(retries)
        });

        assert_eq!(held.take_writes(9, |_| true), [HeldWrite::Heard(7)]);
        assert_eq!(held.turn(7, 1), Turn::Retry);
        let holding = Holding::new(Cause::new("broken", 1));
        held.hold(1, row(), &holding, Instant::now()).unwrap();
        held.take_due(Instant::now() + Duration::from_secs(3_600));
        assert_eq!(held.turn(7, 1), Turn::Go);
    }
}

/// As a suspect it could be held again without an attempt.
#[tokio::test]
async fn a_message_that_an_operator_retries_is_no_suspect() {
    for (wish, is_suspect) in [(None, true), (Some(Wish::Retry), false)] {
        let (channel, mut handlers) = mpsc::channel(2);
        let mut deliveries = Deliveries::new(
            &Tuning::default(),
            &BTreeMap::new(),
            Arc::new(Settlements::new(true)),
            Some(channel),
        );
        deliveries.suspect(1);
        let known = known(true);
        let lane = known.lane;
        deliveries.held.learn(KnownHeld { wish, ..known });
        let row = LogRow::plain(7, 1, TOPICS[1].into(), Some("a"));
        deliveries.take(lane, row, true);

        let delivery = handlers.try_recv().unwrap();
        assert_eq!(delivery.is_suspect(), is_suspect);
    }
}

#[test]
fn what_is_held_and_may_be_retried_is_tried_at_once_after_a_restart() {
    let mut held = HeldMessages::default();
    held.learn(known(true));

    assert_eq!(held.turn(7, 1), Turn::Go);
}

#[test]
fn a_message_that_is_skipped_while_it_is_tried_is_not_tried_again() {
    let mut held = HeldMessages::default();
    held.learn(known(true));
    assert_eq!(held.turn(7, 1), Turn::Go);
    assert_eq!(held.wish(7, Wish::Skip("ann: gone".to_owned())), None);

    let row = HeldRow {
        known: known(true),
        id: Uuid::nil(),
        key: None,
        pause: Duration::ZERO,
    };
    let holding = Holding::new(Cause::new("broken", 4));
    let skipped = held.hold(1, row, &holding, Instant::now()).unwrap_err();
    assert!(skipped.reason.contains("ann: gone"), "{}", skipped.reason);
    assert!(held.end(7));
}

/// Pauses grow from about a second to five minutes, over restarts as well.
#[test]
fn pauses_grow_up_to_five_minutes() {
    let mut held = HeldMessages::default();
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let row = HeldRow {
            known: KnownHeld {
                times: 0,
                ..known(true)
            },
            id: Uuid::nil(),
            key: None,
            pause: Duration::ZERO,
        };
        let holding = Holding::new(Cause::new("broken", 4));
        let row = held.hold(1, row, &holding, Instant::now()).unwrap();
        pauses.push(row.pause.as_secs_f64());
    }

    assert!((0.5..=1.5).contains(&pauses[0]), "{pauses:?}");
    assert!((2.0..=6.0).contains(&pauses[2]), "{pauses:?}");
    assert!((150.0..=300.0).contains(&pauses[19]), "{pauses:?}");
}

/// Thousands of messages can wait for one topic, and the channel to the handlers has places for the prefetch.
#[test]
fn messages_that_may_go_at_once_are_read_as_far_as_there_is_room() {
    let (topic, lane) = (TOPICS[0], LaneId { stream: 0, lane: 3 });
    let mut in_flight = InFlight::new(false, PREFETCH, 0).holding([Arc::from(topic)]);
    in_flight.gates().close(topic, 1);
    for seq in 2..=100 {
        in_flight.take(lane, LogRow::plain(seq, 3, topic.into(), None));
    }
    let with_content = PREFETCH - in_flight.room();
    let free = in_flight.gates().open(1);
    let noted = free.iter().filter(|tag| in_flight.must_read(**tag)).count();
    assert_eq!((free.len(), noted), (99, 99 - with_content));

    let read = in_flight.take_to_read();
    assert_eq!(read.len(), PREFETCH - with_content);
    for (tag, _, seq) in &read {
        let row = LogRow::plain(*seq, 3, topic.into(), None);
        in_flight.fill(*tag, Some(row));
    }
    assert!(in_flight.take_to_read().is_empty() && in_flight.has_to_read());

    in_flight.settle(read[0].0);
    assert_eq!(in_flight.take_to_read().len(), 1);
}

/// Otherwise the lane would be kept until all of them are handled.
#[test]
fn messages_that_wait_for_room_are_left_to_the_next_owner_of_their_lane() {
    let lane = LaneId { stream: 0, lane: 0 };
    let mut in_flight = InFlight::new(true, 1, 0);
    let row = |seq| LogRow::plain(seq, 0, TOPICS[1].into(), Some("a"));
    let (first, _) = in_flight.take(lane, row(1));
    in_flight.take(lane, row(2));
    let (_, next) = in_flight.settle(first).unwrap();
    assert!(in_flight.must_read(next.unwrap()));

    assert_eq!(in_flight.take_waiting(lane), (vec![2], vec![]));
    assert!(!in_flight.has_to_read());
}

/// Otherwise the next owner of its lane would try a message again that an operator has skipped.
#[test]
fn the_row_of_a_message_stays_until_its_letter_is_taken() {
    let mut held = HeldMessages::default();
    held.learn(known(true));
    assert!(held.end(7));

    held.keep_row(7);
    held.committed();
    assert_eq!(held.take_writes(9, |_| true), [HeldWrite::Open(7)]);

    held.end_row(7);
    held.committed();
    assert_eq!(held.take_writes(9, |_| true), [HeldWrite::Remove(7)]);
}

#[test]
fn the_row_of_a_message_is_left_to_the_next_owner_with_its_letter() {
    let mut held = HeldMessages::default();
    held.learn(known(true));
    assert!(held.end(7));
    held.keep_row(7);

    held.leave_row(7);
    held.end_row(7);
    held.committed();
    assert_eq!(held.take_writes(9, |_| true), [HeldWrite::Open(7)]);
}

/// Its row can be written for the first time after its letter is refused.
#[test]
fn a_message_whose_letter_is_refused_holds_its_topic_no_longer() {
    let mut held = HeldMessages::default();
    let mut row = row();
    row.known.hold = Hold::Topic;
    let holding = Holding::new(Cause::new("broken", 1));
    held.hold(1, row, &holding, Instant::now()).unwrap();
    assert!(held.end(7));
    held.keep_row(7);

    let writes = held.take_writes(9, |_| true);
    let [HeldWrite::Save(row), HeldWrite::Open(7)] = &writes[..] else {
        panic!("{writes:?}");
    };
    assert_eq!(row.known.hold, Hold::Key);
    held.keep_row(7);
    assert!(
        !held.has_writes(|_| true),
        "each time its letter is refused"
    );
}

fn row() -> HeldRow {
    HeldRow {
        known: known(true),
        id: Uuid::nil(),
        key: None,
        pause: Duration::ZERO,
    }
}

/// The next owner of the lane could else wait for a message that it has no room to read on for.
#[test]
fn a_message_is_open_in_the_progress_of_its_lane_before_its_row_is_written() {
    let (mut lane, gaps) = (Lane::new(1, 5, Spans::default()), Gaps::default());
    let mut held = HeldMessages::default();
    assert!(lane.take(7));
    lane.reach(9);
    let holding = Holding::new(Cause::new("broken", 1));
    held.hold(1, row(), &holding, Instant::now()).unwrap();
    held.is_stale(3);
    let is_open = |lane: &Lane, known: &KnownHeld| !lane.awaits_commit(known.seq);

    let first = held.take_writes(9, |known| is_open(&lane, known));
    assert_eq!(first, [HeldWrite::Remove(3)], "nothing else waits");
    assert!(!held.has_writes(|known| is_open(&lane, known)) && held.has_rows(known(true).lane));

    let progress = lane.progress(&gaps);
    assert!(progress.open.contains(7));
    lane.committed(progress);
    let then = held.take_writes(9, |known| is_open(&lane, known));
    assert!(matches!(&then[..], [HeldWrite::Save(_)]), "{then:?}");
    assert!(!held.has_rows(known(true).lane));
}

#[test]
fn no_row_is_written_about_a_message_that_is_done_meanwhile_or_whose_lane_is_lost() {
    let mut held = HeldMessages::default();
    let holding = Holding::new(Cause::new("broken", 1));
    held.hold(1, row(), &holding, Instant::now()).unwrap();
    assert!(held.end(7));
    held.committed();
    assert_eq!(held.take_writes(9, |_| true), [HeldWrite::Remove(7)]);

    held.hold(1, row(), &holding, Instant::now()).unwrap();
    held.forget(known(true).lane, true);
    assert!(!held.has_writes(|_| true));
}

/// `max_age` can remove it while its lane changes its owner.
#[test]
fn a_held_message_that_was_removed_is_forgotten_with_its_row() {
    let (mut lane, gaps) = (Lane::new(1, 5, Spans::default()), Gaps::default());
    let mut held = HeldMessages::default();
    held.learn(known(true));
    assert_eq!(held.known().map(|(seq, _)| seq).collect::<Vec<_>>(), [7]);
    assert!(lane.has_ahead(7));

    lane.reach(9);
    assert!(lane.has_ahead(7), "that is not written yet");
    lane.committed(lane.progress(&gaps));
    assert!(!lane.has_ahead(7));
    held.is_gone(7);
    assert!(held.is_empty());
    assert_eq!(held.take_writes(9, |_| true), [HeldWrite::Remove(7)]);
}
