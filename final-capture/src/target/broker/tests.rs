use final_core::{MemoryBroker, broker::Opened};
use sqlx::{Sqlite, sqlite::SqlitePoolOptions};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use uuid::Uuid;

use super::{flight::OF_A_TOPIC, *};
use crate::{
    position::{ParkedMark, Position, SourceIdentity, SourcePoint, SqlPositions, Standing},
    target::{Content, Item, Lot, Mark, OnPoison, parked::entry},
};

const LEASE: Duration = Duration::from_secs(60);

/// A link to a broker that has a queue for one topic only.
async fn one_queue() -> Opened {
    let setup = Setup::new("mirror", ["cdc.shop.holes"]);
    MemoryBroker::new().open(setup).await.unwrap()
}

fn message(topic: &str) -> Content {
    Content::Message(Message::new(topic, "1").with_key("1"))
}

/// Messages of key 1, each with its place in the source.
fn lot(places: &[u64]) -> Lot {
    let mark = |place| Mark {
        point: SourcePoint::Lsn(place),
        partial: None,
        at: None,
    };
    let item = |place: &u64| Item {
        content: message("cdc.shop.holes"),
        mark: mark(*place),
        ends_change: true,
    };
    Lot {
        items: places.iter().map(item).collect(),
        end: mark(*places.last().unwrap()),
        rows: places.len() as u64,
    }
}

/// A reader that has the lease, and a message that was parked before.
struct Stage {
    store: Arc<SqlPositions<Sqlite>>,
    lots: mpsc::Sender<Lot>,
    pump: Pump,
    opened: Opened,
    vitals: Arc<Vitals>,
    _file: final_tests::SqliteFile,
}

impl Stage {
    /// The parked message has key 1 and that topic.
    async fn with(topic: &str) -> Self {
        let opened = one_queue().await;
        let link = Arc::clone(&opened.link);
        Self::on(topic, opened, link).await
    }

    /// The same, where messages go to that link.
    async fn on(topic: &str, opened: Opened, link: Arc<dyn Link>) -> Self {
        let file = final_tests::sqlite_file().unwrap();
        let pool = SqlitePoolOptions::new().connect(&file.url()).await.unwrap();
        let store = Arc::new(SqlPositions::<Sqlite>::new(pool));
        store.migrate().await.unwrap();
        let taken = store.take("shop", Uuid::now_v7(), LEASE).await;
        let term = taken.unwrap().unwrap().term;
        let identity = SourceIdentity("script:1".into());
        let standing = Standing {
            position: Position {
                identity: identity.clone(),
                point: SourcePoint::Lsn(10),
                partial: None,
            },
            at: None,
            number: 1,
        };
        let parked = entry(&message(topic), None, String::new(), 1, 0);
        store.save(&term, &standing, &[parked]).await.unwrap();
        let vitals = Arc::new(Vitals::new());
        vitals.renewed(Some(Instant::now() + LEASE));
        vitals.set_position(Some(standing.position));
        let (lots, given) = mpsc::channel(1);
        let job = Job {
            term,
            identity,
            number: 1,
            lots: given,
            vitals: Arc::clone(&vitals),
            on_poison: OnPoison::Park,
            most_parked: 100,
            max_message_bytes: 1_000,
        };
        let lane = Lane {
            link,
            store: Arc::clone(&store) as Arc<dyn PositionStore>,
            vitals: Arc::clone(&vitals),
        };
        let pump = Pump::open(lane, job).await.unwrap();
        Self {
            store,
            lots,
            pump,
            opened,
            vitals,
            _file: file,
        }
    }
}

#[tokio::test]
async fn a_parked_message_without_a_queue_stays_parked_and_the_stream_goes_on() {
    let stage = Stage::with("cdc.nowhere").await;
    let store = &stage.store;
    store.mark("shop", None, ParkedMark::Retry).await.unwrap();
    let pump = tokio::spawn(stage.pump.run());
    // The mark is gone before anything comes, so the pump was at it.
    let soon = Duration::from_secs(20);
    let refused = timeout(soon, async {
        loop {
            let head = store.parked("shop", false, -1, 10).await.unwrap().remove(0);
            if head.mark.is_none() {
                return head.reason.unwrap();
            }
            sleep(Duration::from_millis(10)).await;
        }
    });
    let refused = refused.await.expect("the mark is taken");
    assert!(refused.contains("no queue is bound"), "{refused}");
    stage.lots.send(lot(&[20])).await.unwrap();
    drop(stage.lots);
    let ended = timeout(soon, pump).await.expect("the stream goes on");
    ended.unwrap().unwrap();
    let known = store.known().await.unwrap();
    assert_eq!(known[0].position.as_deref(), Some("lsn:0/14"));
}

/// A link that confirms when the test says so.
struct Held {
    messages: std::sync::Mutex<Vec<Outgoing>>,
    state: tokio::sync::watch::Sender<LinkState>,
}

impl Held {
    fn count(&self) -> usize {
        self.messages.lock().unwrap().len()
    }

    fn confirm(&self, count: usize) {
        let confirmed: Vec<Outgoing> = self.messages.lock().unwrap().drain(..count).collect();
        for message in confirmed {
            message.confirm(Confirm::Stored);
        }
    }

    /// Says that the message that is in flight is at fault.
    fn blame(&self) {
        let blamed = self.messages.lock().unwrap().pop();
        blamed
            .expect("a message")
            .confirm(Confirm::Faulty("no".to_owned()));
    }

    fn confirm_last(&self) {
        let last = self.messages.lock().unwrap().pop();
        last.expect("a message").confirm(Confirm::Stored);
    }

    async fn has(&self, count: usize) {
        let reached = timeout(Duration::from_secs(20), async {
            while self.count() != count {
                sleep(Duration::from_millis(5)).await;
            }
        });
        reached.await.expect("so many are in flight");
    }
}

impl Link for Held {
    fn state(&self) -> tokio::sync::watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    fn send(&self, outgoing: Outgoing) {
        self.messages.lock().unwrap().push(outgoing);
    }

    fn stop_consuming(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn finish_consuming(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// A lot of messages of that topic, each with a key of its own.
fn topic_lot(topic: &str, places: std::ops::Range<u64>) -> Lot {
    let places: Vec<u64> = places.collect();
    let mut all = lot(&places);
    for (item, place) in all.items.iter_mut().zip(&places) {
        item.content = Content::Message(Message::new(topic, "1").with_key(place.to_string()));
    }
    all
}

async fn on_held_link() -> (Arc<Held>, Stage) {
    let link = Arc::new(Held {
        messages: std::sync::Mutex::default(),
        state: tokio::sync::watch::Sender::new(LinkState::Ready),
    });
    let to = Arc::clone(&link) as Arc<dyn Link>;
    let stage = Stage::on("cdc.shop.other", one_queue().await, to).await;
    (link, stage)
}

#[tokio::test]
async fn messages_beyond_those_in_flight_follow_the_confirms_also_after_a_stop() {
    let (link, stage) = on_held_link().await;
    let pump = tokio::spawn(stage.pump.run());
    let last = 20 + OF_A_TOPIC as u64 + 300;
    let all = topic_lot("cdc.shop.holes", 20..last);
    stage.lots.send(all).await.unwrap();
    link.has(OF_A_TOPIC).await;

    link.confirm(10);
    link.has(OF_A_TOPIC).await;
    drop(stage.lots);
    link.confirm(OF_A_TOPIC);
    link.has(290).await;
    link.confirm(290);
    let ended = timeout(Duration::from_secs(20), pump).await;
    ended.expect("all are confirmed").unwrap().unwrap();
    let known = stage.store.known().await.unwrap();
    let at = format!("lsn:0/{:X}", last - 1);
    assert_eq!(known[0].position.as_deref(), Some(&*at));
}

#[tokio::test]
async fn a_topic_that_nothing_confirms_leaves_room_for_the_others() {
    let (link, stage) = on_held_link().await;
    let pump = tokio::spawn(stage.pump.run());
    let stuck = topic_lot("cdc.shop.stuck", 20..1_500);
    stage.lots.send(stuck).await.unwrap();
    link.has(OF_A_TOPIC).await;

    for place in 1_500..1_600 {
        let well = topic_lot("cdc.shop.holes", place..place + 1);
        stage.lots.send(well).await.unwrap();
        link.has(OF_A_TOPIC + 1).await;
        link.confirm_last();
    }
    pump.abort();
}

#[tokio::test]
async fn the_next_message_of_a_key_follows_the_confirm_of_the_one_before() {
    let (link, stage) = on_held_link().await;
    let pump = tokio::spawn(stage.pump.run());
    stage.lots.send(lot(&[20, 30])).await.unwrap();
    drop(stage.lots);
    for _ in 0..2 {
        link.has(1).await;
        link.confirm(1);
    }
    let ended = timeout(Duration::from_secs(20), pump).await;
    ended.expect("both are sent").unwrap().unwrap();
}

#[tokio::test]
async fn both_messages_of_a_change_are_out_of_hand_after_confirms_one_by_one() {
    let (link, stage) = on_held_link().await;
    let vitals = Arc::clone(&stage.vitals);
    let pump = tokio::spawn(stage.pump.run());
    let mut moved = topic_lot("cdc.shop.holes", 20..22);
    moved.items[0].ends_change = false;
    vitals.read(&moved);
    stage.lots.send(moved).await.unwrap();
    link.has(2).await;
    assert_eq!(vitals.copy().in_hand, 2);
    link.confirm(1);
    // Answers come before lots, so the first one was taken when the next message is sent.
    let next = topic_lot("cdc.shop.holes", 30..31);
    vitals.read(&next);
    stage.lots.send(next).await.unwrap();
    link.has(2).await;
    link.confirm(2);
    drop(stage.lots);

    let ended = timeout(Duration::from_secs(20), pump).await;
    ended.expect("all are confirmed").unwrap().unwrap();
    assert_eq!(vitals.copy().in_hand, 0);
}

#[tokio::test]
async fn what_waits_in_the_window_is_parked_with_the_message_before_it() {
    let (link, stage) = on_held_link().await;
    let pump = tokio::spawn(stage.pump.run());
    stage.lots.send(lot(&[20, 30, 40])).await.unwrap();
    drop(stage.lots);
    for _ in 0..pump::FAULTS {
        link.has(1).await;
        link.blame();
    }
    let ended = timeout(Duration::from_secs(20), pump).await;
    ended.expect("none is forgotten").unwrap().unwrap();
    let waiting = stage.store.parked("shop", false, -1, 10).await.unwrap();
    let waiting = waiting
        .iter()
        .filter(|head| &*head.topic == "cdc.shop.holes");
    let waiting: Vec<_> = waiting
        .map(|head| (&*head.position, head.reason.is_some()))
        .collect();
    let expected = [("lsn:0/14", true), ("lsn:0/1E", false), ("lsn:0/28", false)];
    assert_eq!(waiting, expected);
}

#[tokio::test]
async fn a_message_is_not_sent_once_the_lease_may_have_run_out() {
    let (link, stage) = on_held_link().await;
    let vitals = Arc::clone(&stage.vitals);
    vitals.renewed(Some(Instant::now()));
    let pump = tokio::spawn(stage.pump.run());
    stage.lots.send(lot(&[20])).await.unwrap();
    drop(stage.lots);
    let tried = timeout(Duration::from_secs(20), async {
        while vitals.copy().sent_again < 3 {
            sleep(Duration::from_millis(5)).await;
        }
    });
    tried.await.expect("it is tried");
    assert_eq!(link.count(), 0);
    vitals.renewed(Some(Instant::now() + LEASE));
    link.has(1).await;
    link.confirm(1);
    let ended = timeout(Duration::from_secs(20), pump).await;
    ended.expect("it is sent").unwrap().unwrap();
}

#[tokio::test]
async fn a_parked_message_is_not_sent_once_the_lease_may_have_run_out() {
    let file = final_tests::sqlite_file().unwrap();
    let pool = SqlitePoolOptions::new().connect(&file.url()).await.unwrap();
    let opened = one_queue().await;
    let lane = Lane {
        link: Arc::clone(&opened.link),
        store: Arc::new(SqlPositions::<Sqlite>::new(pool)),
        vitals: Arc::new(Vitals::new()),
    };
    let message = Message::new("cdc.shop.holes", "1");
    let sent = lane.send_alone(&message).await;
    assert!(matches!(sent, Err(WriteError::NotNow)), "{sent:?}");
    lane.vitals.renewed(Some(Instant::now() + LEASE));
    lane.send_alone(&message).await.unwrap();
}

/// One of them is taken when it is the first of its key, the next ones with it.
#[tokio::test]
async fn all_messages_of_a_parked_key_wait_behind_it() {
    let stage = Stage::with("cdc.shop.holes").await;
    stage.lots.send(lot(&[20, 30, 40])).await.unwrap();
    drop(stage.lots);
    let ended = timeout(Duration::from_secs(20), stage.pump.run()).await;
    ended.expect("none is forgotten").unwrap();
    let waiting = stage.store.parked("shop", false, -1, 10).await.unwrap();
    let places: Vec<&str> = waiting.iter().map(|head| &*head.position).collect();
    assert_eq!(places, ["", "lsn:0/14", "lsn:0/1E", "lsn:0/28"]);
}

#[tokio::test]
async fn a_stop_ends_while_the_broker_is_away_and_marks_could_not_be_carried_out() {
    let stage = Stage::with("cdc.shop.holes").await;
    stage.opened.link.close(Duration::from_secs(1)).await;
    // It may not be taken: with a limit of 100 parked messages, marks have to be carried out first.
    stage.lots.send(lot(&[20])).await.unwrap();
    drop(stage.lots);
    let ended = timeout(Duration::from_secs(20), stage.pump.run()).await;
    ended.expect("the stop ends").unwrap();
    let parked = stage.store.parked("shop", false, -1, 10).await.unwrap();
    assert_eq!(parked.len(), 1, "the lot was left to the next reader");
}
