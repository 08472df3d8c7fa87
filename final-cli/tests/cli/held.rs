//! `final held`, on a service that holds what fails.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use final_core::{Bus, HandlerError, Hold, Message, OnFailure, Options, Router};
use final_tests::eventually;
use serde_json::Value;

use crate::{
    database::{Database, Place},
    everywhere,
    tail::SOON,
};

everywhere!(
    held_messages_are_listed_skipped_with_a_reason_and_tried_at_once,
    what_is_asked_for_while_no_instance_runs_is_done_by_the_next_one,
);

/// A service on the log that holds payloads which are broken, and notes all others.
#[derive(Clone, Default)]
struct Mirror {
    broken: Arc<Mutex<BTreeSet<String>>>,
    handled: Arc<Mutex<Vec<String>>>,
}

impl Mirror {
    fn breaking(payloads: &[&str]) -> Self {
        let mirror = Self::default();
        let broken = payloads.iter().map(|payload| (*payload).to_owned());
        mirror.broken.lock().expect("lock").extend(broken);
        mirror
    }

    async fn start<DB: Database>(&self, at: &Place<DB>) -> Bus<DB> {
        let options = Options::default().retry_count(0).shutdown_timeout(SOON);
        let bus = at.log_bus("mirror").with_options(options);
        let mirror = self.clone();
        let handle = move |message: Message| {
            let mirror = mirror.clone();
            async move {
                let payload = String::from_utf8_lossy(message.payload()).into_owned();
                if mirror.broken.lock().expect("lock").contains(&payload) {
                    return Err(HandlerError::retry(format!(
                        "no table for {payload}\u{1b}[2J"
                    )));
                }
                mirror.handled.lock().expect("lock").push(payload);
                Ok(())
            }
        };
        let router = Router::new()
            .route("stock.changed", handle)
            .on_failure(OnFailure::Hold(Hold::Key));
        bus.start(router).await.expect("start");
        bus
    }

    fn handled(&self) -> Vec<String> {
        self.handled.lock().expect("lock").clone()
    }

    async fn comes_to(&self, payloads: &[&str]) {
        eventually("handled", SOON, async || match self.handled() {
            handled if handled == payloads => Ok(()),
            handled => Err(handled),
        })
        .await;
    }
}

async fn publish<DB: Database>(bus: &Bus<DB>, key: &str, payloads: &[&str]) {
    for payload in payloads {
        let publish = bus.publish_bytes("stock.changed", payload.as_bytes().to_vec());
        publish.key(key).await.expect("publish");
    }
}

async fn held<DB: Database>(at: &Place<DB>, count: usize) -> Vec<Value> {
    let sql = "SELECT count(*) FROM final_log_held";
    eventually("held", SOON, async || match at.number(sql).await {
        seen if seen == count as i64 => Ok(()),
        seen => Err(seen),
    })
    .await;
    let code = if count == 0 { 4 } else { 0 };
    at.run(["held", "list", "--json"])
        .await
        .ends_with(code)
        .json()
}

async fn held_messages_are_listed_skipped_with_a_reason_and_tried_at_once<DB: Database>(
    at: Place<DB>,
) {
    let mirror = Mirror::breaking(&["a1", "b1"]);
    let bus = mirror.start(&at).await;
    publish(&bus, "a", &["a1", "a2"]).await;
    let list = held(&at, 1).await;
    assert_eq!(list[0]["kind"], "held");
    assert_eq!(list[0]["topic"], "stock.changed");
    assert_eq!(list[0]["key"], "a");
    assert_eq!(list[0]["hold"], "key");
    assert!(list[0]["retry_in_ms"].is_u64() && list[0]["wish"].is_null());
    let id = list[0]["message_id"].as_str().expect("an id");
    let table = at.run(["held", "list"]).await.ends_with(0);
    assert!(table.out.contains("no table for a1") && !table.out.contains('\u{1b}'));
    let status = at.run(["status"]).await.ends_with(0).all();
    assert!(
        status.contains("1 messages are held") && status.contains("no table for a1"),
        "{status}"
    );
    let groups = at
        .run(["log", "groups", "--json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(groups[0]["held"]["number"], 1);

    let skip = ["held", "skip", id, "--reason", "customer is gone"];
    at.run(skip).await.ends_with(5);
    at.run(["held", "skip", id, "--yes"]).await.ends_with(2);
    at.run(["held", "skip", "--reason", "all", "--yes"])
        .await
        .ends_with(2);
    at.run(skip.into_iter().chain(["--yes"])).await.ends_with(0);
    mirror.comes_to(&["a2"]).await;
    held(&at, 0).await;
    let letters = at.run(["dead", "list", "--json"]).await.ends_with(0).json();
    let reason = letters[0]["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("customer is gone") && reason.contains("no table for a1"),
        "{reason}"
    );
    assert_eq!(letters[0]["message_id"], id);

    publish(&bus, "b", &["b1", "b2"]).await;
    held(&at, 1).await;
    mirror.broken.lock().expect("lock").clear();
    at.run(["held", "retry", "--all"]).await.ends_with(0);
    mirror.comes_to(&["a2", "b1", "b2"]).await;
    held(&at, 0).await;
    at.run(["held", "retry", "--all"]).await.ends_with(4);
    bus.shutdown().await.expect("shutdown");
}

async fn what_is_asked_for_while_no_instance_runs_is_done_by_the_next_one<DB: Database>(
    at: Place<DB>,
) {
    let mirror = Mirror::breaking(&["a1"]);
    let bus = mirror.start(&at).await;
    publish(&bus, "a", &["a1", "a2"]).await;
    held(&at, 1).await;
    bus.shutdown().await.expect("shutdown");

    let skip = at
        .run(["held", "skip", "--all", "--reason", "gone", "--yes"])
        .await
        .ends_with(0);
    assert!(skip.err.contains("no running instance"), "{}", skip.err);
    let list = held(&at, 1).await;
    assert_eq!(list[0]["wish"], "skip");
    let bus = mirror.start(&at).await;
    mirror.comes_to(&["a2"]).await;
    held(&at, 0).await;
    assert_eq!(at.number("SELECT count(*) FROM final_log_dead").await, 1);
    bus.shutdown().await.expect("shutdown");
}
