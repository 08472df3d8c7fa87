//! A member takes over lanes whose progress has changed since it looked at them.

use std::time::Duration;

use final_core::{Bus, SqlBroker};
use final_tests::Proxy;
use sqlx::MySqlPool;

use super::{Log, noting, options, publish};
use crate::house::Notes;

/// Far longer than the test.
const NEVER: Duration = Duration::from_secs(600);

/// On MariaDB only: members on PostgreSQL notify each other, so the first member would give lanes away at
/// once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_has_read_since_the_look_has_no_used_number() {
    let url = final_tests::mysql_database().await.expect("MariaDB");
    let pool = MySqlPool::connect(&url).await.expect("connected");
    let log = Log { pool, _file: None };
    let proxy = Proxy::to(&url).await.expect("a proxy");
    let through = MySqlPool::connect(&proxy.url(&url)).await;
    let through = through.expect("connected");
    let kept = |pool| SqlBroker::new(pool).lease(NEVER).keep(NEVER);
    let blind = kept(log.pool.clone()).poll_interval(NEVER);
    let (first, notes) = log.noting_on("shop", blind, &["placed"]).await;
    log.shared_by("shop", 1).await;
    let often = kept(through.clone()).poll_interval(Duration::from_millis(200));
    let second = Bus::new("shop", through, often).with_options(options());
    let late = Notes::default();
    let router = noting(&late, &["placed"]);
    second.start(router).await.expect("start");
    log.comes_to("SELECT count(*) FROM final_log_members", 2)
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;

    // The next look of the second member waits at the proxy. It sees a free lane, and gets its answer much
    // later.
    proxy.stall();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let owner = "UPDATE final_log_lanes SET member = NULL WHERE lane = 0";
    assert_eq!(log.run(owner).await, 1);
    proxy.stall_answers();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let back = "UPDATE final_log_lanes l, (SELECT MAX(member) AS member FROM final_log_lanes) m \
        SET l.member = m.member WHERE l.lane = 0";
    assert_eq!(log.run(back).await, 1);
    publish(&first, "placed", 0..100).await;
    notes.reach(100).await;
    log.is_done("shop").await;
    first.shutdown().await.expect("shutdown");
    proxy.resume();

    log.shared_by("shop", 1).await;
    publish(&second, "placed", 100..200).await;
    late.reach(100).await;
    log.is_done("shop").await;
    assert_eq!(late.len(), 100, "the others were handled");
    let rows = log.number("SELECT max(seq) FROM final_log").await;
    assert_eq!(rows, 200, "none has another number");
    second.shutdown().await.expect("shutdown");
}
