//! Sequence numbers of the log that go back: the sequence is restarted, the table is truncated or restored,
//! or another server with its own count takes over.

use std::time::Duration;

use final_core::{Router, SqlBroker, broker::DeadLetterFilter, log::StartFrom};
use final_tests::eventually;
use sqlx::Pool;

use super::{Held, Log, order::written, publish, sorted};
use crate::{database::Database, house::SOON};

const HOUR: Duration = Duration::from_secs(3_600);

crate::log_suite!(
    messages_are_handled_after_the_numbers_were_restarted_while_nobody_ran,
    messages_are_handled_after_the_table_was_truncated_while_nobody_ran,
    a_bus_that_starts_raises_the_numbers_before_anything_is_written,
    messages_with_a_used_number_are_not_removed_before_they_are_read,
    messages_that_were_written_before_the_start_are_handled_though_the_numbers_have_passed_the_old_ones,
    messages_are_handled_after_the_table_was_truncated_while_a_bus_runs,
    messages_are_handled_though_their_numbers_pass_the_old_ones_at_once,
    messages_that_are_kept_are_handled_though_their_numbers_pass_the_old_ones,
    messages_in_order_are_handled_though_their_numbers_pass_the_old_ones,
    messages_are_handled_though_kept_rows_have_their_numbers,
    messages_with_used_numbers_in_the_midst_of_kept_ones_are_handled,
    a_new_service_gets_all_messages_after_the_numbers_went_back,
    every_group_gets_the_messages_though_one_of_them_is_behind,
    messages_that_nobody_handles_wait_for_a_later_service_though_their_numbers_went_back,
    the_backlog_counts_messages_whose_numbers_went_back,
    letters_whose_numbers_would_be_the_same_are_both_kept,
    a_letter_whose_number_another_letter_has_is_kept_too,
    a_delayed_message_can_be_published_after_its_numbers_went_back,
    nothing_is_handled_twice_because_of_numbers_that_have_not_gone_back,
    a_service_that_was_forgotten_and_comes_again_begins_anew,
);
crate::log_suite!(
    at once:
    a_message_of_a_transaction_that_was_open_when_the_numbers_were_mended_is_handled,
    messages_of_a_transaction_that_outlives_those_who_had_read_their_numbers_are_handled,
    a_message_of_a_transaction_that_outlives_those_who_mended_its_number_is_handled,
    late_commits_are_not_taken_for_numbers_that_went_back,
);

/// The ways in which an operator, or another server, changes the sequence numbers.
pub trait Numbers: Database {
    /// The sequence of a table goes on after this number.
    async fn restart(pool: &Pool<Self>, table: &str, after: i64);

    /// The log is emptied, and its sequence numbers begin again.
    async fn truncate(pool: &Pool<Self>);
}

impl Numbers for sqlx::Postgres {
    async fn restart(pool: &Pool<Self>, table: &str, after: i64) {
        let restart = format!("ALTER SEQUENCE {table}_seq_seq RESTART WITH {}", after + 1);
        Self::run_on(pool, &restart).await;
    }

    async fn truncate(pool: &Pool<Self>) {
        Self::run_on(pool, "TRUNCATE final_log RESTART IDENTITY").await;
    }
}

impl Numbers for sqlx::MySql {
    /// InnoDB does not go below the highest row, so the rows are moved away for a moment.
    async fn restart(pool: &Pool<Self>, table: &str, after: i64) {
        for sql in [
            format!("CREATE TABLE aside AS SELECT * FROM {table}"),
            format!("DELETE FROM {table}"),
            format!("ALTER TABLE {table} AUTO_INCREMENT = {}", after + 1),
        ] {
            Self::run_on(pool, &sql).await;
        }
        let next = format!(
            "SELECT CAST(AUTO_INCREMENT AS SIGNED) FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{table}'"
        );
        assert_eq!(Self::number(pool, &next).await, after + 1);
        Self::run_on(pool, "DROP TABLE aside").await;
    }

    async fn truncate(pool: &Pool<Self>) {
        Self::run_on(pool, "TRUNCATE TABLE final_log").await;
    }
}

impl Numbers for sqlx::Sqlite {
    async fn restart(pool: &Pool<Self>, table: &str, after: i64) {
        let restart = format!("UPDATE sqlite_sequence SET seq = {after} WHERE name = '{table}'");
        Self::run_on(pool, &restart).await;
    }

    async fn truncate(pool: &Pool<Self>) {
        Self::run_on(pool, "DELETE FROM final_log").await;
        Self::restart(pool, "final_log", 0).await;
    }
}

impl<D: Numbers> Log<D> {
    /// Starts a service that handles a hundred messages.
    async fn with_a_hundred(&self) {
        let (bus, notes) = self.noting("shop", &["placed"]).await;
        publish(&bus, "placed", 0..100).await;
        notes.reach(100).await;
        self.is_done("shop").await;
        bus.shutdown().await.expect("shutdown");
        self.is_empty().await;
    }

    /// Waits until everything was removed.
    async fn is_empty(&self) {
        let (bus, _) = self.noting("shop", &["placed"]).await;
        publish(&bus, "placed", [-1]).await;
        self.comes_to("SELECT count(*) FROM final_log WHERE topic <> ''", 0)
            .await;
        bus.shutdown().await.expect("shutdown");
    }

    /// The sequence number up to which members have told each other that they have read.
    async fn newest_watermark(&self) -> i64 {
        self.number("SELECT seq FROM final_log_watermarks WHERE id = 0")
            .await
    }

    /// Waits until the members have told each other of a higher number.
    async fn has_told_of_more(&self, than: i64) {
        eventually("a newer watermark", SOON, async || {
            self.newest_watermark().await > than
        })
        .await;
    }

    /// Publishes from a bus that never starts, so that no member looks at the sequence numbers.
    async fn publish_unseen(&self, numbers: impl IntoIterator<Item = i64>) {
        publish(&self.bus("till"), "placed", numbers).await;
    }

    /// Starts the service again, and waits until it has handled exactly these messages.
    async fn handles(&self, wanted: impl IntoIterator<Item = i64>) {
        let wanted: Vec<i64> = wanted.into_iter().collect();
        let (bus, notes) = self.noting("shop", &["placed"]).await;
        notes.reach(wanted.len()).await;
        self.is_done("shop").await;
        assert_eq!(sorted(notes.numbers()), wanted);
        bus.shutdown().await.expect("shutdown");
    }
}

async fn messages_are_handled_after_the_numbers_were_restarted_while_nobody_ran<D: Numbers>(
    log: Log<D>,
) {
    log.with_a_hundred().await;
    D::restart(&log.pool, "final_log", 0).await;
    let (bus, notes) = log.noting("shop", &["placed"]).await;

    publish(&bus, "placed", 100..150).await;

    notes.reach(50).await;
    log.is_done("shop").await;
    assert_eq!(sorted(notes.numbers()), Vec::from_iter(100..150));
    bus.shutdown().await.expect("shutdown");
}

async fn messages_are_handled_after_the_table_was_truncated_while_nobody_ran<D: Numbers>(
    log: Log<D>,
) {
    log.with_a_hundred().await;
    D::truncate(&log.pool).await;
    log.publish_unseen(100..150).await;

    log.handles(100..150).await;
}

async fn a_bus_that_starts_raises_the_numbers_before_anything_is_written<D: Numbers>(log: Log<D>) {
    log.with_a_hundred().await;
    D::restart(&log.pool, "final_log", 0).await;

    // No member looks again before it is over.
    let broker = log.broker().keep(HOUR).poll_interval(HOUR);
    let (bus, notes) = log.noting_on("shop", broker, &["placed"]).await;
    publish(&bus, "placed", 100..150).await;

    let used = "SELECT count(*) FROM final_log WHERE topic <> '' AND seq <= 100";
    assert_eq!(log.number(used).await, 0);
    notes.reach(50).await;
    bus.shutdown().await.expect("shutdown");
}

/// A slow service keeps all rows. When it is done, its rows are removed before any member has looked at the
/// sequence numbers.
async fn messages_with_a_used_number_are_not_removed_before_they_are_read<D: Numbers>(log: Log<D>) {
    let seldom = || log.broker().poll_interval(Duration::from_secs(8));
    let (slow, held) = (log.bus_on("slow", seldom()), Held::new());
    slow.start(held.router("placed")).await.expect("start");
    let (bus, notes) = log.noting_on("shop", seldom(), &["placed"]).await;
    publish(&bus, "placed", 0..100).await;
    notes.reach(100).await;
    held.begun.reach(100).await;
    log.comes_to(
        "SELECT count(*) FROM final_log_lanes WHERE read_to = 100",
        32,
    )
    .await;

    D::truncate(&log.pool).await;
    publish(&bus, "placed", 100..350).await;
    held.let_go(1_000);

    notes.reach(350).await;
    held.done.reach(350).await;
    assert_eq!(sorted(notes.numbers()), Vec::from_iter(0..350));
    slow.shutdown().await.expect("shutdown");
    bus.shutdown().await.expect("shutdown");
}

async fn messages_that_were_written_before_the_start_are_handled_though_the_numbers_have_passed_the_old_ones<
    D: Numbers,
>(
    log: Log<D>,
) {
    log.with_a_hundred().await;
    D::truncate(&log.pool).await;
    log.publish_unseen(100..350).await;

    log.handles(100..350).await;
}

async fn messages_are_handled_after_the_table_was_truncated_while_a_bus_runs<D: Numbers>(
    log: Log<D>,
) {
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    publish(&bus, "placed", 0..100).await;
    notes.reach(100).await;
    log.is_done("shop").await;

    D::truncate(&log.pool).await;
    publish(&bus, "placed", 100..150).await;

    notes.reach(150).await;
    log.is_done("shop").await;
    assert_eq!(sorted(notes.numbers()), Vec::from_iter(0..150));
    bus.shutdown().await.expect("shutdown");
}

/// The messages are written faster than any member looks, so no member sees the sequence below the numbers
/// that it has read.
async fn messages_are_handled_though_their_numbers_pass_the_old_ones_at_once<D: Numbers>(
    log: Log<D>,
) {
    passes_at_once(&log, log.broker()).await;
}

async fn messages_that_are_kept_are_handled_though_their_numbers_pass_the_old_ones<D: Numbers>(
    log: Log<D>,
) {
    passes_at_once(&log, log.broker().keep(HOUR)).await;
}

async fn messages_in_order_are_handled_though_their_numbers_pass_the_old_ones<D: Numbers>(
    log: Log<D>,
) {
    passes_at_once(&log, log.broker().key_order(true)).await;
}

async fn passes_at_once<D: Numbers>(log: &Log<D>, broker: SqlBroker<D>) {
    let (bus, notes) = log.noting_on("shop", broker, &["placed"]).await;
    publish(&bus, "placed", 0..100).await;
    notes.reach(100).await;
    log.is_done("shop").await;

    D::truncate(&log.pool).await;
    publish(&bus, "placed", 100..350).await;

    notes.reach(350).await;
    assert_eq!(sorted(notes.numbers()), Vec::from_iter(0..350));
    bus.shutdown().await.expect("shutdown");
}

/// The database refuses a number that exists. The caller gets an error, and nothing is lost.
async fn messages_are_handled_though_kept_rows_have_their_numbers<D: Numbers>(log: Log<D>) {
    let broker = log.broker().keep(HOUR);
    let (bus, notes) = log.noting_on("shop", broker, &["placed"]).await;
    publish(&bus, "placed", 0..100).await;
    notes.reach(100).await;
    D::restart(&log.pool, "final_log", 0).await;

    for n in 100..150 {
        eventually("a number that is free", SOON, async || {
            bus.publish("placed", &n).await.is_ok()
        })
        .await;
    }

    eventually("all messages", SOON, async || {
        let seen = sorted(notes.numbers());
        (100..150).all(|n| seen.contains(&n))
    })
    .await;
    bus.shutdown().await.expect("shutdown");
}

/// The number is not at an end of the log, and the new numbers have passed the old ones. Only a walk through
/// the whole log can tell.
async fn messages_with_used_numbers_in_the_midst_of_kept_ones_are_handled<D: Numbers>(log: Log<D>) {
    let keeping = || log.broker().keep(HOUR);
    let (bus, notes) = log.noting_on("shop", keeping(), &["placed"]).await;
    publish(&bus, "placed", 0..400).await;
    notes.reach(400).await;
    log.is_done("shop").await;
    bus.shutdown().await.expect("shutdown");
    log.publish_unseen(400..500).await;
    log.run("DELETE FROM final_log WHERE seq > 150 AND seq <= 250")
        .await;
    log.run("UPDATE final_log SET seq = seq - 250 WHERE seq > 400")
        .await;

    let (bus, notes) = log.noting_on("shop", keeping(), &["placed"]).await;

    notes.reach(100).await;
    log.is_done("shop").await;
    assert_eq!(sorted(notes.numbers()), Vec::from_iter(400..500));
    bus.shutdown().await.expect("shutdown");
}

async fn a_new_service_gets_all_messages_after_the_numbers_went_back<D: Numbers>(log: Log<D>) {
    log.with_a_hundred().await;
    D::truncate(&log.pool).await;

    let (bus, notes) = log.noting("later", &["placed"]).await;
    publish(&bus, "placed", 0..250).await;

    notes.reach(250).await;
    assert_eq!(sorted(notes.numbers()), Vec::from_iter(0..250));
    bus.shutdown().await.expect("shutdown");
}

async fn every_group_gets_the_messages_though_one_of_them_is_behind<D: Numbers>(log: Log<D>) {
    let (slow, _) = log.noting("slow", &["placed"]).await;
    slow.shutdown().await.expect("shutdown");
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    publish(&bus, "placed", 0..100).await;
    notes.reach(100).await;
    D::truncate(&log.pool).await;
    publish(&bus, "placed", 100..150).await;
    notes.reach(150).await;

    let (slow, seen) = log.noting("slow", &["placed"]).await;

    seen.reach(50).await;
    log.is_done("slow").await;
    assert_eq!(sorted(seen.numbers()), Vec::from_iter(100..150));
    assert_eq!(sorted(notes.numbers()), Vec::from_iter(0..150));
    slow.shutdown().await.expect("shutdown");
    bus.shutdown().await.expect("shutdown");
}

async fn messages_that_nobody_handles_wait_for_a_later_service_though_their_numbers_went_back<
    D: Numbers,
>(
    log: Log<D>,
) {
    log.with_a_hundred().await;
    D::truncate(&log.pool).await;
    publish(&log.bus("till"), "shipped", 0..50).await;
    log.publish_unseen(100..150).await;
    log.handles(100..150).await;

    let (bus, notes) = log.noting("later", &["shipped"]).await;

    notes.reach(50).await;
    assert_eq!(sorted(notes.numbers()), Vec::from_iter(0..50));
    bus.shutdown().await.expect("shutdown");
}

async fn the_backlog_counts_messages_whose_numbers_went_back<D: Numbers>(log: Log<D>) {
    log.with_a_hundred().await;
    for (messages, waiting) in [(0..50, 50), (50..250, 250)] {
        if messages.start == 0 {
            D::truncate(&log.pool).await;
        }
        log.publish_unseen(messages).await;

        let backlog = log.broker().backlog("shop").await.expect("backlog");

        assert_eq!(backlog.waiting, waiting);
        assert!(backlog.oldest.is_some());
    }
    log.handles(0..250).await;
    let backlog = log.broker().backlog("shop").await.expect("backlog");
    assert_eq!((backlog.waiting, backlog.oldest), (0, None));
}

async fn letters_whose_numbers_would_be_the_same_are_both_kept<D: Numbers>(log: Log<D>) {
    for n in 0..2 {
        let bus = log.bus("shop");
        let router = Router::new().route("placed", async || Err::<(), _>("as it is meant"));
        bus.start(router).await.expect("start");
        bus.publish("placed", &n).await.expect("publish");
        log.comes_to("SELECT count(*) FROM final_log_dead", n + 1)
            .await;
        bus.shutdown().await.expect("shutdown");
        D::truncate(&log.pool).await;
    }

    let broker = log.broker();
    let letters = broker.dead_letters("shop", DeadLetterFilter::all());
    assert_eq!(letters.await.expect("letters").len(), 2);
}

/// All rows are deleted, except the dead letters.
async fn a_letter_whose_number_another_letter_has_is_kept_too<D: Numbers>(log: Log<D>) {
    log.bus("shop").migrate().await.expect("migrate");
    for n in 0..2 {
        log.publish_unseen([n]).await;
        let bus = log.bus("shop");
        let router = Router::new().route("placed", async || Err::<(), _>("as it is meant"));
        bus.start(router).await.expect("start");
        log.comes_to("SELECT count(*) FROM final_log_dead", n + 1)
            .await;
        log.is_done("shop").await;
        bus.shutdown().await.expect("shutdown");
        for table in ["topics", "lanes", "groups", "watermarks"] {
            log.run(&format!("DELETE FROM final_log_{table}")).await;
        }
        log.run("UPDATE final_log_state SET trimmed = 0").await;
        D::truncate(&log.pool).await;
    }

    let broker = log.broker();
    let letters = broker.dead_letters("shop", DeadLetterFilter::all());
    let letters = letters.await.expect("letters");
    assert_ne!(letters[0].id, letters[1].id);
    let back = broker.replay("shop", DeadLetterFilter::all());
    assert_eq!(back.await.expect("put back"), 2);
}

async fn a_delayed_message_can_be_published_after_its_numbers_went_back<D: Numbers>(log: Log<D>) {
    let (bus, _) = log.noting("shop", &["placed"]).await;
    for n in 0..3 {
        let later = bus.publish("placed", &n).delay(HOUR);
        later.await.expect("publish");
    }
    bus.shutdown().await.expect("shutdown");
    D::restart(&log.pool, "final_log_scheduled", 0).await;
    let (bus, notes) = log.noting("shop", &["placed"]).await;

    let soon = bus.publish("placed", &9).delay(Duration::from_millis(50));
    soon.await.expect("a number that is free");

    notes.reach(1).await;
    assert_eq!(notes.numbers(), [9]);
    bus.shutdown().await.expect("shutdown");
}

async fn nothing_is_handled_twice_because_of_numbers_that_have_not_gone_back<D: Numbers>(
    log: Log<D>,
) {
    let keeping = || log.broker().keep(HOUR);
    let (bus, notes) = log.noting_on("shop", keeping(), &["placed"]).await;
    for n in 0..20 {
        publish(&bus, "placed", n * 50..(n + 1) * 50).await;
        publish(&bus, "shipped", [n]).await;
    }
    notes.reach(1_000).await;
    log.is_done("shop").await;
    bus.shutdown().await.expect("shutdown");
    let (bus, again) = log.noting_on("shop", keeping(), &["placed"]).await;
    publish(&bus, "placed", [1_000]).await;
    again.reach(1).await;
    let all = keeping().start_from(StartFrom::Beginning);
    let (other, seen) = log.noting_on("other", all, &["placed", "shipped"]).await;
    seen.reach(1_021).await;

    log.is_done("other").await;
    assert_eq!(again.numbers(), [1_000]);
    assert_eq!(notes.len(), 1_000);
    let rows = "SELECT count(*) FROM final_log WHERE seq > 1021";
    assert_eq!(log.number(rows).await, 0, "nothing has another number");
    bus.shutdown().await.expect("shutdown");
    other.shutdown().await.expect("shutdown");
}

/// A member that still knows the old group must not write progress for the new one.
async fn a_service_that_was_forgotten_and_comes_again_begins_anew<D: Numbers>(log: Log<D>) {
    let counts = async || {
        let epoch = log.number("SELECT max(epoch) FROM final_log_lanes").await;
        let version = "SELECT max(version) FROM final_log_groups";
        (epoch, log.number(version).await)
    };
    let (bus, _) = log.noting("shop", &["placed"]).await;
    bus.shutdown().await.expect("shutdown");
    let before = counts().await;
    assert!(log.broker().forget("shop").await.expect("forgotten"));

    let (bus, _) = log.noting("shop", &["placed"]).await;

    let after = counts().await;
    assert!(
        after.0 > before.0 && after.1 > before.1,
        "{before:?} {after:?}"
    );
    bus.shutdown().await.expect("shutdown");
}

async fn a_message_of_a_transaction_that_was_open_when_the_numbers_were_mended_is_handled<
    D: Numbers,
>(
    log: Log<D>,
) {
    log.with_a_hundred().await;
    D::truncate(&log.pool).await;
    let late = written(&log.bus("till"), 7).await;
    log.publish_unseen(100..150).await;
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    notes.reach(50).await;
    publish(&bus, "placed", 150..160).await;
    notes.reach(60).await;

    late.commit().await.expect("commit");

    notes.reach(61).await;
    assert_eq!(notes.numbers().last(), Some(&7));
    bus.shutdown().await.expect("shutdown");
}

/// By then the watermarks of the running members have passed its number. The members that mended it leave no
/// watermark, because they are killed.
async fn a_message_of_a_transaction_that_outlives_those_who_mended_its_number_is_handled<
    D: Numbers,
>(
    log: Log<D>,
) {
    log.with_a_hundred().await;
    D::truncate(&log.pool).await;
    let late = written(&log.bus("till"), 7).await;
    log.publish_unseen(100..150).await;
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    notes.reach(50).await;
    let newest = log.newest_watermark().await;
    publish(&bus, "placed", 150..160).await;
    notes.reach(60).await;
    log.has_told_of_more(newest).await;
    log.is_done("shop").await;
    bus.shutdown().await.expect("shutdown");
    log.run("DELETE FROM final_log_watermarks WHERE id < 0 OR id = 1")
        .await;

    late.commit().await.expect("commit");

    log.handles([7]).await;
}

/// By then the new numbers are above the old ones, so only members that have read the old ones can tell.
async fn messages_of_a_transaction_that_outlives_those_who_had_read_their_numbers_are_handled<
    D: Numbers,
>(
    log: Log<D>,
) {
    // No member looks at the sequence before it has passed the old numbers.
    let blind = log.broker().poll_interval(HOUR);
    let (bus, notes) = log.noting_on("shop", blind, &["placed"]).await;
    publish(&bus, "placed", 0..100).await;
    // The walk has noted older numbers than those that come now.
    let walked = "SELECT count(*) FROM final_log_watermarks WHERE id = 1";
    log.comes_to(walked, 1).await;
    publish(&bus, "placed", 100..200).await;
    notes.reach(200).await;
    log.comes_to("SELECT count(*) FROM final_log", 0).await;
    D::restart(&log.pool, "final_log", 100).await;
    let mut late = written(&bus, 1_000).await;
    for n in 1_001..1_100 {
        late.publish("placed", &n).await.expect("staged");
    }
    late.flush().await.expect("written");
    publish(&bus, "placed", 200..250).await;
    notes.reach(250).await;
    log.has_told_of_more(200).await;
    bus.shutdown().await.expect("shutdown");
    late.commit().await.expect("commit");

    log.handles(1_000..1_100).await;
}

async fn late_commits_are_not_taken_for_numbers_that_went_back<D: Numbers>(log: Log<D>) {
    let broker = log
        .broker()
        .keep(HOUR)
        .poll_interval(Duration::from_millis(20));
    let (bus, notes) = log.noting_on("shop", broker, &["placed"]).await;
    let mut wanted = Vec::new();
    for n in 0..20_i64 {
        let late = written(&bus, n * 10).await;
        publish(&bus, "placed", [n * 10 + 1]).await;
        wanted.extend([n * 10, n * 10 + 1]);
        notes.reach(wanted.len() - 1).await;
        late.commit().await.expect("commit");
        notes.reach(wanted.len()).await;
    }

    log.is_done("shop").await;
    assert_eq!(sorted(notes.numbers()), wanted);
    bus.shutdown().await.expect("shutdown");
}
