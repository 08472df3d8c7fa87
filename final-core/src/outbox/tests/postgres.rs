//! What only PostgreSQL has: the plans of a claim, and schemas.

use sqlx::{Postgres, Row};

use super::calls::Calls;
use super::{
    Outbox,
    house::{House, shop},
};
use crate::{Error, outbox::Position};

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
