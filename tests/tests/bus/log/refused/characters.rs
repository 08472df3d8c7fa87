//! Characters that an encoding of the database or of a table does not have.

use final_core::broker::DeadLetter;
use sqlx::{MySql, Postgres, postgres::PgPoolOptions};

use super::{Guard, Shop, fails_from_elsewhere};
use crate::{
    database::Database,
    log::{Log, publish},
};

impl Log<Postgres> {
    /// A log in a database whose encoding has few characters.
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

/// Publishes one message to "bad", and returns its dead letter.
async fn letter_of<D: Database>(
    log: &Log<D>,
    reason: &'static str,
    text: &'static str,
) -> DeadLetter {
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

/// Asserts that the letter's message has its key and its header as they were sent.
fn has_text(letter: DeadLetter, text: &str) {
    let message = letter.message.expect("a message");
    let (key, header) = (message.key(), message.headers().get("who"));
    assert_eq!((key, header), (Some(text), Some(text)));
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
    has_text(letter, "é");
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
    has_text(letter, "✓");
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

/// The outbox stores the error text of the log's database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_in_latin1_tells_an_error_that_latin1_cannot_say() {
    let (log, elsewhere) = (Log::<Postgres>::new().await, Log::encoded("LATIN1").await);
    let shop = Shop::open(&log, "no").await;
    let mut guard = Guard::refusing::<Postgres>("final_log", "NEW.topic = 'bad'");
    guard.set[0] = guard.set[0].replace("not here", "non ✓");
    guard.set(&log).await;
    let failed = fails_from_elsewhere(&shop, &log, &elsewhere).await;
    assert!(failed.contains("non ?"), "{failed}");
    shop.close().await;
}

/// An operator alters the table of dead letters. Then a service stores a letter that does not fit. Returns
/// that letter.
async fn converted(alter: &str, reason: &'static str, text: &'static str) -> DeadLetter {
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
    has_text(letter, "é");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_whose_headers_a_converted_table_cannot_say_keeps_their_meaning() {
    let alter = "MODIFY headers MEDIUMTEXT CHARACTER SET utf8mb3";
    let letter = converted(alter, "no", "🦀").await;

    assert_eq!(letter.reason, "no");
    has_text(letter, "🦀");
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
