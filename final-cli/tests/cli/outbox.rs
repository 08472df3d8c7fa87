//! `final outbox` and `final status`, on records that cannot be sent.

use std::process::Stdio;

use final_core::MessageId;
use final_tests::eventually;
use serde_json::Value;

use crate::{
    database::{Database, Place},
    everywhere,
    program::Ran,
    tail::SOON,
};

everywhere!(
    status_tells_what_waits_and_what_does_not_move,
    records_are_listed_by_the_words_of_the_filter,
    a_record_is_shown_with_its_payload_and_every_digit,
    a_change_needs_a_filter_and_a_yes,
    a_plan_is_carried_out_later_and_written_down,
    what_fails_after_the_plan_is_not_touched,
    an_interrupt_ends_an_operation_between_two_batches,
);

/// Records of the outbox of `shop`: so many that failed for a reason, and one that waits.
async fn stuck<DB: Database>(at: &Place<DB>, failed: u32) -> Vec<MessageId> {
    let bus = at.outbox_bus("shop");
    bus.migrate().await.expect("tables");
    let mut ids = Vec::new();
    for number in 0..failed {
        let message = bus
            .publish("order.large", &number)
            .key(format!("k{}", number % 2));
        ids.push(message.await.expect("published"));
    }
    fail(at, "order.large").await;
    bus.publish("order.placed", &u64::MAX)
        .header("tenant", "acme")
        .await
        .expect("published");
    ids
}

async fn fail<DB: Database>(at: &Place<DB>, topic: &str) {
    let fail = "UPDATE final_shop_outbox SET status = 3, attempts = 7, last_error = 'too large for the broker'";
    at.sql(&format!("{fail} WHERE topic = '{topic}'")).await;
}

async fn failed<DB: Database>(at: &Place<DB>) -> i64 {
    at.number("SELECT count(*) FROM final_shop_outbox WHERE status = 3")
        .await
}

fn ids(ran: &Ran) -> Vec<String> {
    let id = |line: &Value| line["message_id"].as_str().expect("an id").to_owned();
    ran.json().iter().map(id).collect()
}

async fn status_tells_what_waits_and_what_does_not_move<DB: Database>(at: Place<DB>) {
    at.run(["status"]).await.ends_with(4);
    at.outbox_bus("shop").migrate().await.expect("tables");
    let calm = at.run(["status", "--check"]).await.ends_with(0);
    assert!(calm.out.contains("everything moves"), "{calm:#?}");
    stuck(&at, 3).await;
    at.outbox_bus("mail").migrate().await.expect("tables");

    let all = at.run(["status", "--json"]).await.ends_with(0).json();
    let names: Vec<&Value> = all.iter().map(|line| &line["service"]).collect();
    assert_eq!(names, ["mail", "shop"]);
    let shop = &all[1];
    assert_eq!(shop["kind"], "service");
    assert_eq!(
        shop["outbox"]["failed"],
        serde_json::json!({"number": 3, "more": false})
    );
    assert_eq!(shop["outbox"]["pending"]["number"], 1);
    let stuck = shop["not_moving"].as_array().expect("a list");
    let failed = stuck
        .iter()
        .find(|stuck| stuck["name"] == "failed")
        .expect("failed records");
    assert!(
        failed["text"]
            .as_str()
            .expect("a text")
            .contains("too large for the broker")
    );

    at.run(["status", "mail", "--check"]).await.ends_with(0);
    let shown = at.run(["status", "shop", "--check"]).await.ends_with(3);
    assert!(
        shown.out.contains("not moving:") && shown.out.contains("too large"),
        "{shown:#?}"
    );
    let unknown = at.run(["status", "shopp"]).await.ends_with(2);
    assert!(
        unknown.err.contains("shopp") && unknown.err.contains("mail, shop"),
        "{unknown:#?}"
    );
}

async fn records_are_listed_by_the_words_of_the_filter<DB: Database>(at: Place<DB>) {
    let stuck = stuck(&at, 5).await;
    let stuck: Vec<String> = stuck.iter().map(MessageId::to_string).collect();
    let list = async |words: &str| {
        let args = format!("outbox list --json {words}");
        at.run(args.split(' ').filter(|word| !word.is_empty()))
            .await
    };
    let all = list("").await.ends_with(0);
    assert_eq!(ids(&all).len(), 6);
    assert_eq!(
        ids(&all)[..5],
        stuck,
        "what is stuck comes first, the oldest before"
    );
    let first = &all.json()[0];
    assert_eq!(
        (&first["status"], &first["attempts"]),
        (&"failed".into(), &7.into())
    );
    assert_eq!(
        (&first["service"], &first["key"]),
        (&"shop".into(), &"k0".into())
    );
    assert_eq!(first["reason"], "too large for the broker");

    assert_eq!(ids(&list("--status failed,unroutable").await).len(), 5);
    assert_eq!(ids(&list("--status pending").await).len(), 1);
    assert_eq!(ids(&list("--topic order.placed").await).len(), 1);
    assert_eq!(ids(&list("--key k1").await), [stuck[1].as_str(), &stuck[3]]);
    assert_eq!(ids(&list("--reason large").await), stuck);
    let two = format!("--id {},{}", stuck[4], stuck[2]);
    assert_eq!(ids(&list(&two).await), [stuck[2].as_str(), &stuck[4]]);
    for nothing in [
        "--topic order",
        "--key K1",
        "--reason Large",
        "--older-than 1h",
        "--status acked",
    ] {
        let ran = list(nothing).await.ends_with(4);
        assert_eq!(ran.out, "");
    }
    list("--status lost").await.ends_with(2);
    list("--older-than 5").await.ends_with(2);
    list("--limit 0").await.ends_with(2);

    // Page by page, each where the one before says that it goes on.
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = list(&format!("--limit 4 {after}")).await.ends_with(0);
        seen.extend(ids(&page));
        let Some((_, cursor)) = page.err.split_once("--after '") else {
            break;
        };
        after = format!("--after {}", cursor.trim_end().trim_end_matches('\''));
    }
    assert_eq!(seen, ids(&all));
}

async fn a_record_is_shown_with_its_payload_and_every_digit<DB: Database>(at: Place<DB>) {
    stuck(&at, 0).await;
    let id = ids(&at.run(["outbox", "list", "--json"]).await)[0].clone();
    let shown = at.run(["outbox", "show", &id, "--json"]).await.ends_with(0);
    assert!(
        shown.out.contains("\"payload\":18446744073709551615"),
        "{shown:#?}"
    );
    let record = &shown.json()[0];
    assert_eq!(record["payload_as"], "msgpack");
    assert_eq!(record["content_type"], "application/msgpack");
    assert_eq!(record["headers"]["tenant"], "acme");
    assert_eq!(record["durable"], true);
    let person = at.run(["outbox", "show", &id]).await.ends_with(0);
    for part in [
        &id,
        "order.placed",
        "pending",
        "tenant: acme",
        "18446744073709551615",
    ] {
        assert!(person.out.contains(part), "{part} is not in {person:#?}");
    }
    let other = MessageId::new().to_string();
    at.run(["outbox", "show", &other]).await.ends_with(4);
    at.run(["outbox", "show", "no-id"]).await.ends_with(2);
}

async fn a_change_needs_a_filter_and_a_yes<DB: Database>(at: Place<DB>) {
    stuck(&at, 3).await;
    for change in ["retry", "discard"] {
        let ran = at.run(["outbox", change, "--yes"]).await.ends_with(2);
        assert!(ran.err.contains("--all"), "{ran:#?}");
        at.run(["outbox", change, "--yes", "--limit", "1"])
            .await
            .ends_with(2);
        at.run(["outbox", change, "--all", "--topic", "order.large", "--yes"])
            .await
            .ends_with(2);
        at.run(["outbox", change, "--topic", "order.placed", "--yes"])
            .await
            .ends_with(4);
        at.run(["outbox", change, "--status", "pending", "--all"])
            .await
            .ends_with(2);
        // The answer of a pipe is no answer.
        let ran = at
            .run_with_input(["outbox", change, "--all"], "y\n")
            .await
            .ends_with(5);
        assert!(
            ran.err.contains("--yes") && ran.out.contains("order.large"),
            "{ran:#?}"
        );
        assert_eq!(failed(&at).await, 3);
    }
    let ran = at
        .run([
            "outbox", "retry", "--all", "--yes", "--json", "--limit", "1",
        ])
        .await
        .ends_with(0);
    let lines = ran.json();
    assert_eq!(
        (&lines[0]["kind"], &lines[0]["count"]["number"]),
        (&"plan".into(), &1.into())
    );
    assert_eq!(lines[0]["sample"][0]["topic"], "order.large");
    assert_eq!(
        (&lines[1]["kind"], &lines[1]["done"]),
        (&"operation".into(), &1.into())
    );
    assert_eq!(
        (&lines[1]["state"], &lines[1]["action"]),
        (&"done".into(), &"retry".into())
    );
    assert_eq!(failed(&at).await, 2);
    let again = "SELECT count(*) FROM final_shop_outbox WHERE topic = 'order.large' AND status = 0 AND attempts = 0";
    assert_eq!(at.number(again).await, 1);
    at.run(["outbox", "discard", "--reason", "too large", "--yes"])
        .await
        .ends_with(0);
    assert_eq!(failed(&at).await, 0);
    assert_eq!(at.number("SELECT count(*) FROM final_shop_outbox").await, 2);
    at.run(["outbox", "retry", "--all", "--yes"])
        .await
        .ends_with(4);
}

async fn a_plan_is_carried_out_later_and_written_down<DB: Database>(at: Place<DB>) {
    at.run(["operations", "list"]).await.ends_with(4);
    stuck(&at, 3).await;
    let plan = at
        .run(["outbox", "discard", "--all", "--dry-run", "--json"])
        .await
        .ends_with(0);
    let number = plan.json()[0]["operation"].to_string();
    assert!(
        plan.err
            .contains(&format!("final operations continue {number}")),
        "{plan:#?}"
    );
    assert_eq!(failed(&at).await, 3);

    let list = at
        .run(["operations", "list", "--unfinished", "--json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(
        (list.len(), &list[0]["state"], &list[0]["done"]),
        (1, &"planned".into(), &0.into())
    );
    let who = list[0]["who"].as_str().expect("a name");
    assert!(who.starts_with("ann@") && who.len() > 4, "{who}");
    at.run(["operations", "continue", &number])
        .await
        .ends_with(5);
    assert_eq!(failed(&at).await, 3);
    let ran = at
        .run(["operations", "continue", &number, "--yes", "--json"])
        .await
        .ends_with(0);
    assert_eq!(ran.json()[1]["done"], 3);
    assert_eq!(failed(&at).await, 0);

    at.run(["operations", "list", "--unfinished"])
        .await
        .ends_with(4);
    let list = at.run(["operations", "list"]).await.ends_with(0);
    for part in ["discard", "records", "done", who, "shop"] {
        assert!(list.out.contains(part), "{part} is not in {list:#?}");
    }
    at.run(["operations", "continue", &number, "--yes"])
        .await
        .ends_with(1);
    at.run(["operations", "stop", &number]).await.ends_with(1);
    at.run(["operations", "stop", "99"]).await.ends_with(2);
}

async fn what_fails_after_the_plan_is_not_touched<DB: Database>(at: Place<DB>) {
    stuck(&at, 2).await;
    let plan = at
        .run(["outbox", "discard", "--all", "--dry-run", "--json"])
        .await
        .ends_with(0);
    let number = plan.json()[0]["operation"].to_string();
    at.outbox_bus("shop")
        .publish("order.huge", &1)
        .await
        .expect("published");
    fail(&at, "order.huge").await;
    at.run(["operations", "continue", &number, "--yes"])
        .await
        .ends_with(0);
    let left = ids(&at
        .run(["outbox", "list", "--status", "failed", "--json"])
        .await);
    assert_eq!(left.len(), 1);
    assert_eq!(
        at.number("SELECT count(*) FROM final_shop_outbox WHERE topic = 'order.huge'")
            .await,
        1
    );
}

async fn an_interrupt_ends_an_operation_between_two_batches<DB: Database>(at: Place<DB>) {
    let bus = at.outbox_bus("shop");
    bus.migrate().await.expect("tables");
    let mut tx = bus.with_tx(bus.begin().await.expect("a transaction"));
    for number in 0..400 {
        tx.publish("order.large", &number).await.expect("staged");
    }
    tx.commit().await.expect("committed");
    fail(&at, "order.large").await;

    let mut program = at.program();
    program.args(["outbox", "discard", "--all", "--yes", "--per-second", "100"]);
    program
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = program.spawn().expect("it starts");
    eventually("a batch is done", SOON, async || failed(&at).await < 400).await;
    let pid = child
        .id()
        .and_then(|id| rustix::process::Pid::from_raw(id.try_into().ok()?));
    rustix::process::kill_process(pid.expect("a process"), rustix::process::Signal::INT)
        .expect("interrupted");
    let ran = tokio::time::timeout(SOON, child.wait_with_output())
        .await
        .expect("in time");
    let ran = Ran::from(ran.expect("it ends")).ends_with(1);
    assert!(
        ran.err.contains("is stopped, with ") && ran.err.contains("operations continue 1"),
        "{ran:#?}"
    );
    let left = failed(&at).await;
    assert!(left > 0, "all were done before the interrupt");
    let list = at
        .run(["operations", "list", "--unfinished", "--json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(
        (&list[0]["state"], &list[0]["done"]),
        (&"stopped".into(), &(400 - left).into())
    );
    at.run(["operations", "continue", "1", "--yes", "--per-second", "0"])
        .await
        .ends_with(0);
    assert_eq!(failed(&at).await, 0);
}
