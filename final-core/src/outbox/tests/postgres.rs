use sqlx::{Postgres, Row};

use super::{
    Outbox,
    house::{House, shop},
};
use crate::{
    Error,
    outbox::{Dialect, Position},
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
    assert!(plan.contains("Index Cond: ((available_at <= $"), "{plan}");
    assert!(!plan.contains("Seq Scan"), "{plan}");
}

/// As after a backlog that has built up since the last autoanalyze.
#[tokio::test]
async fn a_claim_sorts_nothing_on_a_table_without_statistics() {
    let outbox = Outbox::<Postgres>::new().await;
    outbox.fill("order.placed", 5_000).await;

    let plan = plan_of_a_claim(&outbox).await;

    // What was claimed is sorted at the end; what is due comes in order.
    let due = plan.split("LockRows").nth(1).unwrap_or_default();
    let due = due.split("Update on").next().unwrap_or_default();
    assert!(due.contains("Index Scan using final_"), "{plan}");
    assert!(!due.contains("Sort") && !due.contains("Bitmap"), "{plan}");
}

async fn plan_of_a_claim(outbox: &Outbox<Postgres>) -> String {
    let mut conn = outbox.relay.acquire().await.unwrap();
    let claim = outbox.s.claim.as_str();
    let after = Position::START;

    let plan = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN {claim}")))
        .bind(after.available_at)
        .bind(after.id)
        .bind(100_i64)
        .bind(outbox.me)
        .bind(1_i64)
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
    Postgres::run(&mut *pool.acquire().await.unwrap(), &create).await;

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
