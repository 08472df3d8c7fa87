//! What only PostgreSQL has: the plans of a claim, and schemas. And what only it can be made to do: a COMMIT that takes
//! long, a table whose rows are seen once.

use std::time::Duration;

use sqlx::{PgPool, Postgres, Row};

use super::calls::Calls;
use super::{
    Outbox,
    house::{House, LEASE, shop},
};
use crate::{
    Error,
    broker::DeadLetterFilter,
    error::with_causes,
    outbox::{Position, letters::LetterFate},
};

#[tokio::test]
async fn a_claim_walks_its_index() {
    let outbox = Outbox::<Postgres>::new().await;
    outbox.fill("order.placed", 5_000).await;
    outbox.claim(4_000).await;
    outbox.run("ANALYZE {t}").await;

    let plan = plan_of_a_claim(&outbox).await;

    let due = shop().short("due");
    assert!(plan.contains(&format!("Index Scan using {due}")), "{plan}");
    // PostgreSQL 17 and later name the bound otherwise.
    assert!(plan.contains("Index Cond: ((available_at <= "), "{plan}");
    assert!(!plan.contains("Seq Scan"), "{plan}");
}

/// As after a backlog that has built up since the last autoanalyze.
#[tokio::test]
async fn a_claim_sorts_nothing_on_a_table_without_statistics() {
    let outbox = Outbox::<Postgres>::new().await;
    outbox.fill("order.placed", 5_000).await;

    let plan = plan_of_a_claim(&outbox).await;

    assert!(plan.contains("Index Scan using final_"), "{plan}");
    assert!(!plan.contains("Sort") && !plan.contains("Bitmap"), "{plan}");
}

async fn plan_of_a_claim(outbox: &Outbox<Postgres>) -> String {
    let mut conn = outbox.relay.acquire().await.unwrap();
    let (after, end) = (Position::START, Position::END);
    let arguments = vec![
        ("after_at", after.available_at.into()),
        ("after_id", after.id.into()),
        ("before_at", end.available_at.into()),
        ("before_id", end.id.into()),
        ("most", 100_i64.into()),
    ];
    let (look, _) = outbox.s.look.bind(arguments).unwrap();
    let look = look.as_str();

    let plan = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN {look}")))
        .bind(after.available_at)
        .bind(after.id)
        .bind(end.available_at)
        .bind(end.id)
        .bind(100_i64)
        .fetch_all(&mut *conn)
        .await
        .unwrap();

    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    plan.join("\n")
}

#[tokio::test]
async fn the_predecessors_table_is_left_alone_with_advice() {
    let pool = Postgres::fresh().await;
    let relay = Postgres::relay_pool(&pool);
    let create = format!(
        "CREATE TABLE {} (id bigserial, message bytea, status bigint)",
        shop().table()
    );
    Postgres::execute(&mut *pool.acquire().await.unwrap(), &create).await;

    let error = Postgres::migrate(&relay, &shop()).await.unwrap_err();

    assert!(matches!(&error, Error::ForeignTable { reason, .. } if reason.contains("RENAME TO")));
}

#[tokio::test]
async fn without_a_schema_the_outbox_is_not_located() {
    let pool = Postgres::fresh().await;
    let options = pool
        .connect_options()
        .as_ref()
        .clone()
        .options([("search_path", "nowhere")]);
    let relay = Postgres::relay_pool(&sqlx::PgPool::connect_lazy_with(options));

    let error = Postgres::locate(&relay, &shop()).await.unwrap_err();

    assert!(error.to_string().contains("search_path"));
}

#[tokio::test]
async fn a_batch_of_letters_whose_commit_is_not_answered_is_not_followed_by_another() {
    let (outbox, pool) = with_letters(200).await;
    let mut conn = pool.acquire().await.unwrap();
    // The server ends a statement of a batch after 12 s, so the COMMIT has to get around that.
    let slowly = "CREATE SEQUENCE committed; \
         CREATE FUNCTION unlimited() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM set_config(''statement_timeout'', ''0'', true); RETURN OLD; END'; \
         CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN IF nextval(''committed'') = 1 THEN PERFORM pg_sleep(20); END IF; RETURN OLD; END'; \
         CREATE TRIGGER unlimited BEFORE DELETE ON final_my_shop_dead FOR EACH ROW EXECUTE FUNCTION unlimited(); \
         CREATE CONSTRAINT TRIGGER slowly AFTER DELETE ON final_my_shop_dead DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION slowly()";
    Postgres::script(&mut conn, slowly).await;

    let filter = DeadLetterFilter::all().limit(100);
    let error = outbox.end_letters(&filter, LetterFate::Discard).await;

    let error = with_causes(&error.unwrap_err(), 1_000);
    assert!(error.contains("did not answer COMMIT"), "{error}");
    let left = "SELECT COUNT(*) FROM final_my_shop_dead";
    let ends = async {
        while Postgres::number(&mut conn, left).await == 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Postgres::number(&mut conn, left).await
    };
    let ends = tokio::time::timeout(Duration::from_secs(120), ends);
    assert_eq!(ends.await.unwrap(), 100);
}

#[tokio::test]
async fn a_list_goes_on_behind_letters_that_are_taken_while_it_is_made() {
    let (outbox, pool) = with_letters(5).await;
    let mut conn = pool.acquire().await.unwrap();
    // The first two are there once: when their sizes are asked for.
    let once = "CREATE SEQUENCE looks; ALTER TABLE final_my_shop_dead RENAME TO letters; \
         CREATE VIEW final_my_shop_dead AS SELECT * FROM letters WHERE seq > 2 OR nextval('looks') <= 2";
    Postgres::script(&mut conn, once).await;

    let filter = DeadLetterFilter::all();
    let listed = outbox.list_letters(&filter, 2).await.unwrap();

    let letters = listed.into_iter().map(|row| row.letter("my-shop"));
    let seqs = letters.map(|letter| letter.cursor.unwrap().number);
    assert_eq!(seqs.collect::<Vec<_>>(), [3, 4]);
}

/// The service's outbox as it is used, with so many collected letters.
async fn with_letters(number: u32) -> (crate::outbox::Outbox<Postgres>, PgPool) {
    let pool = Postgres::fresh().await;
    let outbox = crate::outbox::Outbox::new("my-shop".to_owned(), pool.clone(), LEASE);
    outbox.migrate().await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let fill = format!(
        "INSERT INTO final_my_shop_dead (letter_key, message_id, topic, payload, content_type, durable, reason, \
             attempts, died_at, queue, envelope, record_id) \
         SELECT gen_random_uuid(), gen_random_uuid(), 'placed', '', '', 1, 'rejected', 3, n, 'my-shop', 'AAEC', \
             gen_random_uuid() \
         FROM generate_series(1, {number}) AS s(n)"
    );
    Postgres::execute(&mut conn, &fill).await;
    (outbox, pool)
}
