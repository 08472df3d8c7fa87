//! Deliveries whose channel ended before they were settled.
//!
//! Input: what was in flight on a channel that ends; settlements that come too late for their channel; messages that
//! RabbitMQ delivers again. State: one [`Orphan`] for each such delivery. Output: for a message that comes again, the
//! settlement of its earlier delivery, so that no second handler begins beside the first.
//!
//! ```text
//! in flight ── its channel ends ──▶ open ── comes again ──▶ awaited ── settled ──▶ told to the later delivery
//!                                    │ ▲                       │
//!                                    │ └─ the later one ends ──┘
//!                                    ├─ acked or dead-lettered ──▶ settled ── comes again ──▶ told
//!                                    └─ requeued ──▶ forgotten    (kept for a while)
//! ```
//!
//! While no channel ends there are no orphans, and only a redelivered message is looked up here. With several channels,
//! a message can come again on one before the end of another is known: it then waits for its orphan a moment. Two deliveries are of
//! the same message if the producer's bytes and the id are the same. Each orphan is found once, so each run of a
//! handler settles one message. If RabbitMQ gives the message to another process, its orphan is forgotten after a
//! while.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use final_core::{MessageId, broker::Settlement};
use tokio::{
    sync::oneshot,
    time::{Duration, Instant},
};
use uuid::Uuid;

use crate::lock::lock;

/// How many settlements of orphans are remembered.
const LIMIT: usize = 10_000;
/// How long they are: a broker that restarts delivers the messages again within this time.
const KEPT: Duration = Duration::from_secs(5 * 60);
/// The same for messages without an id. Another message may look the same.
const KEPT_NAMELESS: Duration = Duration::from_secs(30);

/// How long after its message an orphan may come. RabbitMQ tells of a channel's end at once, but a process without CPU
/// hears it late.
const NEWS: Duration = Duration::from_secs(3);

/// What tells a message from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Likeness {
    /// The fingerprint of the delivery.
    pub(super) looks: Uuid,
    pub(super) id: MessageId,
    /// Whether the producer gave the id.
    pub(super) identified: bool,
}

/// A delivery: the number of its channel incarnation, and its tag.
pub(super) type DeliveryNumber = (u64, u64);

/// What a later delivery waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    /// The settlement of this orphan.
    Orphan(DeliveryNumber),
    /// An orphan that may come: how it looks, and the number of the wait.
    News(Uuid, u64),
}

/// A delivery in flight on a channel that ends.
#[derive(Debug)]
pub(super) struct LeftBehind {
    pub(super) tag: u64,
    pub(super) likeness: Likeness,
    /// What it waits for.
    pub(super) awaits: Option<Awaits>,
    /// Its settlement, if that is known and did not reach the broker.
    pub(super) settled: Option<Settlement>,
}

/// All orphans of a link.
#[derive(Debug, Default)]
pub(super) struct Orphans(Mutex<Orphanage>);

#[derive(Debug, Default)]
struct Orphanage {
    orphans: HashMap<DeliveryNumber, Orphan>,
    /// Those that can be found by a redelivery, the newest last.
    findable: HashMap<Likeness, Vec<DeliveryNumber>>,
    /// Those that were settled, the oldest first. Some are gone already.
    settled: VecDeque<(Instant, DeliveryNumber)>,
    /// Later deliveries that came before their orphan, by how they look, each with its number.
    expected: HashMap<Uuid, Vec<(u64, oneshot::Sender<Settlement>)>>,
    /// Until when each of them waits, the oldest first. Some have found their orphan already.
    waits: VecDeque<(Instant, Uuid, u64)>,
    last_expected: u64,
}

#[derive(Debug)]
struct Orphan {
    likeness: Likeness,
    state: OrphanState,
}

#[derive(Debug)]
enum OrphanState {
    /// The bus has not settled it.
    Open,
    /// The same, and a later delivery of the message waits for its settlement.
    Awaited(oneshot::Sender<Settlement>),
    /// The bus has settled it, and the message has not come again.
    Settled(Settlement, Instant),
}

impl Orphans {
    /// A channel ends: makes orphans of what it leaves behind. `close` closes its orders, and gives the settlements
    /// among them.
    ///
    /// They are closed under the lock, so that a settlement is either among the orders or finds its orphan.
    pub(super) fn adopt(
        &self,
        channel: u64,
        close: impl FnOnce() -> HashMap<u64, Settlement>,
        left: Vec<LeftBehind>,
    ) {
        let mut all = lock(&self.0);
        let mut late = close();
        for LeftBehind {
            tag,
            likeness,
            awaits,
            settled,
        } in left
        {
            // As long as it waits, the bus has it only to wait. Its message comes again, and waits anew. As an orphan it
            // could find its own wait, and would wait for itself.
            if awaits.is_some_and(|awaits| all.release(awaits)) {
                continue;
            }
            let origin = (channel, tag);
            all.offer(origin, likeness);
            if let Some(settlement) = settled.or_else(|| late.remove(&tag)) {
                all.settle(origin, settlement);
            }
        }
    }

    /// Whether no message that comes again can find anything here.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.0).findable.is_empty()
    }

    /// Finds the earlier delivery of a message that comes again, and gives what will be its settlement.
    pub(super) fn find(
        &self,
        likeness: Likeness,
    ) -> Option<(Awaits, oneshot::Receiver<Settlement>)> {
        self.find_at(likeness, Instant::now())
    }

    fn find_at(
        &self,
        likeness: Likeness,
        now: Instant,
    ) -> Option<(Awaits, oneshot::Receiver<Settlement>)> {
        let mut all = lock(&self.0);
        all.forget_old(now);
        let (sender, settlement) = oneshot::channel();
        let origin = all.take(likeness)?;
        let orphan = all.orphans.get_mut(&origin)?;
        if matches!(orphan.state, OrphanState::Settled(..)) {
            if let Some(OrphanState::Settled(settled, at)) =
                all.orphans.remove(&origin).map(|orphan| orphan.state)
            {
                if !likeness.identified && now.duration_since(at) > KEPT_NAMELESS {
                    return None;
                }
                let _ = sender.send(settled);
            }
        } else {
            orphan.state = OrphanState::Awaited(sender);
        }
        Some((Awaits::Orphan(origin), settlement))
    }

    /// Waits a moment for an orphan of a message that has come again already. Gives what will be its settlement, or
    /// nothing.
    pub(super) fn expect(&self, likeness: Likeness) -> (Awaits, oneshot::Receiver<Settlement>) {
        let (sender, settlement) = oneshot::channel();
        let until = Instant::now() + NEWS;
        let number = lock(&self.0).expect(likeness.looks, sender, until);
        (Awaits::News(likeness.looks, number), settlement)
    }

    /// Ends the waits that are over. Each channel calls it every so often: it has the deliveries that wait.
    pub(super) fn end_waits(&self, now: Instant) {
        lock(&self.0).end_waits(now);
    }

    /// A settlement that came too late for its channel.
    pub(super) fn settle(&self, origin: DeliveryNumber, settlement: Settlement) {
        lock(&self.0).settle(origin, settlement);
    }

    /// The delivery that waited for this has ended. The message will come again.
    pub(super) fn release(&self, awaits: Awaits) {
        lock(&self.0).release(awaits);
    }
}

impl Orphanage {
    fn expect(&mut self, looks: Uuid, later: oneshot::Sender<Settlement>, until: Instant) -> u64 {
        self.last_expected += 1;
        let expected = self.expected.entry(looks).or_default();
        expected.push((self.last_expected, later));
        self.waits.push_back((until, looks, self.last_expected));
        self.last_expected
    }

    fn end_waits(&mut self, now: Instant) {
        while let Some((_, looks, number)) = self.waits.pop_front_if(|(until, ..)| *until <= now) {
            self.expect_no_longer(looks, number);
        }
    }

    fn take_expected(&mut self, looks: Uuid) -> Option<oneshot::Sender<Settlement>> {
        let expected = self.expected.get_mut(&looks)?;
        let later = expected.pop();
        if expected.is_empty() {
            self.expected.remove(&looks);
        }
        later.map(|(_, later)| later)
    }

    /// True if it was still waited for.
    fn expect_no_longer(&mut self, looks: Uuid, number: u64) -> bool {
        let Some(expected) = self.expected.get_mut(&looks) else {
            return false;
        };
        let before = expected.len();
        expected.retain(|(other, _)| *other != number);
        let was_expected = expected.len() < before;
        if expected.is_empty() {
            self.expected.remove(&looks);
        }
        was_expected
    }

    fn take(&mut self, likeness: Likeness) -> Option<DeliveryNumber> {
        let origins = self.findable.get_mut(&likeness)?;
        let origin = origins.pop();
        if origins.is_empty() {
            self.findable.remove(&likeness);
        }
        origin
    }

    /// True if the wait was not over.
    fn release(&mut self, awaits: Awaits) -> bool {
        let origin = match awaits {
            Awaits::Orphan(origin) => origin,
            Awaits::News(looks, number) => return self.expect_no_longer(looks, number),
        };
        let Some(orphan) = self.orphans.get(&origin) else {
            return false;
        };
        if matches!(orphan.state, OrphanState::Awaited(_)) {
            let likeness = orphan.likeness;
            self.offer(origin, likeness);
        }
        true
    }

    /// Leaves an open orphan to the delivery that expects it, or to the next redelivery.
    fn offer(&mut self, origin: DeliveryNumber, likeness: Likeness) {
        let state = match self.take_expected(likeness.looks) {
            Some(later) => OrphanState::Awaited(later),
            None => {
                self.findable.entry(likeness).or_default().push(origin);
                OrphanState::Open
            }
        };
        self.orphans.insert(origin, Orphan { likeness, state });
    }

    fn settle(&mut self, origin: DeliveryNumber, mut settlement: Settlement) {
        let Some(orphan) = self.orphans.get_mut(&origin) else {
            return;
        };
        match std::mem::replace(&mut orphan.state, OrphanState::Open) {
            OrphanState::Open => {}
            OrphanState::Awaited(later) => match later.send(settlement) {
                Ok(()) => {
                    self.orphans.remove(&origin);
                    return;
                }
                // The later delivery is on its way back to the broker.
                Err(unsent) => {
                    settlement = unsent;
                    let findable = self.findable.entry(orphan.likeness).or_default();
                    findable.push(origin);
                }
            },
            settled @ OrphanState::Settled(..) => {
                orphan.state = settled;
                return;
            }
        }
        if settlement == Settlement::Requeue {
            return self.forget(origin);
        }
        let now = Instant::now();
        orphan.state = OrphanState::Settled(settlement, now);
        self.settled.push_back((now, origin));
        self.forget_old(now);
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((at, origin)) = self.settled.front()
            && (self.settled.len() > LIMIT || now.duration_since(*at) > KEPT)
        {
            let origin = *origin;
            self.settled.pop_front();
            self.forget(origin);
        }
    }

    fn forget(&mut self, origin: DeliveryNumber) {
        let Some(orphan) = self.orphans.remove(&origin) else {
            return;
        };
        if let Some(origins) = self.findable.get_mut(&orphan.likeness) {
            origins.retain(|other| *other != origin);
            if origins.is_empty() {
                self.findable.remove(&orphan.likeness);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use final_core::broker::Cause;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn likeness(id: u128) -> Likeness {
        Likeness {
            looks: Uuid::from_u128(id),
            id: MessageId::new(),
            identified: true,
        }
    }

    /// Ends a channel with these deliveries in flight, numbered from 1 on, and these settlements on their way.
    fn end(
        orphans: &Orphans,
        channel: u64,
        likenesses: &[Likeness],
        awaits: Option<Awaits>,
        late: impl IntoIterator<Item = (u64, Settlement)>,
    ) {
        let left = (1..).zip(likenesses).map(|(tag, likeness)| LeftBehind {
            tag,
            likeness: *likeness,
            awaits,
            settled: None,
        });
        orphans.adopt(channel, || late.into_iter().collect(), left.collect());
    }

    fn origin(awaits: Awaits) -> DeliveryNumber {
        match awaits {
            Awaits::Orphan(origin) => origin,
            Awaits::News(..) => panic!("no orphan yet"),
        }
    }

    fn nothing() -> [(u64, Settlement); 0] {
        []
    }

    fn is_forgotten(orphans: &Orphans) -> bool {
        let all = lock(&orphans.0);
        all.orphans.is_empty()
            && all.findable.is_empty()
            && all.expected.is_empty()
            && all.waits.is_empty()
    }

    #[test]
    fn a_message_that_comes_again_has_the_settlement_of_its_earlier_delivery() {
        let orphans = Orphans::default();
        let (one, two) = (likeness(1), likeness(2));
        end(&orphans, 7, &[one, two], None, nothing());

        let (awaits, mut settlement) = orphans.find(one).unwrap();
        assert_eq!(origin(awaits), (7, 1));
        assert!(orphans.find(one).is_none(), "it is found once");
        assert!(settlement.try_recv().is_err());
        orphans.settle(origin(awaits), Settlement::Ack);

        assert_eq!(settlement.try_recv(), Ok(Settlement::Ack));
        let letter = Settlement::DeadLetter(Cause::new("broken", 4));
        orphans.settle((7, 2), letter.clone());
        let (_, mut settlement) = orphans.find(two).unwrap();
        assert_eq!(settlement.try_recv(), Ok(letter));
        assert!(is_forgotten(&orphans));
    }

    #[test]
    fn a_settlement_that_the_channel_has_not_read_is_not_lost() {
        let orphans = Orphans::default();
        let one = likeness(1);
        end(&orphans, 7, &[one], None, [(1, Settlement::Ack)]);

        let (_, mut settlement) = orphans.find(one).unwrap();

        assert_eq!(settlement.try_recv(), Ok(Settlement::Ack));
        assert!(is_forgotten(&orphans));
    }

    #[test]
    fn a_message_that_is_requeued_begins_anew_when_it_comes_again() {
        let orphans = Orphans::default();
        let (one, two) = (likeness(1), likeness(2));
        end(&orphans, 7, &[one, two], None, nothing());
        let (_, mut settlement) = orphans.find(two).unwrap();

        orphans.settle((7, 1), Settlement::Requeue);
        orphans.settle((7, 2), Settlement::Requeue);

        assert!(orphans.find(one).is_none());
        assert_eq!(settlement.try_recv(), Ok(Settlement::Requeue));
        assert!(is_forgotten(&orphans));
    }

    /// On another channel, before this process knows that the first one has ended.
    #[tokio::test]
    async fn a_message_that_comes_before_its_orphan_waits_for_it_for_a_moment() {
        let orphans = Orphans::default();
        let (one, two) = (likeness(1), likeness(2));
        let (_, mut settlement) = orphans.expect(one);
        let (_, nothing_came) = orphans.expect(two);
        end(&orphans, 7, &[one], None, nothing());
        assert!(orphans.find(one).is_none(), "it is awaited");

        orphans.settle((7, 1), Settlement::Ack);

        assert_eq!(settlement.try_recv(), Ok(Settlement::Ack));
        orphans.end_waits(Instant::now());
        tokio::pin!(nothing_came);
        assert!(futures::poll!(&mut nothing_came).is_pending());
        orphans.end_waits(Instant::now() + NEWS);
        assert!(nothing_came.await.is_err());
        assert!(is_forgotten(&orphans));

        // The delivery that waits for the orphan ends as well, and the message has come once more already.
        end(&orphans, 8, &[one], None, nothing());
        let (awaits, _) = orphans.find(one).unwrap();
        let (_, mut settlement) = orphans.expect(one);
        end(&orphans, 9, &[one], Some(awaits), nothing());
        orphans.settle((8, 1), Settlement::Ack);
        assert_eq!(settlement.try_recv(), Ok(Settlement::Ack));
    }

    /// Two channels end in the moment in which their message comes again on the other one. Only the channel of the
    /// handler is not known to have ended.
    #[test]
    fn deliveries_that_wait_for_news_never_wait_for_each_other() {
        let orphans = Orphans::default();
        let one = likeness(1);
        let (news, mut itself) = orphans.expect(one);
        end(&orphans, 8, &[one], Some(news), nothing());
        assert_eq!(itself.try_recv(), Err(TryRecvError::Closed));
        let ((first, mut of_first), (second, mut of_second)) =
            (orphans.expect(one), orphans.expect(one));
        end(&orphans, 9, &[one], Some(first), nothing());
        end(&orphans, 10, &[one], Some(second), nothing());
        assert_eq!(of_first.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(of_second.try_recv(), Err(TryRecvError::Closed));

        end(&orphans, 7, &[one], None, nothing());
        let (awaits, mut settlement) = orphans.find(one).unwrap();
        assert_eq!(origin(awaits), (7, 1), "the one whose handler runs");
        orphans.settle((7, 1), Settlement::Ack);
        assert_eq!(settlement.try_recv(), Ok(Settlement::Ack));
        orphans.end_waits(Instant::now() + NEWS);
        assert!(is_forgotten(&orphans));
    }

    #[test]
    fn a_message_can_come_again_and_again_while_one_handler_runs() {
        let orphans = Orphans::default();
        let one = likeness(1);
        end(&orphans, 0, &[one], None, nothing());
        for channel in 1..100 {
            let (awaits, _) = orphans.find(one).unwrap();
            assert_eq!(origin(awaits), (0, 1));
            end(&orphans, channel, &[one], Some(awaits), nothing());
        }
        assert_eq!(lock(&orphans.0).orphans.len(), 1);

        let (awaits, mut settlement) = orphans.find(one).unwrap();
        orphans.settle((0, 1), Settlement::Ack);
        assert_eq!(settlement.try_recv(), Ok(Settlement::Ack));

        // The channel ends before the settlement of the later delivery reaches it.
        end(&orphans, 100, &[one], Some(awaits), nothing());
        orphans.settle((100, 1), Settlement::Ack);
        let (_, mut settlement) = orphans.find(one).unwrap();
        assert_eq!(settlement.try_recv(), Ok(Settlement::Ack));
        assert!(is_forgotten(&orphans));
    }

    #[test]
    fn a_later_delivery_that_goes_back_to_the_broker_leaves_the_orphan_to_the_next() {
        let orphans = Orphans::default();
        let one = likeness(1);
        end(&orphans, 0, &[one], None, nothing());
        let (awaits, waiting) = orphans.find(one).unwrap();
        drop(waiting);
        orphans.release(awaits);

        let (awaits, waiting) = orphans.find(one).unwrap();
        drop(waiting);
        orphans.settle(origin(awaits), Settlement::Ack);

        let (_, mut settlement) = orphans.find(one).unwrap();
        assert_eq!(settlement.try_recv(), Ok(Settlement::Ack));
        assert!(is_forgotten(&orphans));
    }

    #[test]
    fn settlements_are_forgotten_after_a_while_and_beyond_a_number() {
        let orphans = Orphans::default();
        let many: Vec<_> = (0..2 * LIMIT as u128).map(likeness).collect();
        let acked = (1..=many.len() as u64).map(|tag| (tag, Settlement::Ack));
        end(&orphans, 0, &many, None, acked);
        assert_eq!(lock(&orphans.0).orphans.len(), LIMIT);
        assert!(orphans.find(many[0]).is_none());
        assert!(orphans.find(many[2 * LIMIT - 1]).is_some());

        let later = Instant::now() + KEPT + Duration::from_secs(1);
        assert!(orphans.find_at(many[2 * LIMIT - 2], later).is_none());
        assert!(is_forgotten(&orphans));

        // One without an id is forgotten earlier, because another message may look the same.
        let nameless = Likeness {
            identified: false,
            ..likeness(1)
        };
        end(&orphans, 1, &[nameless], None, [(1, Settlement::Ack)]);
        let later = Instant::now() + KEPT_NAMELESS + Duration::from_secs(1);
        assert!(orphans.find_at(nameless, later).is_none());
        assert!(is_forgotten(&orphans));
    }
}
