//! `final dead`, `final log` and `final trail`, on a service that reads the log.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use final_core::{Bus, HandlerError, Message, MessageId, Options, Router};
use final_tests::eventually;
use serde_json::Value;

use crate::{
    database::{Database, Place},
    everywhere,
    tail::SOON,
};

everywhere!(
    letters_are_listed_shown_exported_and_replayed_to_their_service,
    letters_are_discarded_by_their_filter,
    groups_and_lanes_are_shown_and_a_group_is_forgotten,
    a_trail_follows_a_message_to_its_letter,
);

/// A service on the log, whose handlers fail until they are mended.
struct Shop<DB: Database> {
    bus: Bus<DB>,
    mended: Arc<AtomicBool>,
    handled: Arc<AtomicU64>,
}

impl<DB: Database> Shop<DB> {
    async fn open(at: &Place<DB>) -> Self {
        let options = Options::default().shutdown_timeout(SOON);
        let bus = at.log_bus("shop").with_options(options);
        let (mended, handled) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (is_mended, count) = (Arc::clone(&mended), Arc::clone(&handled));
        let handle = move |message: Message| {
            let (is_mended, count) = (Arc::clone(&is_mended), Arc::clone(&count));
            async move {
                if !is_mended.load(Ordering::Relaxed) {
                    let key = message.key().unwrap_or("nobody").to_owned();
                    return Err(HandlerError::permanent(format!(
                        "no address of {key}\u{1b}[2J"
                    )));
                }
                count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        };
        let router = Router::new()
            .route("order.placed", handle.clone())
            .route("order.paid", handle);
        bus.start(router).await.expect("start");
        Self {
            bus,
            mended,
            handled,
        }
    }

    /// Publishes messages, and waits until they are dead.
    async fn fail(&self, at: &Place<DB>, topic: &str, keys: &[&str]) -> Vec<MessageId> {
        let count = "SELECT count(*) FROM final_log_dead";
        let wanted = at.number(count).await + keys.len() as i64;
        let mut ids = Vec::new();
        for key in keys {
            let id = self
                .bus
                .publish(topic, &u64::MAX)
                .key(*key)
                .header("tenant", "acme")
                .await;
            ids.push(id.expect("published"));
        }
        eventually("dead letters", SOON, async || {
            at.number(count).await == wanted
        })
        .await;
        ids
    }
}

fn texts<'a>(lines: &'a [Value], field: &str) -> Vec<&'a str> {
    lines
        .iter()
        .filter_map(|line| line[field].as_str())
        .collect()
}

async fn letters_are_listed_shown_exported_and_replayed_to_their_service<DB: Database>(
    at: Place<DB>,
) {
    let shop = Shop::open(&at).await;
    let ids = shop.fail(&at, "order.placed", &["a", "b", "c"]).await;
    let paid = shop.fail(&at, "order.paid", &["a"]).await;

    let list = at.run(["dead", "list", "--json"]).await.ends_with(0).json();
    assert_eq!(list.len(), 4);
    let letter = list
        .iter()
        .find(|line| line["message_id"] == ids[1].to_string())
        .expect("the letter");
    assert_eq!(
        (&letter["kind"], &letter["source"], &letter["key"]),
        (&"letter".into(), &"log".into(), &"b".into())
    );
    assert_eq!(
        (&letter["topic"], &letter["attempts"]),
        (&"order.placed".into(), &1.into())
    );
    assert_eq!(letter["reason"], "no address of b\u{1b}[2J");
    let by = async |words: &[&str]| {
        let ran = at.run(["dead", "list", "--json"].iter().chain(words)).await;
        ran.ends_with(0).json()
    };
    assert_eq!(by(&["--topic", "order.paid"]).await.len(), 1);
    assert_eq!(by(&["--key", "a"]).await.len(), 2);
    assert_eq!(by(&["--reason", "address of c"]).await.len(), 1);
    assert_eq!(by(&["--id", &paid[0].to_string()]).await.len(), 1);
    for words in [
        ["--older-than", "1h"],
        ["--reason", "Address"],
        ["--reason", "addr_ss"],
        ["--key", "A"],
    ] {
        at.run(["dead", "list"].iter().chain(&words))
            .await
            .ends_with(4);
    }

    // A handler's error commands no terminal, neither in the table nor in JSON.
    let person = at.run(["dead", "list"]).await.ends_with(0);
    assert!(
        person.out.contains("no address of a\\u{1b}[2J") && !person.out.contains('\u{1b}'),
        "{person:#?}"
    );

    let shown = at
        .run(["dead", "show", &ids[0].to_string(), "--json"])
        .await
        .ends_with(0);
    assert!(
        shown.out.contains("\"payload\":18446744073709551615") && !shown.out.contains('\u{1b}'),
        "{shown:#?}"
    );
    assert_eq!(shown.json()[0]["headers"]["tenant"], "acme");
    let cursor = letter["cursor"].as_str().expect("a cursor");
    let shown = at.run(["dead", "show", cursor]).await.ends_with(0);
    assert!(shown.out.contains(&ids[1].to_string()), "{shown:#?}");
    at.run(["dead", "show", &MessageId::new().to_string()])
        .await
        .ends_with(4);
    at.run(["dead", "show", "x"]).await.ends_with(2);

    let export = at
        .run(["dead", "export", "--topic", "order.placed"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(texts(&export, "message_id").len(), 3);
    assert_eq!(export[0]["payload_base64"], "z///////////");
    at.run(["dead", "export", "--topic", "order"])
        .await
        .ends_with(4);

    shop.mended.store(true, Ordering::Relaxed);
    at.run(["dead", "replay", "--yes"]).await.ends_with(2);
    // A variable of a script that is not set must not mean all.
    for word in ["--reason", "--topic"] {
        at.run(["dead", "discard", word, "", "--yes"])
            .await
            .ends_with(2);
    }
    at.run(["dead", "replay", "--key", "a"]).await.ends_with(5);
    at.run(["dead", "replay", "--key", "z", "--yes"])
        .await
        .ends_with(4);
    at.run(["dead", "replay", "--topic", "order.placed", "--yes"])
        .await
        .ends_with(0);
    eventually("three are handled", SOON, async || {
        shop.handled.load(Ordering::Relaxed) == 3
    })
    .await;
    let left = by(&[]).await;
    assert_eq!(texts(&left, "topic"), ["order.paid"]);
    at.run(["dead", "replay", "--all", "--yes"])
        .await
        .ends_with(0);
    eventually("all are handled", SOON, async || {
        shop.handled.load(Ordering::Relaxed) == 4
    })
    .await;
    at.run(["dead", "list"]).await.ends_with(4);
    shop.bus.shutdown().await.expect("shutdown");
}

async fn letters_are_discarded_by_their_filter<DB: Database>(at: Place<DB>) {
    let shop = Shop::open(&at).await;
    shop.fail(&at, "order.placed", &["a", "b", "c"]).await;
    at.run(["dead", "discard", "--key", "b", "--yes"])
        .await
        .ends_with(0);
    let list = at.run(["dead", "list", "--json"]).await.ends_with(0).json();
    assert_eq!(texts(&list, "key"), ["a", "c"]);
    at.run(["dead", "discard", "--all", "--yes", "--limit", "1"])
        .await
        .ends_with(0);
    let list = at.run(["dead", "list", "--json"]).await.ends_with(0).json();
    assert_eq!(texts(&list, "key"), ["c"]);
    shop.bus.shutdown().await.expect("shutdown");
}

async fn groups_and_lanes_are_shown_and_a_group_is_forgotten<DB: Database>(at: Place<DB>) {
    at.run(["log", "groups"]).await.ends_with(4);
    let shop = Shop::open(&at).await;
    shop.fail(&at, "order.placed", &["a"]).await;
    let groups = at
        .run(["log", "groups", "--json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(texts(&groups, "group"), ["shop"]);
    assert_eq!(
        (&groups[0]["members"], &groups[0]["dead"]["number"]),
        (&1.into(), &1.into())
    );
    assert_eq!(groups[0]["topics"].as_array().map(Vec::len), Some(2));
    eventually("every lane has a member", SOON, async || {
        let lanes = at
            .run(["log", "lanes", "shop", "--json"])
            .await
            .ends_with(0)
            .json();
        assert_eq!(lanes.len(), 16);
        lanes
            .iter()
            .all(|lane| lane["lease_left_ms"].as_u64().is_some_and(|left| left > 0))
    })
    .await;
    at.run(["log", "lanes", "mail"]).await.ends_with(2);
    at.run(["log", "forget", "shop"]).await.ends_with(5);
    shop.bus.shutdown().await.expect("shutdown");

    let lanes = at.run(["log", "lanes"]).await.ends_with(0);
    assert!(lanes.out.contains("none"), "{lanes:#?}");
    at.run(["log", "forget", "shop", "--yes"])
        .await
        .ends_with(0);
    at.run(["log", "groups"]).await.ends_with(4);
    assert_eq!(at.number("SELECT count(*) FROM final_log_dead").await, 0);
}

async fn a_trail_follows_a_message_to_its_letter<DB: Database>(at: Place<DB>) {
    let shop = Shop::open(&at).await;
    let id = shop.fail(&at, "order.placed", &["a"]).await[0].to_string();
    let trail = at.run(["trail", &id, "--json"]).await.ends_with(0).json();
    assert_eq!(trail[0]["message_id"], id);
    let stations = trail[0]["stations"].as_array().expect("stations");
    let dead = stations
        .iter()
        .find(|station| station["at"] == "dead")
        .expect("a letter");
    assert_eq!(
        (&dead["topic"], &dead["service"]),
        (&"order.placed".into(), &"shop".into())
    );
    let person = at.run(["trail", &id]).await.ends_with(0);
    assert!(
        person.out.contains("no address of a\\u{1b}[2J"),
        "{person:#?}"
    );
    at.run(["trail", &MessageId::new().to_string()])
        .await
        .ends_with(4);
    shop.bus.shutdown().await.expect("shutdown");
}
