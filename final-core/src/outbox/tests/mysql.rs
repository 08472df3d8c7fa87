//! What only MySQL and MariaDB have: the guard of the transaction, deadlocks, and the table of the Go
//! predecessor.

use sqlx::{Connection, MySql, Row};

use super::calls::Calls;
use super::{
    Outbox,
    house::{House, message, shop},
};
use crate::database::Driver;
use crate::{Error, MessageId, outbox::NewRecord};

/// MySQL cannot tell, so there the record is written, and committed alone.
#[tokio::test]
async fn a_record_outside_a_transaction_is_refused_on_mariadb() {
    let outbox = Outbox::<MySql>::new().await;
    let messages: Vec<_> = (0..20).map(|_| message("order.placed")).collect();
    let record = |parked| {
        let plain = move |message| NewRecord {
            parked,
            ..NewRecord::plain(message)
        };
        messages.iter().map(plain).collect::<Vec<_>>()
    };

    let is_mariadb = outbox.s.server.tells_transactions;
    for mode in ["", "TRADITIONAL", "ANSI", "ORACLE"] {
        // MySQL has no such mode.
        if mode == "ORACLE" && !is_mariadb {
            continue;
        }
        let mut conn = outbox.pool.acquire().await.unwrap();
        MySql::script(&mut conn, &format!("SET sql_mode = '{mode}'")).await;
        for parked in [false, true] {
            for rows in [1, 2, 20] {
                let records = &record(parked)[..rows];
                let result = MySql::insert(&mut conn, &outbox.s, records, true).await;
                if is_mariadb {
                    let error = result.unwrap_err();
                    assert!(MySql::is_not_in_transaction(&error), "{mode}: {error}");
                } else {
                    result.unwrap();
                    let written = outbox.number("SELECT COUNT(*) FROM {t}").await;
                    assert_eq!(written, i64::try_from(rows).unwrap(), "{mode}");
                    outbox.run("DELETE FROM {t}").await;
                }
            }
        }
        conn.close().await.unwrap();
    }

    assert_eq!(outbox.number("SELECT COUNT(*) FROM {t}").await, 0);
    let mut conn = outbox.pool.acquire().await.unwrap();
    MySql::insert(&mut conn, &outbox.s, &record(false), false)
        .await
        .unwrap();
    assert_eq!(outbox.claim(100).await.len(), 20);
}

/// On MySQL, which cannot tell, the message alone is committed, and nothing of what the victim did before.
#[tokio::test]
async fn a_deadlock_victim_that_goes_on_commits_nothing() {
    let outbox = Outbox::<MySql>::new().await;
    outbox
        .run("CREATE TABLE business (id INT PRIMARY KEY, n INT)")
        .await;
    outbox
        .run("INSERT INTO business VALUES (1, 0), (2, 0)")
        .await;
    let mut other = outbox.begin().await;
    let mut victim = outbox.begin().await;
    // More rows changed make it the one that stays.
    MySql::execute(&mut other, "UPDATE business SET n = n + 1 WHERE id = 1").await;
    let rows: Vec<_> = (10..500).map(|id| format!("({id}, 0)")).collect();
    let many = format!("INSERT INTO business VALUES {}", rows.join(", "));
    MySql::execute(&mut other, &many).await;
    MySql::execute(&mut victim, "UPDATE business SET n = n + 1 WHERE id = 2").await;
    let wait = tokio::spawn(async move {
        MySql::execute(&mut other, "UPDATE business SET n = n + 1 WHERE id = 2").await;
        other
    });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let deadlock = sqlx::query("UPDATE business SET n = n + 1 WHERE id = 1")
        .execute(&mut *victim)
        .await
        .unwrap_err();
    assert!(MySql::is_surely_rolled_back(&deadlock));

    let message = message("order.placed");
    let records = [NewRecord::plain(&message)];
    let result = MySql::insert(&mut victim, &outbox.s, &records, true).await;
    let _ = victim.commit().await;
    drop(wait.await.unwrap());

    if outbox.s.server.tells_transactions {
        assert!(MySql::is_not_in_transaction(&result.unwrap_err()));
        assert!(outbox.claim(10).await.is_empty());
    } else {
        result.unwrap();
        assert_eq!(outbox.claim(10).await.len(), 1);
        let changed = outbox.number("SELECT COUNT(*) FROM business WHERE n > 0");
        assert_eq!(changed.await, 0);
    }
}

#[tokio::test]
async fn the_relays_statements_are_few() {
    let outbox = Outbox::<MySql>::new().await;
    let all = outbox.fill("order.placed", 300).await;

    for size in 1..300 {
        MySql::renew(
            &outbox.relay,
            &outbox.s,
            &all[..size],
            outbox.me,
            super::house::LEASE,
        )
        .await
        .unwrap();
    }

    // Five lengths, and what `locate` asked.
    let conn = outbox.relay.acquire().await.unwrap();
    assert!(conn.cached_statements_size() <= 8);
}

/// The table as the Go predecessor makes it, with some rows.
async fn predecessor(pool: &sqlx::MySqlPool) {
    let table = shop().table();
    let create = format!(
        "CREATE TABLE {table} (id BIGINT AUTO_INCREMENT PRIMARY KEY, message LONGBLOB, status BIGINT, \
         create_at DATETIME(3), last_send_at DATETIME(3))"
    );
    let mut conn = pool.acquire().await.unwrap();
    MySql::execute(&mut conn, &create).await;
    let written = |id: &str, topic: &str| {
        let text =
            |text: &str| [&[0xa0 | u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [
            vec![0x84],
            text("UUID"),
            text(id),
            text("Topic"),
            text(topic),
            text("Payload"),
            vec![0xc4, 2, 1, 2],
            text("Policy"),
            vec![0xc0],
        ]
        .concat()
    };
    let rows = [
        (0, written("first", "order.placed")),
        (0, b"\xc1garbage".to_vec()),
        (1, written("done", "order.placed")),
        (0, written("second", "order.cancelled")),
        (0, written("first", "order.placed")),
    ];
    for (status, message) in rows {
        let insert = format!(
            "INSERT INTO {table} (message, status, create_at, last_send_at) VALUES (?, ?, NOW(3), NOW(3))"
        );
        sqlx::query(sqlx::AssertSqlSafe(insert))
            .bind(message)
            .bind(status)
            .execute(&mut *conn)
            .await
            .unwrap();
    }
}

async fn imported(pool: &sqlx::MySqlPool) -> Vec<(MessageId, String)> {
    let relay = MySql::relay_pool(pool);
    let s = MySql::locate(&relay, &shop()).await.unwrap();
    let select = format!(
        "SELECT message_id, topic FROM {} ORDER BY topic",
        MySql::table(&s)
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(select));
    let rows = rows.fetch_all(pool).await.unwrap();
    rows.iter()
        .map(|row| (MessageId(row.get(0)), row.get(1)))
        .collect()
}

fn both() -> Vec<(MessageId, String)> {
    vec![
        (MessageId::from_text("second"), "order.cancelled".to_owned()),
        (MessageId::from_text("first"), "order.placed".to_owned()),
    ]
}

#[tokio::test]
async fn the_predecessors_table_is_renamed_and_its_pending_rows_imported() {
    let pool = MySql::fresh().await;
    predecessor(&pool).await;
    let relay = MySql::relay_pool(&pool);

    MySql::migrate(&relay, &shop()).await.unwrap();
    MySql::migrate(&relay, &shop()).await.unwrap();

    assert_eq!(imported(&pool).await, both());
    let old = format!("SELECT COUNT(*) FROM {}_go", shop().table());
    let kept = MySql::number(&mut *pool.acquire().await.unwrap(), &old).await;
    assert_eq!(kept, 5);
}

#[tokio::test]
async fn a_row_of_the_predecessor_that_the_outbox_refuses_keeps_no_other_back() {
    let pool = MySql::fresh().await;
    predecessor(&pool).await;
    let table = shop().table();
    let mut conn = pool.acquire().await.unwrap();
    MySql::execute(&mut conn, &format!("RENAME TABLE {table} TO {table}_go")).await;
    for statement in MySql::migration_sql(&shop()).split(";\n").take(2) {
        MySql::script(&mut conn, statement).await;
    }
    let guard =
        format!("ALTER TABLE {table} ADD CONSTRAINT guard CHECK (topic <> 'order.cancelled')");
    MySql::execute(&mut conn, &guard).await;

    MySql::migrate(&MySql::relay_pool(&pool), &shop())
        .await
        .unwrap();

    assert_eq!(imported(&pool).await, both()[1..]);
}

#[tokio::test]
async fn an_import_cut_off_by_a_crash_is_completed_by_the_next_start() {
    // After the rename; after the new table; with the new table, before its version is written.
    for steps in 0..3 {
        let pool = MySql::fresh().await;
        predecessor(&pool).await;
        let table = shop().table();
        let mut conn = pool.acquire().await.unwrap();
        MySql::execute(&mut conn, &format!("RENAME TABLE {table} TO {table}_go")).await;
        for statement in MySql::migration_sql(&shop()).split(";\n").take(steps) {
            MySql::script(&mut conn, statement).await;
        }
        drop(conn);

        MySql::migrate(&MySql::relay_pool(&pool), &shop())
            .await
            .unwrap();

        assert_eq!(imported(&pool).await, both(), "after {steps} steps");
    }
}

#[tokio::test]
async fn what_was_imported_is_not_imported_again() {
    let pool = MySql::fresh().await;
    predecessor(&pool).await;
    let relay = MySql::relay_pool(&pool);
    MySql::migrate(&relay, &shop()).await.unwrap();
    let s = MySql::locate(&relay, &shop()).await.unwrap();
    MySql::purge_all(&relay, &s).await.unwrap();

    // As if the process had died before the version was written.
    let unwritten = format!(
        "DELETE FROM final_migrations WHERE table_name = '{}'",
        shop().table()
    );
    MySql::execute(&mut *pool.acquire().await.unwrap(), &unwritten).await;
    MySql::migrate(&relay, &shop()).await.unwrap();

    assert_eq!(imported(&pool).await, []);
}

#[tokio::test]
async fn the_predecessors_table_stays_where_its_new_name_is_taken() {
    let pool = MySql::fresh().await;
    predecessor(&pool).await;
    let table = shop().table();
    let taken = format!("CREATE TABLE {table}_go (id INT)");
    MySql::execute(&mut *pool.acquire().await.unwrap(), &taken).await;

    let error = MySql::migrate(&MySql::relay_pool(&pool), &shop()).await;

    let error = error.unwrap_err();
    assert!(matches!(&error, Error::ForeignTable { reason, .. } if reason.contains("_go")));
}

#[tokio::test]
async fn without_a_database_the_outbox_is_not_located() {
    let pool = MySql::fresh().await;
    let mut options = pool.connect_options().as_ref().clone();
    options = options.database("");
    let relay = MySql::relay_pool(&sqlx::MySqlPool::connect_lazy_with(options));

    let error = MySql::locate(&relay, &shop()).await.unwrap_err();

    assert!(error.to_string().contains("no database is selected"));
}
