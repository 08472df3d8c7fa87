//! Dead letters while the database is slow, or others take them at the same time.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, postgres::PgConnectOptions};
use uuid::Uuid;

use crate::{broker::DeadLetterFilter, log::tables::Log};

const SHOP: &str = "my-shop";

/// By when the server has ended a COMMIT of 20 s, on any machine.
const SOON: Duration = Duration::from_secs(120);

/// A new database whose log has so many dead letters.
async fn shop(letters: u32) -> (Log<sqlx::Postgres>, PgPool) {
    let url = std::env::var("FINAL_TEST_POSTGRES_URL")
        .expect("this test needs a server: run `cargo xtask test`, or set FINAL_TEST_POSTGRES_URL");
    let name = format!("log_{}", Uuid::now_v7().simple());
    let mut root = PgConnection::connect(&url).await.unwrap();
    let create = AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE template0"));
    root.execute(create).await.unwrap();
    let options: PgConnectOptions = url.parse().unwrap();
    let pool = PgPool::connect_lazy_with(options.database(&name));
    let log = Log::new(pool.clone());
    log.migrate().await.unwrap();
    run(
        &pool,
        format!(
            "INSERT INTO final_log_dead (group_name, seq, message_id, topic, payload, content_type, durable, lane, \
                 weight, reason, attempts, died_at) \
             SELECT '{SHOP}', n, gen_random_uuid(), 'placed', '', '', 1, 0, 0, 'refused', 1, 0 \
             FROM generate_series(1, {letters}) AS s(n)"
        ),
    )
    .await;
    (log, pool)
}

async fn run(pool: &PgPool, sql: impl Into<String>) {
    pool.execute(sqlx::raw_sql(AssertSqlSafe(sql.into())))
        .await
        .unwrap();
}

async fn left(pool: &PgPool) -> Vec<i64> {
    sqlx::query_scalar("SELECT seq FROM final_log_dead ORDER BY seq")
        .fetch_all(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_batch_whose_commit_is_not_answered_is_not_followed_by_another() {
    let (log, pool) = shop(200).await;
    // The server ends a statement of a batch after 12 s, so the COMMIT has to get around that.
    run(
        &pool,
        "CREATE SEQUENCE committed; \
         CREATE FUNCTION unlimited() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM set_config(''statement_timeout'', ''0'', true); RETURN OLD; END'; \
         CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN IF nextval(''committed'') = 1 THEN PERFORM pg_sleep(20); END IF; RETURN OLD; END'; \
         CREATE TRIGGER unlimited BEFORE DELETE ON final_log_dead FOR EACH ROW EXECUTE FUNCTION unlimited(); \
         CREATE CONSTRAINT TRIGGER slowly AFTER DELETE ON final_log_dead DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION slowly()",
    )
    .await;

    let discarded = log.discard(SHOP, &DeadLetterFilter::all().limit(100)).await;

    let error = discarded.unwrap_err().to_string();
    assert!(error.contains("did not answer COMMIT"), "{error}");
    let ends = async {
        while left(&pool).await.len() == 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON, ends).await.unwrap();
    assert_eq!(left(&pool).await.len(), 100);
}

#[tokio::test]
async fn halves_that_were_done_before_one_took_too_long_count() {
    let (log, pool) = shop(8).await;
    run(
        &pool,
        "CREATE SEQUENCE tried; \
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN IF OLD.seq = 1 THEN RAISE ''this one stays''; END IF; \
              IF OLD.seq = 3 AND nextval(''tried'') = 1 THEN PERFORM pg_sleep(60); END IF; RETURN OLD; END'; \
         CREATE TRIGGER refuse BEFORE DELETE ON final_log_dead FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;

    let discarded = log.discard(SHOP, &DeadLetterFilter::all().limit(4)).await;

    assert_eq!(discarded.unwrap(), 4);
    assert_eq!(left(&pool).await, [1, 6, 7, 8]);
}

#[tokio::test]
async fn a_list_goes_on_behind_letters_that_are_taken_while_it_is_made() {
    let (log, pool) = shop(5).await;
    // The first two are there once: when their sizes are asked for.
    run(
        &pool,
        "CREATE SEQUENCE looks; ALTER TABLE final_log_dead RENAME TO letters; \
         CREATE VIEW final_log_dead AS SELECT * FROM letters WHERE seq > 2 OR nextval('looks') <= 2",
    )
    .await;

    let filter = DeadLetterFilter::all();
    let listed = log.letters(SHOP, &filter, 2).await.unwrap();

    let seqs = listed.iter().map(|letter| letter.cursor.unwrap().number);
    assert_eq!(seqs.collect::<Vec<_>>(), [3, 4]);
}
