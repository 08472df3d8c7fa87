//! What the database does not take: a letter, a message that is scheduled or put back. It keeps nothing else
//! back, and is not lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use final_core::{Bus, HandlerError, Letter, LetterFilter, Message, Router, SqlBroker};
use final_tests::{always, eventually};
use sqlx::{Database as _, MySql, Postgres, Sqlite, postgres::PgPoolOptions};

use super::{Log, noting, numbers::Numbers, options, publish, sorted};
use crate::{
    database::Database,
    house::{Notes, SOON},
};

crate::log_suite!(
    a_reason_that_is_refused_is_told_in_fewer_words,
    a_reason_that_is_refused_in_any_words_is_replaced,
    a_letter_that_is_refused_whatever_it_says_stays_open_and_keeps_nothing_else_back,
    a_letter_that_is_passed_over_in_silence_stays_open,
    a_letter_is_stored_as_soon_as_the_database_takes_it,
    progress_is_written_while_there_is_no_table_for_dead_letters,
    hundreds_of_refused_letters_keep_nothing_else_back,
    beyond_a_thousand_refused_letters_nothing_more_is_read_until_they_are_taken,
    a_lane_with_a_refused_letter_can_be_given_away,
    a_scheduled_message_that_the_log_refuses_keeps_no_other_back,
    a_letter_that_the_log_refuses_stays_and_the_others_are_put_back,
    a_message_that_cannot_be_handed_on_comes_again,
    a_message_from_elsewhere_that_the_log_refuses_keeps_no_other_back,
    a_message_with_a_used_number_that_the_log_refuses_keeps_no_other_back,
    a_message_with_a_used_number_that_the_log_passes_over_is_not_lost,
);

/// Statements that have a table refuse rows, or pass over them, and one that ends it.
struct Guard {
    set: Vec<String>,
    lift: String,
}

impl Guard {
    /// A trigger that raises an error, where a condition is met by `NEW`.
    fn refusing<D: Database>(table: &str, condition: &str) -> Self {
        Self::new::<D>(
            table,
            condition,
            ["RAISE EXCEPTION 'not here'", "ABORT, 'not here'"],
        )
    }

    /// A trigger that leaves the row out. MySQL has none, but leaves out by `INSERT IGNORE` what a CHECK
    /// refuses.
    fn passing_over<D: Database>(table: &str, condition: &str) -> Self {
        if D::NAME == MySql::NAME {
            let condition = condition.replace("NEW.", "");
            return Self {
                set: vec![format!(
                    "ALTER TABLE {table} ADD CONSTRAINT guard CHECK (NOT ({condition}))"
                )],
                lift: format!("ALTER TABLE {table} DROP CONSTRAINT guard"),
            };
        }
        Self::new::<D>(table, condition, ["RETURN NULL", "IGNORE"])
    }

    fn new<D: Database>(table: &str, condition: &str, [postgres, sqlite]: [&str; 2]) -> Self {
        let set = match D::NAME {
            name if name == Postgres::NAME => vec![
                format!(
                    "CREATE OR REPLACE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS \
                     $$ BEGIN IF {condition} THEN {postgres}; END IF; RETURN NEW; END $$"
                ),
                format!(
                    "CREATE TRIGGER guard BEFORE INSERT ON {table} FOR EACH ROW \
                     EXECUTE FUNCTION guard()"
                ),
            ],
            name if name == MySql::NAME => vec![format!(
                "CREATE TRIGGER guard BEFORE INSERT ON {table} FOR EACH ROW \
                 IF {condition} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not here'; END IF"
            )],
            _ => vec![format!(
                "CREATE TRIGGER guard BEFORE INSERT ON {table} WHEN {condition} \
                 BEGIN SELECT RAISE({sqlite}); END"
            )],
        };
        let on = match D::NAME {
            name if name == Postgres::NAME => format!(" ON {table}"),
            _ => String::new(),
        };
        Self {
            set,
            lift: format!("DROP TRIGGER guard{on}"),
        }
    }

    async fn set<D: Database>(&self, log: &Log<D>) {
        for statement in &self.set {
            log.run(statement).await;
        }
    }

    async fn lift<D: Database>(&self, log: &Log<D>) {
        log.run(&self.lift).await;
    }
}

/// A service that handles "placed", and refuses "bad".
struct Shop<D: Database> {
    bus: Bus<D>,
    broker: SqlBroker<D>,
    /// The messages of either topic.
    placed: Notes,
    bad: Notes,
    told: Arc<AtomicUsize>,
}

impl<D: Database> Shop<D> {
    async fn open(log: &Log<D>, reason: &'static str) -> Self {
        Self::open_on(log, log.broker(), reason).await
    }

    async fn open_on(log: &Log<D>, broker: SqlBroker<D>, reason: &'static str) -> Self {
        let told = Arc::new(AtomicUsize::new(0));
        let telling = Arc::clone(&told);
        let broker = broker.on_commit_error(move |_| {
            telling.fetch_add(1, Ordering::SeqCst);
        });
        // Far longer than a test waits for a shutdown, which has nothing to wait for.
        let options = options().shutdown_timeout(SOON * 10);
        let bus = log.bus_on("shop", broker.clone()).with_options(options);
        let (placed, bad) = (Notes::default(), Notes::default());
        let refused = bad.clone();
        let router = noting(&placed, &["placed"]).route("bad", move |message: Message| {
            refused.add(message);
            async move { Err::<(), _>(HandlerError::permanent(reason)) }
        });
        bus.start(router).await.expect("start");
        Self {
            bus,
            broker,
            placed,
            bad,
            told,
        }
    }

    async fn letters(&self) -> Vec<Letter> {
        let letters = self.broker.dead_letters("shop", LetterFilter::all()).await;
        letters.expect("letters")
    }

    async fn letters_reach(&self, count: usize) -> Vec<Letter> {
        eventually("dead letters", SOON, async || {
            let letters = self.letters().await;
            if letters.len() == count {
                Ok(letters)
            } else {
                Err(letters.len())
            }
        })
        .await
    }

    async fn is_told(&self) {
        eventually("the hook is told", SOON, async || {
            self.told.load(Ordering::SeqCst) > 0
        })
        .await;
    }

    async fn close(self) {
        let shutdown = tokio::time::timeout(SOON, self.bus.shutdown()).await;
        shutdown.expect("it waits for nothing").expect("shutdown");
    }
}

/// Publishes two letters-to-be among others, and sees the others done.
async fn among_others<D: Database>(shop: &Shop<D>) {
    publish(&shop.bus, "placed", 0..20).await;
    publish(&shop.bus, "bad", [100]).await;
    publish(&shop.bus, "placed", 20..40).await;
    shop.placed.reach(40).await;
}

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

/// What a guard does to letters of "bad", and that it does nothing else.
async fn stays_open<D: Database>(log: Log<D>, guard: Guard) {
    let shop = Shop::open(&log, "no").await;
    guard.set(&log).await;
    let begin = Instant::now();
    among_others(&shop).await;
    shop.is_told().await;
    log.has_open("shop", 1).await;
    let (told, took) = (shop.told.load(Ordering::SeqCst), begin.elapsed());
    // It is tried again every second at first, and more seldom later.
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

/// Each is a number that the progress lists, so that there is a bound.
async fn beyond_a_thousand_refused_letters_nothing_more_is_read_until_they_are_taken<
    D: Database,
>(
    log: Log<D>,
) {
    const BOUND: usize = 1_000;
    let prefetch = 50;
    let broker = log.broker().prefetch(prefetch);
    let shop = Shop::open_on(&log, broker, "no").await;
    log.run("ALTER TABLE final_log_dead RENAME TO elsewhere")
        .await;
    publish(&shop.bus, "bad", 0..1_500).await;
    publish(&shop.bus, "placed", 0..20).await;

    eventually("a thousand", SOON * 3, async || shop.bad.len() >= BOUND).await;
    always("no more is read", Duration::from_secs(1), async || {
        shop.bad.len() <= BOUND + prefetch && shop.placed.len() == 0
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

async fn a_scheduled_message_that_the_log_refuses_keeps_no_other_back<D: Database>(log: Log<D>) {
    let shop = Shop::open(&log, "no").await;
    let guard = Guard::refusing::<D>("final_log", "NEW.topic = 'bad'");
    guard.set(&log).await;
    let delay = Duration::from_millis(300);
    for number in 0..20_i64 {
        let topic = if number == 3 { "bad" } else { "placed" };
        let scheduled = shop.bus.publish(topic, &number).delay(delay);
        scheduled.await.expect("publish");
    }

    shop.placed.reach(19).await;
    shop.is_told().await;
    log.comes_to("SELECT count(*) FROM final_log_scheduled", 1)
        .await;
    let told = shop.told.load(Ordering::SeqCst);
    assert!(told < 5, "a hot loop: {told}");
    guard.lift(&log).await;
    log.run("UPDATE final_log_scheduled SET due_at = 0").await;
    shop.bad.reach(1).await;
    shop.close().await;
}

async fn a_letter_that_the_log_refuses_stays_and_the_others_are_put_back<D: Database>(log: Log<D>) {
    let shop = Shop::open(&log, "no").await;
    for number in 0..150_i64 {
        let key = if number == 7 { "stuck" } else { "free" };
        let letter = shop.bus.publish("bad", &number).key(key);
        letter.await.expect("publish");
    }
    shop.letters_reach(150).await;
    shop.close().await;
    let guard = Guard::refusing::<D>("final_log", "NEW.message_key = 'stuck'");
    guard.set(&log).await;

    let broker = log.broker();
    let replayed = broker.replay("shop", LetterFilter::all()).await;
    assert_eq!(replayed.expect("put back"), 149);
    let left = broker.dead_letters("shop", LetterFilter::all()).await;
    let left = left.expect("letters");
    assert_eq!(left.len(), 1);
    assert_eq!(
        left[0].message.as_ref().expect("a message").key(),
        Some("stuck")
    );
    let error = broker.replay("shop", LetterFilter::all()).await;
    let error = format!("{:?}", error.expect_err("nothing can be put back"));
    assert!(error.contains("not here"), "{error}");
    guard.lift(&log).await;
    let replayed = broker.replay("shop", LetterFilter::all()).await;
    assert_eq!(replayed.expect("put back"), 1);
}

/// Instances without a handler hand its messages on.
async fn a_message_that_cannot_be_handed_on_comes_again<D: Database>(log: Log<D>) {
    let full = Notes::default();
    let newer = log.bus("shop");
    newer
        .start(noting(&full, &["placed", "new"]))
        .await
        .expect("start");
    newer.shutdown().await.expect("shutdown");
    let shop = Shop::open(&log, "no").await;
    let guard = Guard::refusing::<D>("final_log", "NEW.recipient = 'shop'");
    guard.set(&log).await;
    publish(&shop.bus, "new", [1]).await;
    publish(&shop.bus, "placed", 0..20).await;
    shop.placed.reach(20).await;
    shop.is_told().await;
    publish(&shop.bus, "placed", 20..40).await;
    shop.placed.reach(40).await;
    eventually("the progress of the others", SOON, async || {
        let backlog = shop.broker.backlog("shop").await.expect("backlog");
        match backlog.waiting {
            0 => Ok(()),
            waiting => Err(waiting),
        }
    })
    .await;
    log.has_open("shop", 1).await;

    let newer = log.bus("shop");
    newer
        .start(noting(&full, &["placed", "new"]))
        .await
        .expect("start");
    guard.lift(&log).await;
    eventually("it is handed on", SOON, async || full.numbers() == [1]).await;
    newer.shutdown().await.expect("shutdown");
    shop.close().await;
}

async fn needs_a_new_number<D: Numbers>(log: Log<D>, guard: Guard) {
    let topics = ["placed", "kept"];
    let (bus, notes) = log.noting("shop", &topics).await;
    publish(&bus, "placed", 0..100).await;
    notes.reach(100).await;
    log.is_done("shop").await;
    bus.shutdown().await.expect("shutdown");
    D::truncate(&log.pool).await;
    let till = log.bus("till");
    publish(&till, "placed", 0..10).await;
    publish(&till, "kept", [10]).await;
    publish(&till, "placed", 11..20).await;
    guard.set(&log).await;

    let (bus, notes) = log.noting("shop", &topics).await;
    notes.reach(19).await;
    publish(&bus, "placed", 20..30).await;
    notes.reach(29).await;
    assert!(!notes.numbers().contains(&10));

    guard.lift(&log).await;
    notes.reach(30).await;
    assert_eq!(sorted(notes.numbers()), Vec::from_iter(0..30));
    bus.shutdown().await.expect("shutdown");
}

async fn a_message_with_a_used_number_that_the_log_refuses_keeps_no_other_back<D: Numbers>(
    log: Log<D>,
) {
    needs_a_new_number(log, Guard::refusing::<D>("final_log", "NEW.topic = 'kept'")).await;
}

/// On MariaDB only what an `INSERT IGNORE` leaves out is passed over, so that it is refused there.
async fn a_message_with_a_used_number_that_the_log_passes_over_is_not_lost<D: Numbers>(
    log: Log<D>,
) {
    let guard = match D::NAME {
        name if name == MySql::NAME => Guard::refusing::<D>("final_log", "NEW.topic = 'kept'"),
        _ => Guard::passing_over::<D>("final_log", "NEW.topic = 'kept'"),
    };
    needs_a_new_number(log, guard).await;
}

async fn a_message_from_elsewhere_that_the_log_refuses_keeps_no_other_back<D: Database>(
    log: Log<D>,
) {
    let elsewhere = Log::<D>::new().await;
    let shop = Shop::open(&log, "no").await;
    let guard = Guard::refusing::<D>("final_log", "NEW.topic = 'bad'");
    guard.set(&log).await;
    let far = Bus::new("far", elsewhere.pool.clone(), log.broker())
        .with_options(options().scan_interval(Duration::from_millis(500)));
    far.start(Router::new()).await.expect("start");
    publish(&far, "bad", [1]).await;
    publish(&far, "placed", 0..20).await;

    shop.placed.reach(20).await;
    let failed = eventually("it has failed", SOON, async || {
        let mut failed = far.failed(10).await.expect("failed");
        failed.pop().ok_or(())
    })
    .await;
    let failed = format!("{failed:?}");
    assert!(failed.contains("not here"), "{failed}");
    far.shutdown().await.expect("shutdown");
    shop.close().await;
}

impl Log<Postgres> {
    /// In a database of an encoding that has few characters.
    async fn encoded(encoding: &str) -> Self {
        let log = Self::new().await;
        let name = final_tests::unique("final_test");
        log.run(&format!(
            "CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        ))
        .await;
        let options = log.pool.connect_options().as_ref().clone().database(&name);
        let pool = PgPoolOptions::new().max_connections(10);
        Self {
            pool: pool.connect_with(options).await.expect("connected"),
            _file: None,
        }
    }
}

/// Sends to "bad" once, and sees what its letter says.
async fn letter_of<D: Database>(log: &Log<D>, reason: &'static str, text: &'static str) -> Letter {
    let shop = Shop::open(log, reason).await;
    publish(&shop.bus, "placed", 0..20).await;
    let sent = shop
        .bus
        .publish("bad", &1_i64)
        .key(text)
        .header("who", text);
    sent.await.expect("publish");
    shop.placed.reach(20).await;
    let letter = shop.letters_reach(1).await.remove(0);
    log.is_done("shop").await;
    shop.close().await;
    let shop = Shop::open(log, reason).await;
    publish(&shop.bus, "placed", [99]).await;
    shop.placed.reach(1).await;
    assert_eq!((shop.placed.numbers(), shop.bad.len()), (vec![99], 0));
    shop.close().await;
    letter
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reason_that_latin1_cannot_say_is_stored_without_those_characters() {
    let log = Log::encoded("LATIN1").await;
    let letter = letter_of(&log, "paiement refusé ✓", "é").await;

    assert!(
        letter.reason.ends_with("paiement refus? ?"),
        "{}",
        letter.reason
    );
    let message = letter.message.expect("a message");
    assert_eq!(
        (message.key(), message.headers().get("who")),
        (Some("é"), Some("é"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_an_encoding_stores_every_reason_as_it_is() {
    let log = Log::encoded("SQL_ASCII").await;
    let letter = letter_of(&log, "paiement refusé ✓", "✓").await;

    assert!(
        letter.reason.ends_with("paiement refusé ✓"),
        "{}",
        letter.reason
    );
    let message = letter.message.expect("a message");
    assert_eq!(
        (message.key(), message.headers().get("who")),
        (Some("✓"), Some("✓"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_what_latin1_cannot_say_is_an_error_that_says_so() {
    let log = Log::encoded("LATIN1").await;
    let (shop, notes) = log.noting("shop", &["placed"]).await;
    let bad = shop.publish("placed", &1_i64).header("who", "✓").await;
    let error = bad.expect_err("it cannot be stored");
    let error = format!("{error} {error:?}");
    assert!(error.contains("LATIN1"), "{error}");

    publish(&shop, "placed", [2]).await;
    notes.reach(1).await;
    assert_eq!(notes.numbers(), [2]);
    shop.shutdown().await.expect("shutdown");
}

/// The outbox says why a record has failed in the words of the log's database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_in_latin1_tells_an_error_that_latin1_cannot_say() {
    let (log, elsewhere) = (Log::<Postgres>::new().await, Log::encoded("LATIN1").await);
    let shop = Shop::open(&log, "no").await;
    let mut guard = Guard::refusing::<Postgres>("final_log", "NEW.topic = 'bad'");
    guard.set[0] = guard.set[0].replace("not here", "non ✓");
    guard.set(&log).await;
    let far = Bus::new("far", elsewhere.pool.clone(), log.broker())
        .with_options(options().scan_interval(Duration::from_millis(500)));
    far.start(Router::new()).await.expect("start");
    publish(&far, "bad", [1]).await;
    publish(&far, "placed", 0..20).await;

    shop.placed.reach(20).await;
    let failed = eventually("it has failed", SOON, async || {
        let mut failed = far.failed(10).await.expect("failed");
        failed.pop().ok_or(())
    })
    .await;
    assert!(failed.error.contains("non ?"), "{}", failed.error);
    far.shutdown().await.expect("shutdown");
    shop.close().await;
}

/// What an operator has made of the table of dead letters, before a service stores one that does not fit.
async fn converted(alter: &str, reason: &'static str, text: &'static str) -> Letter {
    let log = Log::<MySql>::new().await;
    let shop = Shop::open(&log, "").await;
    shop.close().await;
    log.run(&format!("ALTER TABLE final_log_dead {alter}"))
        .await;
    letter_of(&log, reason, text).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reason_that_a_converted_table_cannot_say_is_stored_without_those_characters() {
    let alter = "CONVERT TO CHARACTER SET latin1";
    let letter = converted(alter, "paiement refusé ✓", "é").await;

    assert!(
        letter.reason.ends_with("paiement refus? ?"),
        "{}",
        letter.reason
    );
    let message = letter.message.expect("a message");
    assert_eq!(
        (message.key(), message.headers().get("who")),
        (Some("é"), Some("é"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_whose_headers_a_converted_table_cannot_say_keeps_their_meaning() {
    let alter = "MODIFY headers MEDIUMTEXT CHARACTER SET utf8mb3";
    let letter = converted(alter, "no", "🦀").await;

    assert_eq!(letter.reason, "no");
    let message = letter.message.expect("a message");
    assert_eq!(
        (message.key(), message.headers().get("who")),
        (Some("🦀"), Some("🦀"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_whose_key_a_converted_table_cannot_say_tells_that_it_is_without_it() {
    let letter = converted("CONVERT TO CHARACTER SET utf8mb3", "no", "🦀").await;

    let told = "key and headers could not be stored; ";
    assert!(letter.reason.starts_with(told), "{}", letter.reason);
    let message = letter.message.expect("a message");
    assert_eq!((message.key(), message.headers().len()), (None, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reason_for_which_the_column_is_too_narrow_is_cut() {
    let alter = "MODIFY reason VARCHAR(20) NOT NULL";
    let letter = converted(alter, "the card number of Zoë is 4111", "é").await;

    assert_eq!(letter.reason, "the card number ");
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
    let without_key = |letter: &Letter| letter.message.as_ref().is_ok_and(|m| m.key().is_none());
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
