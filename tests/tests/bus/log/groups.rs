//! Every service gets each message once, from its starting point on.

use std::time::{Duration, SystemTime};

use final_core::{Router, SqlBroker, log::StartFrom};

use super::{Held, Log, noting, options, publish, sorted};
use crate::{database::Database, house::Notes};

crate::log_suite!(
    two_services_get_each_message_once_and_the_log_has_one_row_for_both,
    a_slow_service_holds_nobody_back,
    a_service_that_comes_later_begins_with_what_is_new,
    a_service_that_comes_later_can_begin_at_the_beginning,
    a_service_that_comes_later_can_begin_at_a_time,
    a_topic_nobody_had_subscribed_waits_for_the_first_who_does,
    a_service_that_comes_back_goes_on_where_it_was,
    a_topic_of_a_later_release_begins_at_the_beginning_and_no_other_is_disturbed,
    a_topic_of_a_later_release_begins_with_what_is_new_and_no_other_is_disturbed,
    a_purge_ends_what_was_being_brought_of_a_later_topic,
);

const ROWS: &str = "SELECT count(*) FROM final_log";

impl<D: Database> Log<D> {
    /// A broker that keeps messages after all services have handled them.
    fn keeping(&self) -> SqlBroker<D> {
        self.broker().keep(Duration::from_secs(3_600))
    }
}

/// Otherwise its lanes would hold back the removal for ever.
async fn a_purge_ends_what_was_being_brought_of_a_later_topic<D: Database>(log: Log<D>) {
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    publish(&bus, "placed", 0..5).await;
    notes.reach(5).await;
    bus.shutdown().await.expect("shutdown");
    let killed_under_way = "INSERT INTO final_log_lanes \
        (group_name, stream, lane, epoch, read_to, open_seqs, settled_to, ends_at) \
        VALUES ('shop', 5, 3, 1, 0, '', 0, 1)";
    assert_eq!(log.run(killed_under_way).await, 1);

    let bus = log
        .bus("shop")
        .with_options(options().purge_on_startup(true));
    let notes = Notes::default();
    bus.start(noting(&notes, &["placed"])).await.expect("start");
    publish(&bus, "placed", [5]).await;
    notes.reach(1).await;
    log.comes_to(ROWS, 0).await;
    bus.shutdown().await.expect("shutdown");
}

async fn two_services_get_each_message_once_and_the_log_has_one_row_for_both<D: Database>(
    log: Log<D>,
) {
    let (shop, mail) = (log.bus("shop"), log.bus("mail"));
    let (sold, mailed) = (Held::new(), Held::new());
    shop.start(sold.router("placed")).await.expect("start");
    mail.start(mailed.router("placed")).await.expect("start");
    publish(&shop, "placed", 0..100).await;
    sold.begun.reach(100).await;
    mailed.begun.reach(100).await;

    assert_eq!(log.number(ROWS).await, 100);
    sold.let_go(100);
    mailed.let_go(100);
    sold.done.reach(100).await;
    mailed.done.reach(100).await;
    log.is_done("shop").await;
    log.is_done("mail").await;
    for notes in [sold.done, mailed.done] {
        assert_eq!(sorted(notes.numbers()), Vec::from_iter(0..100));
    }
    shop.shutdown().await.expect("shutdown");
    mail.shutdown().await.expect("shutdown");
}

async fn a_slow_service_holds_nobody_back<D: Database>(log: Log<D>) {
    let (slow, held) = (log.bus_on("slow", log.broker().prefetch(10)), Held::new());
    slow.start(held.router("placed")).await.expect("start");
    let (quick, notes) = log.noting("quick", &["placed"]).await;
    publish(&quick, "placed", 0..2_000).await;

    notes.reach(2_000).await;
    log.is_done("quick").await;
    assert_eq!(held.done.len(), 0);
    assert!(held.begun.len() < 500, "no more than is read ahead");
    held.let_go(2_000);
    held.done.reach(2_000).await;
    log.is_done("slow").await;
    assert_eq!(sorted(held.done.numbers()), Vec::from_iter(0..2_000));
    slow.shutdown().await.expect("shutdown");
    quick.shutdown().await.expect("shutdown");
}

/// Publishes 0..20 while only one service is subscribed, then 20..40. Returns the messages that a later
/// service got.
async fn what_a_later_one_gets<D: Database>(log: &Log<D>, later: SqlBroker<D>) -> Vec<i64> {
    let (first, notes) = log.noting_on("first", log.keeping(), &["placed"]).await;
    publish(&first, "placed", 0..20).await;
    notes.reach(20).await;
    log.is_done("first").await;
    let (later, seen) = log.noting_on("later", later, &["placed"]).await;
    publish(&first, "placed", 20..40).await;
    notes.reach(40).await;
    log.is_done("first").await;
    log.is_done("later").await;
    assert_eq!(sorted(notes.numbers()), Vec::from_iter(0..40));
    first.shutdown().await.expect("shutdown");
    later.shutdown().await.expect("shutdown");
    sorted(seen.numbers())
}

async fn a_service_that_comes_later_begins_with_what_is_new<D: Database>(log: Log<D>) {
    let seen = what_a_later_one_gets(&log, log.keeping()).await;
    assert_eq!(seen, Vec::from_iter(20..40));
}

async fn a_service_that_comes_later_can_begin_at_the_beginning<D: Database>(log: Log<D>) {
    let later = log.keeping().start_from(StartFrom::Beginning);
    let seen = what_a_later_one_gets(&log, later).await;
    assert_eq!(seen, Vec::from_iter(0..40));
}

async fn a_service_that_comes_later_can_begin_at_a_time<D: Database>(log: Log<D>) {
    let (first, notes) = log.noting_on("first", log.keeping(), &["placed"]).await;
    publish(&first, "placed", 0..10).await;
    notes.reach(10).await;
    // The clocks of SQLite and of the system have milliseconds.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let then = SystemTime::now();
    tokio::time::sleep(Duration::from_millis(5)).await;
    publish(&first, "placed", 10..20).await;
    notes.reach(20).await;

    let later = log.keeping().start_from(StartFrom::At(then));
    let (later, seen) = log.noting_on("later", later, &["placed"]).await;
    publish(&first, "placed", 20..30).await;
    seen.reach(20).await;
    log.is_done("later").await;
    assert_eq!(sorted(seen.numbers()), Vec::from_iter(10..30));
    first.shutdown().await.expect("shutdown");
    later.shutdown().await.expect("shutdown");
}

async fn a_topic_nobody_had_subscribed_waits_for_the_first_who_does<D: Database>(log: Log<D>) {
    let (first, notes) = log.noting("first", &["placed"]).await;
    publish(&first, "shipped", 0..10).await;
    publish(&first, "placed", 10..20).await;
    notes.reach(10).await;
    // The messages of the first service are removed; the others have no subscriber and stay.
    log.comes_to(ROWS, 10).await;

    let (second, shipped) = log.noting("second", &["shipped", "placed"]).await;
    publish(&first, "shipped", 20..30).await;
    shipped.reach(20).await;
    log.is_done("second").await;
    let expected = sorted((0..10).chain(20..30));
    assert_eq!(sorted(shipped.numbers()), expected);
    let (third, none) = log.noting("third", &["shipped"]).await;
    publish(&first, "shipped", 30..31).await;
    none.reach(1).await;
    assert_eq!(
        none.numbers(),
        [30],
        "only the first one had to be waited for"
    );
    for bus in [first, second, third] {
        bus.shutdown().await.expect("shutdown");
    }
}

async fn a_service_that_comes_back_goes_on_where_it_was<D: Database>(log: Log<D>) {
    let (producer, _) = log.noting("producer", &[]).await;
    let (bus, before) = log.noting("shop", &["placed"]).await;
    publish(&producer, "placed", 0..50).await;
    before.reach(50).await;
    bus.shutdown().await.expect("shutdown");
    publish(&producer, "placed", 50..100).await;

    let (bus, after) = log.noting("shop", &["placed"]).await;
    publish(&producer, "placed", 100..150).await;
    after.reach(100).await;
    log.is_done("shop").await;
    assert_eq!(sorted(before.numbers()), Vec::from_iter(0..50));
    assert_eq!(sorted(after.numbers()), Vec::from_iter(50..150));
    bus.shutdown().await.expect("shutdown");
    producer.shutdown().await.expect("shutdown");
}

/// An old instance handles `placed` only, a new one `shipped` as well. The log has messages of `shipped`
/// already. Returns the handled messages of `shipped`.
async fn a_later_release<D: Database>(log: &Log<D>, start: StartFrom) -> Vec<i64> {
    let (producer, all) = log
        .noting_on("other", log.keeping(), &["placed", "shipped"])
        .await;
    let (old, old_placed) = log.noting_on("shop", log.keeping(), &["placed"]).await;
    publish(&producer, "shipped", 0..100).await;
    publish(&producer, "placed", 1_000..1_100).await;
    old_placed.reach(100).await;

    let (placed, shipped) = (Notes::default(), Notes::default());
    let routes = [(&placed, "placed"), (&shipped, "shipped")];
    let router = routes.iter().fold(Router::new(), |router, (notes, topic)| {
        router.merge(noting(notes, &[topic]))
    });
    let new = log.bus_on("shop", log.keeping().start_from(start));
    new.start(router).await.expect("start");
    for some in 0..10 {
        publish(&producer, "shipped", 100 + some * 10..110 + some * 10).await;
        publish(&producer, "placed", 1_100 + some * 10..1_110 + some * 10).await;
    }
    all.reach(400).await;
    log.is_done("shop").await;

    let of_both = old_placed.numbers().into_iter().chain(placed.numbers());
    assert_eq!(sorted(of_both), Vec::from_iter(1_000..1_200));
    for bus in [old, new, producer] {
        bus.shutdown().await.expect("shutdown");
    }
    sorted(shipped.numbers())
}

async fn a_topic_of_a_later_release_begins_at_the_beginning_and_no_other_is_disturbed<
    D: Database,
>(
    log: Log<D>,
) {
    let shipped = a_later_release(&log, StartFrom::Beginning).await;
    assert_eq!(shipped, Vec::from_iter(0..200));
}

async fn a_topic_of_a_later_release_begins_with_what_is_new_and_no_other_is_disturbed<
    D: Database,
>(
    log: Log<D>,
) {
    let shipped = a_later_release(&log, StartFrom::New).await;
    assert_eq!(shipped, Vec::from_iter(100..200));
}
