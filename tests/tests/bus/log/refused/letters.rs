//! Dead letters that their table refuses.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use final_core::broker::DeadLetter;
use final_tests::{always, eventually};
use sqlx::{Postgres, Sqlite};

use super::{Guard, Shop, among_others};
use crate::{
    database::Database,
    house::SOON,
    log::{Log, publish},
};

crate::log_suite!(
    a_reason_that_is_refused_is_told_in_fewer_words,
    a_reason_that_is_refused_in_any_words_is_replaced,
    a_letter_that_is_refused_whatever_it_says_stays_open_and_keeps_nothing_else_back,
    a_letter_that_is_passed_over_in_silence_stays_open,
    a_letter_is_stored_as_soon_as_the_database_takes_it,
    progress_is_written_while_there_is_no_table_for_dead_letters,
    hundreds_of_refused_letters_keep_nothing_else_back,
    a_lane_with_a_refused_letter_can_be_given_away,
);

// Not on MariaDB: with thousands of refused statements it would be by far the slowest of all tests there.
crate::log_suite!(
    @on postgres_bound,
    sqlx::Postgres,
    beyond_a_thousand_refused_letters_nothing_more_is_read_until_they_are_taken
);
crate::log_suite!(
    @on sqlite_bound,
    sqlx::Sqlite,
    beyond_a_thousand_refused_letters_nothing_more_is_read_until_they_are_taken
);

async fn only_one_letter_is_changed<D: Database>(log: &Log<D>, condition: &str) -> String {
    let shop = Shop::open(log, "the card number of Zoë ✓ is 4111").await;
    Guard::refusing::<D>("final_log_dead", condition)
        .set(log)
        .await;
    among_others(&shop).await;

    let letter = shop.letters_reach(1).await.remove(0);
    log.is_done("shop").await;
    assert_eq!(letter.message.expect("a message").topic(), "bad");
    shop.close().await;
    let shop = Shop::open(log, "").await;
    publish(&shop.bus, "placed", [99]).await;
    shop.placed.reach(1).await;
    assert_eq!((shop.placed.numbers(), shop.bad.len()), (vec![99], 0));
    shop.close().await;
    letter.reason
}

async fn a_reason_that_is_refused_is_told_in_fewer_words<D: Database>(log: Log<D>) {
    let reason = only_one_letter_is_changed(&log, "length(NEW.reason) > 20").await;
    assert_eq!(reason, "the card number ");
}

async fn a_reason_that_is_refused_in_any_words_is_replaced<D: Database>(log: Log<D>) {
    let reason = only_one_letter_is_changed(&log, "NEW.reason LIKE '%card%'").await;
    assert!(
        reason.starts_with("the reason could not be stored"),
        "{reason}"
    );
}

/// Asserts that a guard keeps the letters of "bad" open, and nothing else.
async fn stays_open<D: Database>(log: Log<D>, guard: Guard) {
    let shop = Shop::open(&log, "no").await;
    guard.set(&log).await;
    let begin = Instant::now();
    among_others(&shop).await;
    shop.is_told().await;
    log.has_open("shop", 1).await;
    let (told, took) = (shop.told.load(Ordering::SeqCst), begin.elapsed());
    // The letter is tried again every second at first, and less often later.
    let hot = 10 + took.as_secs() as usize;
    assert!(told < hot, "a hot loop: told {told} times in {took:?}");
    shop.close().await;

    log.has_open("shop", 1).await;
    guard.lift(&log).await;
    let shop = Shop::open(&log, "no").await;
    let letters = shop.letters_reach(1).await;
    assert_eq!(letters[0].reason, "no");
    log.is_done("shop").await;
    assert_eq!((shop.placed.len(), shop.bad.len()), (0, 1));
    shop.close().await;
}

async fn a_letter_that_is_refused_whatever_it_says_stays_open_and_keeps_nothing_else_back<
    D: Database,
>(
    log: Log<D>,
) {
    let guard = Guard::refusing::<D>("final_log_dead", "NEW.topic = 'bad'");
    stays_open(log, guard).await;
}

async fn a_letter_that_is_passed_over_in_silence_stays_open<D: Database>(log: Log<D>) {
    let guard = Guard::passing_over::<D>("final_log_dead", "NEW.topic = 'bad'");
    stays_open(log, guard).await;
}

async fn a_letter_is_stored_as_soon_as_the_database_takes_it<D: Database>(log: Log<D>) {
    let shop = Shop::open(&log, "no ✓").await;
    let guard = Guard::refusing::<D>("final_log_dead", "NEW.topic = 'bad'");
    guard.set(&log).await;
    among_others(&shop).await;
    shop.is_told().await;
    log.has_open("shop", 1).await;

    guard.lift(&log).await;
    let letters = shop.letters_reach(1).await;
    assert_eq!(letters[0].reason, "no ✓");
    log.is_done("shop").await;
    assert_eq!(shop.bad.len(), 1, "it was not handled again");
    shop.close().await;
}

async fn progress_is_written_while_there_is_no_table_for_dead_letters<D: Database>(log: Log<D>) {
    let shop = Shop::open(&log, "no").await;
    log.run("ALTER TABLE final_log_dead RENAME TO put_away")
        .await;
    among_others(&shop).await;
    shop.is_told().await;
    log.has_open("shop", 1).await;

    log.run("ALTER TABLE put_away RENAME TO final_log_dead")
        .await;
    shop.letters_reach(1).await;
    log.is_done("shop").await;
    shop.close().await;
}

async fn hundreds_of_refused_letters_keep_nothing_else_back<D: Database>(log: Log<D>) {
    let shop = Shop::open(&log, "no").await;
    let guard = Guard::refusing::<D>("final_log_dead", "NEW.topic = 'bad'");
    guard.set(&log).await;
    publish(&shop.bus, "bad", 0..120).await;
    publish(&shop.bus, "placed", 0..120).await;
    shop.placed.reach(120).await;
    log.has_open("shop", 120).await;

    guard.lift(&log).await;
    shop.letters_reach(120).await;
    log.is_done("shop").await;
    assert_eq!(shop.bad.len(), 120);
    shop.close().await;
}

/// The progress lists the sequence number of each such letter, so there is a bound.
async fn beyond_a_thousand_refused_letters_nothing_more_is_read_until_they_are_taken<
    D: Database,
>(
    log: Log<D>,
) {
    const BOUND: usize = 1_000;
    let (prefetch, commit_after) = (50, 50);
    let broker = log.broker().prefetch(prefetch).commit_after(commit_after);
    // Letters are counted as they are written, with the progress. Until then so many more are handled.
    let most = BOUND + commit_after + prefetch;
    let shop = Shop::open_on(&log, broker, "no").await;
    log.run("ALTER TABLE final_log_dead RENAME TO elsewhere")
        .await;
    publish(&shop.bus, "bad", 0..1_500).await;
    publish(&shop.bus, "placed", 0..20).await;

    eventually("a thousand", SOON * 3, async || shop.bad.len() >= BOUND).await;
    always("no more is read", Duration::from_secs(1), async || {
        shop.bad.len() <= most && shop.placed.len() == 0
    })
    .await;

    log.run("ALTER TABLE elsewhere RENAME TO final_log_dead")
        .await;
    eventually("all letters", SOON * 3, async || {
        let letters = log.number("SELECT count(*) FROM final_log_dead").await;
        if letters == 1_500 {
            Ok(())
        } else {
            Err(letters)
        }
    })
    .await;
    shop.placed.reach(20).await;
    log.is_done("shop").await;
    shop.close().await;
}

async fn a_lane_with_a_refused_letter_can_be_given_away<D: Database>(log: Log<D>) {
    let shop = Shop::open(&log, "no").await;
    let guard = Guard::refusing::<D>("final_log_dead", "NEW.topic = 'bad'");
    guard.set(&log).await;
    publish(&shop.bus, "bad", 0..30).await;
    log.has_open("shop", 30).await;

    let another = Shop::open(&log, "no").await;
    log.shared_by("shop", 2).await;
    another.bad.reach(1).await;
    log.has_open("shop", 30).await;
    shop.close().await;
    log.shared_by("shop", 1).await;
    guard.lift(&log).await;
    another.letters_reach(30).await;
    log.is_done("shop").await;
    another.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_is_refused_at_the_commit_stays_open() {
    let log = Log::<Postgres>::new().await;
    let mut guard = Guard::refusing::<Postgres>("final_log_dead", "NEW.topic = 'bad'");
    guard.set[1] = "CREATE CONSTRAINT TRIGGER guard AFTER INSERT ON final_log_dead \
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION guard()"
        .to_owned();
    stays_open(log, guard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_beside_one_that_is_refused_at_the_commit_are_stored() {
    let log = Log::<Postgres>::new().await;
    let shop = Shop::open(&log, "no").await;
    let mut guard = Guard::refusing::<Postgres>("final_log_dead", "NEW.message_key = 'stuck'");
    guard.set[1] = "CREATE CONSTRAINT TRIGGER guard AFTER INSERT ON final_log_dead \
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION guard()"
        .to_owned();
    guard.set(&log).await;
    let mut txbus = shop.bus.with_tx(shop.bus.begin().await.expect("begin"));
    for number in 0..10_i64 {
        let key = if number == 3 { "stuck" } else { "free" };
        let letter = txbus.publish("bad", &number).key(key);
        letter.await.expect("staged");
    }
    txbus.commit().await.expect("commit");

    let letters = shop.letters_reach(10).await;
    let without_key =
        |letter: &DeadLetter| letter.message.as_ref().is_ok_and(|m| m.key().is_none());
    assert_eq!(letters.iter().filter(|l| without_key(l)).count(), 1);
    log.is_done("shop").await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_ends_the_transaction_leaves_the_connection_whole() {
    let log = Log::<Sqlite>::new().await;
    let mut guard = Guard::refusing::<Sqlite>("final_log_dead", "NEW.topic = 'bad'");
    guard.set[0] = guard.set[0].replace("ABORT", "ROLLBACK");
    stays_open(log, guard).await;
}
