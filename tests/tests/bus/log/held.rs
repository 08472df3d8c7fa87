//! Messages that are held: what comes after them in their key or topic waits, and everything else goes on.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use final_core::{Bus, HandlerError, Hold, Message, OnFailure, Router, SqlBroker, broker::Broker};
use final_tests::eventually;

use super::{
    Log,
    key_order::{Keys, in_order, of_key, publish},
};
use crate::{
    database::Database,
    house::{Notes, SOON},
};

crate::log_suite!(
    what_comes_after_a_held_message_waits_and_other_keys_go_on,
    what_is_held_goes_on_in_order_after_a_restart,
    a_held_message_keeps_its_lane_from_nobody_who_joins,
    where_a_member_dies_another_goes_on_with_what_it_held,
    a_topic_that_is_held_as_a_whole_waits_in_all_instances,
    a_message_without_a_key_holds_no_other,
    what_a_handler_rejects_is_held_as_well,
);

/// A key in the first lane, which a member that joins gets.
const FIRST_LANE: &str = "dull";

/// A handler that fails for some keys as long as they are broken, and notes all other messages.
#[derive(Clone, Default)]
struct Mirror {
    keys: Keys,
    broken: Arc<Mutex<HashSet<&'static str>>>,
    rejects: Arc<AtomicBool>,
    tried: Notes,
}

impl Mirror {
    fn breaking(key: &'static str) -> Self {
        let mirror = Self::default();
        mirror.broken.lock().expect("lock").insert(key);
        mirror
    }

    /// Another instance with the same trouble, whose messages are noted apart.
    fn beside(&self) -> Self {
        Self {
            broken: Arc::clone(&self.broken),
            ..Self::default()
        }
    }

    fn mend(&self) {
        self.broken.lock().expect("lock").clear();
    }

    fn router(&self, topic: &str, hold: Hold) -> Router {
        let mirror = self.clone();
        let handler = move |message: Message| {
            let mirror = mirror.clone();
            async move {
                let key = message.key().unwrap_or_default();
                if mirror.broken.lock().expect("lock").contains(key) {
                    mirror.tried.add(message);
                    return Err(match mirror.rejects.load(Ordering::Relaxed) {
                        true => HandlerError::permanent("never"),
                        false => HandlerError::retry("the mirror is away"),
                    });
                }
                mirror.keys.add(&message);
                Ok(())
            }
        };
        Router::new()
            .route(topic, handler)
            .on_failure(OnFailure::Hold(hold))
    }
}

impl<D: Database> Log<D> {
    async fn mirroring(&self, broker: SqlBroker<D>, mirror: &Mirror) -> Bus<D> {
        let bus = self.bus_on("mirror", broker);
        let router = mirror.router("placed", Hold::Key);
        bus.start(router).await.expect("start");
        bus
    }

    /// Waits until the table says that so many messages are held.
    async fn has_held(&self, wanted: i64) {
        let held = "SELECT count(*) FROM final_log_held WHERE group_name = 'mirror'";
        self.comes_to(held, wanted).await;
    }

    async fn has_no_letters(&self) {
        let dead = "SELECT count(*) FROM final_log_dead";
        assert_eq!(self.number(dead).await, 0);
    }
}

async fn held<D: Database>(bus: &Bus<D>) -> u64 {
    bus.stats().await.expect("stats").held
}

async fn what_comes_after_a_held_message_waits_and_other_keys_go_on<D: Database>(log: Log<D>) {
    let mirror = Mirror::breaking("bad");
    let bus = log.mirroring(log.broker(), &mirror).await;
    publish(&bus, of_key("bad", 0..20)).await;
    for key in 0..20 {
        publish(&bus, of_key(&format!("k{key}"), 0..10)).await;
    }

    mirror.keys.reach(200).await;
    log.has_held(1).await;
    assert_eq!(held(&bus).await, 1);
    // It is tried again by itself, and alone of its key.
    let before = mirror.tried.len();
    mirror.tried.reach(before + 1).await;
    assert!(mirror.tried.numbers().iter().all(|number| *number == 0));
    assert!(mirror.keys.of("bad").is_empty());
    mirror.mend();

    mirror.keys.reach(220).await;
    in_order(&mirror.keys.of("bad"), 0, 20);
    log.has_held(0).await;
    log.is_done("mirror").await;
    assert_eq!(held(&bus).await, 0);
    log.has_no_letters().await;
    bus.shutdown().await.expect("shutdown");
}

async fn what_is_held_goes_on_in_order_after_a_restart<D: Database>(log: Log<D>) {
    let mirror = Mirror::breaking("bad");
    let bus = log.mirroring(log.broker(), &mirror).await;
    publish(&bus, of_key("bad", 0..50)).await;
    log.has_held(1).await;
    bus.shutdown().await.expect("shutdown");
    assert!(mirror.keys.of("bad").is_empty());

    let again = mirror.beside();
    let bus = log.mirroring(log.broker(), &again).await;
    publish(&bus, of_key("bad", 50..60)).await;
    // It is tried at once, and held again.
    again.tried.reach(1).await;
    assert!(again.keys.of("bad").is_empty());
    again.mend();
    again.keys.reach_of("bad", 60).await;

    in_order(&again.keys.of("bad"), 0, 60);
    log.has_held(0).await;
    log.has_no_letters().await;
    bus.shutdown().await.expect("shutdown");
}

async fn a_held_message_keeps_its_lane_from_nobody_who_joins<D: Database>(log: Log<D>) {
    let mirror = Mirror::breaking(FIRST_LANE);
    let one = log.mirroring(log.broker(), &mirror).await;
    publish(&one, of_key(FIRST_LANE, 0..50)).await;
    log.has_held(1).await;

    let joining = mirror.beside();
    let two = log.mirroring(log.broker(), &joining).await;
    log.shared_by("mirror", 2).await;
    // The new owner of the lane tries it.
    joining.tried.reach(1).await;
    publish(&one, of_key(FIRST_LANE, 50..60)).await;
    mirror.mend();

    joining.keys.reach_of(FIRST_LANE, 60).await;
    in_order(&joining.keys.of(FIRST_LANE), 0, 60);
    assert!(mirror.keys.of(FIRST_LANE).is_empty());
    log.has_held(0).await;
    log.has_no_letters().await;
    one.shutdown().await.expect("shutdown");
    two.shutdown().await.expect("shutdown");
}

async fn where_a_member_dies_another_goes_on_with_what_it_held<D: Database>(log: Log<D>) {
    let mirror = Mirror::breaking("bad");
    let short = Duration::from_secs(3);
    let doomed = log.mirroring(log.broker().lease(short), &mirror).await;
    publish(&doomed, of_key("bad", 0..50)).await;
    log.has_held(1).await;
    log.has_open("mirror", 50).await;
    drop(doomed);

    let heir = mirror.beside();
    let bus = log.mirroring(log.broker(), &heir).await;
    publish(&bus, of_key("bad", 50..60)).await;
    heir.tried.reach(1).await;
    heir.mend();
    heir.keys.reach_of("bad", 60).await;

    in_order(&heir.keys.of("bad"), 0, 60);
    log.has_held(0).await;
    log.has_no_letters().await;
    bus.shutdown().await.expect("shutdown");
}

async fn a_topic_that_is_held_as_a_whole_waits_in_all_instances<D: Database>(log: Log<D>) {
    let (one, other) = (Mirror::breaking("bad"), Notes::default());
    let two = one.beside();
    let start = async |mirror: &Mirror| {
        let bus = log.bus("mirror");
        let router = mirror.router("placed", Hold::Topic);
        let router = router.merge(super::noting(&other, &["other"]));
        bus.start(router).await.expect("start");
        bus
    };
    let buses = [start(&one).await, start(&two).await];
    log.shared_by("mirror", 2).await;
    publish(&buses[0], of_key("bad", 0..1)).await;
    log.has_held(1).await;
    // The other instance hears of it when it looks next.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let keys: Vec<String> = (0..40).map(|key| format!("k{key}")).collect();
    for key in &keys {
        publish(&buses[0], of_key(key, 0..3)).await;
    }
    super::publish(&buses[1], "other", 0..40).await;

    other.reach(40).await;
    let tried = one.tried.len() + two.tried.len();
    eventually("another attempt", SOON, async || {
        one.tried.len() + two.tried.len() > tried
    })
    .await;
    assert_eq!(one.keys.len() + two.keys.len(), 0);
    one.mend();
    eventually("all handled", SOON, async || {
        one.keys.len() + two.keys.len() == 121
    })
    .await;
    for key in &keys {
        let numbers = [one.keys.of(key), two.keys.of(key)].concat();
        in_order(&numbers, 0, 3);
    }
    log.has_held(0).await;
    log.has_no_letters().await;
    for bus in buses {
        bus.shutdown().await.expect("shutdown");
    }
}

async fn a_message_without_a_key_holds_no_other<D: Database>(log: Log<D>) {
    let mirror = Mirror::breaking("");
    let bus = log.mirroring(log.broker(), &mirror).await;
    super::publish(&bus, "placed", 0..1).await;
    log.has_held(1).await;
    publish(&bus, of_key("k", 0..10)).await;
    mirror.keys.reach(10).await;
    mirror.mend();
    super::publish(&bus, "placed", 1..20).await;

    mirror.keys.reach(30).await;
    assert_eq!(super::sorted(mirror.keys.of("")), Vec::from_iter(0..20));
    log.has_held(0).await;
    log.has_no_letters().await;
    bus.shutdown().await.expect("shutdown");
}

async fn what_a_handler_rejects_is_held_as_well<D: Database>(log: Log<D>) {
    let mirror = Mirror::breaking("bad");
    mirror.rejects.store(true, Ordering::Relaxed);
    let bus = log.mirroring(log.broker(), &mirror).await;
    publish(&bus, of_key("bad", 0..5)).await;
    log.has_held(1).await;
    // Without quick retries.
    assert_eq!(mirror.tried.len(), 1);
    mirror.mend();

    mirror.keys.reach(5).await;
    in_order(&mirror.keys.of("bad"), 0, 5);
    log.has_no_letters().await;
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_log_holds_messages() {
    let (pool, _file) = sqlx::Sqlite::fresh().await;
    let bus = Bus::new("mirror", pool, final_core::MemoryBroker::new());
    let router = || Mirror::default().router("placed", Hold::Key);

    let refused = bus.start(router()).await.expect_err("no log");
    let text = refused.to_string();
    assert!(
        text.contains("\"placed\"") && text.contains("SqlBroker"),
        "{text}"
    );
    // The topic's messages can go to the dead letters, if that is said.
    let router = Mirror::default().router("placed", Hold::Key);
    let outer = Router::new()
        .merge(router)
        .on_failure(OnFailure::DeadLetter);
    bus.start(outer).await.expect_err("what a route says stays");
}

/// What waits is bounded. Then nothing further is read, and nothing is passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_full_of_what_waits_reads_on_once_it_has_room() {
    let log = Log::<sqlx::Sqlite>::new().await;
    let mirror = Mirror::breaking("bad");
    let bus = log.mirroring(log.broker(), &mirror).await;
    // Such an instance has 10,500 to 11,000 messages in memory: it reads in batches, and the last one is taken whole.
    publish(&bus, of_key("bad", 0..11_100)).await;
    publish(&bus, of_key("other", 0..10)).await;
    let waiting = async || {
        let backlog = log.broker().backlog("mirror").await.expect("a backlog");
        backlog.waiting
    };
    eventually("an instance that is full", SOON, async || {
        match waiting().await {
            10..700 => Ok(()),
            waiting => Err(waiting),
        }
    })
    .await;
    log.has_held(1).await;
    // What an instance with room would do at once.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(mirror.keys.len(), 0);
    assert!(waiting().await >= 10);

    mirror.mend();
    mirror.keys.reach_of("other", 10).await;
    let bad = mirror.keys.of("bad");
    in_order(&bad, 0, bad.len() as i64);
    in_order(&mirror.keys.of("other"), 0, 10);
    log.has_no_letters().await;
    bus.shutdown().await.expect("shutdown");
}

/// All that waits may wait for a message that a dead member held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_full_of_what_waits_goes_on_with_what_a_dead_member_held() {
    let log = Log::<sqlx::Sqlite>::new().await;
    let mirror = Mirror::breaking("bad");
    let heir = mirror.beside();
    let start = async |broker: SqlBroker<sqlx::Sqlite>, mirror: &Mirror| {
        let bus = log.bus_on("mirror", broker);
        let router = mirror.router("placed", Hold::Topic);
        bus.start(router).await.expect("start");
        bus
    };
    let doomed = start(log.broker().lease(Duration::from_secs(3)), &mirror).await;
    let bus = start(log.broker(), &heir).await;
    log.shared_by("mirror", 2).await;
    publish(&bus, of_key("bad", 0..1)).await;
    mirror.tried.reach(1).await;
    log.has_held(1).await;
    // The first lane is the heir's. It hears of the held topic when it looks next.
    let mut sent = 0;
    eventually("an heir that waits for the topic", SOON, async || {
        let handled = heir.keys.len();
        publish(&bus, of_key(FIRST_LANE, sent..sent + 1)).await;
        sent += 1;
        tokio::time::sleep(Duration::from_millis(300)).await;
        heir.keys.len() == handled
    })
    .await;
    publish(&bus, of_key(FIRST_LANE, sent..sent + 11_100)).await;
    sent += 11_100;
    eventually("an instance that is full", SOON, async || {
        let backlog = log.broker().backlog("mirror").await.expect("a backlog");
        match backlog.waiting {
            10..700 => Ok(()),
            waiting => Err(waiting),
        }
    })
    .await;

    drop(doomed);

    heir.tried.reach(1).await;
    heir.mend();
    heir.keys.reach_of("bad", 1).await;
    heir.keys
        .reach_of(FIRST_LANE, usize::try_from(sent).expect("a number"))
        .await;
    in_order(&heir.keys.of(FIRST_LANE), 0, sent);
    log.has_held(0).await;
    log.has_no_letters().await;
    bus.shutdown().await.expect("shutdown");
}

/// Who takes the lane over finds the message among what is open. It may have no room to read on for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_open_in_the_progress_before_others_hear_that_it_is_held() {
    let log = Log::<sqlx::Sqlite>::new().await;
    log.broker().migrate().await.expect("tables");
    let notes = "\
        CREATE TABLE early (seq INTEGER); \
        CREATE TRIGGER noting AFTER INSERT ON final_log_held WHEN NOT EXISTS \
            (SELECT 1 FROM final_log_lanes l WHERE l.group_name = NEW.group_name AND l.stream = NEW.stream \
                AND l.lane = NEW.lane AND l.read_to >= NEW.seq) \
        BEGIN INSERT INTO early VALUES (NEW.seq); END";
    sqlx::raw_sql(notes)
        .execute(&log.pool)
        .await
        .expect("a trigger");
    let mirror = Mirror::breaking("bad");
    let broker = log.broker().commit_within(Duration::from_secs(1));
    let bus = log.mirroring(broker, &mirror).await;

    publish(&bus, of_key("bad", 0..5)).await;
    log.has_held(1).await;
    assert_eq!(log.number("SELECT count(*) FROM early").await, 0);
    bus.shutdown().await.expect("shutdown");
}
