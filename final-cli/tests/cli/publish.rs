//! `final publish`.

use final_core::{MessageId, Options, Router};
use final_tests::eventually;

use crate::{
    database::{Database, Place},
    everywhere,
    tail::SOON,
};

everywhere!(
    a_message_by_hand_goes_through_the_outbox_and_its_bus_sends_it,
    lines_are_messages_of_one_transaction,
    a_message_that_is_refused_leaves_nothing,
    an_id_is_published_again_and_its_records_are_told_apart,
);

type Seen = std::sync::Arc<std::sync::Mutex<Vec<final_core::Message>>>;

async fn a_message_by_hand_goes_through_the_outbox_and_its_bus_sends_it<DB: Database>(
    at: Place<DB>,
) {
    let bus = at
        .outbox_bus("shop")
        .with_options(Options::default().lease(SOON));
    let seen = Seen::default();
    let note = std::sync::Arc::clone(&seen);
    let router = Router::new().route("order.placed", move |message: final_core::Message| {
        note.lock().expect("lock").push(message);
        async {}
    });
    bus.start(router).await.expect("start");
    let large =
        "{\"id\":18446744073709551615,\"tax\":0.10,\"exact\":123456789012345678901234567890}";
    let args = [
        "--json",
        "publish",
        "order.placed",
        "--service",
        "shop",
        "--json",
        "-",
    ];
    let more = ["--key", "42", "--header", "tenant=acme=1"];
    let ran = at
        .run_with_input(args.iter().chain(&more), &format!("{large}\n"))
        .await
        .ends_with(0);
    let lines = ran.json();
    assert_eq!(
        (lines.len(), &lines[0]["kind"], &lines[0]["via"]),
        (1, &"published".into(), &"outbox".into())
    );
    bus.wake();
    eventually("it is handled", SOON, async || {
        seen.lock().expect("lock").len() == 1
    })
    .await;
    let message = seen.lock().expect("lock")[0].clone();
    assert_eq!(
        message.id().to_string(),
        lines[0]["message_id"].as_str().expect("an id")
    );
    assert_eq!(message.payload(), large);
    assert_eq!(message.content_type(), "application/json");
    assert_eq!(message.key(), Some("42"));
    assert_eq!(message.headers().get("tenant"), Some("acme=1"));
    bus.shutdown().await.expect("shutdown");
}

async fn lines_are_messages_of_one_transaction<DB: Database>(at: Place<DB>) {
    at.outbox_bus("shop").migrate().await.expect("tables");
    let publish = [
        "publish",
        "t",
        "--service",
        "shop",
        "--json",
        "-",
        "--lines",
        "--msgpack",
    ];
    let ran = at
        .run_with_input(publish, "{\"id\": 1}\n\n[2]\n3\n")
        .await
        .ends_with(0);
    let ids: Vec<MessageId> = ran
        .out
        .lines()
        .map(|id| MessageId(id.parse().expect("an id")))
        .collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(at.number("SELECT count(*) FROM final_shop_outbox").await, 3);
    // Nobody has leased them, so the next scan of any instance takes them.
    let unleased = "SELECT count(*) FROM final_shop_outbox WHERE available_at = due_at";
    assert_eq!(at.number(unleased).await, 3);

    let ran = at.run_with_input(publish, "1\n{\n3\n").await.ends_with(2);
    assert!(ran.err.contains("line 2 "), "{ran:#?}");
    let ran = at
        .run_with_input(publish, "1\n18446744073709551616\n")
        .await
        .ends_with(2);
    assert!(ran.err.contains("18446744073709551616"), "{ran:#?}");
    assert_eq!(at.number("SELECT count(*) FROM final_shop_outbox").await, 3);
}

async fn an_id_is_published_again_and_its_records_are_told_apart<DB: Database>(at: Place<DB>) {
    at.outbox_bus("shop").migrate().await.expect("tables");
    let id = MessageId::new().to_string();
    let publish = ["publish", "t", "--service", "shop", "--id", &id];
    for _ in 0..2 {
        let ran = at.run(publish).await.ends_with(0);
        assert_eq!(ran.out.trim(), id);
    }
    let nothing = MessageId::from_text("00000000-0000-0000-0000-000000000000").to_string();
    let refused = [&publish[..5], &[&nothing]].concat();
    at.run(refused).await.ends_with(2);

    let list = ["outbox", "list", "--service", "shop", "--id", &id, "--json"];
    let listed = at.run(list).await.ends_with(0).json();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|line| line["message_id"] == *id));
    assert_ne!(listed[0]["record_id"], listed[1]["record_id"]);
    for line in &listed {
        let record = line["record_id"].as_str().expect("an id");
        let show = ["outbox", "show", record, "--service", "shop", "--json"];
        let shown = at.run(show).await.ends_with(0).json();
        assert_eq!(shown[0]["message_id"], *id);
        assert_eq!(shown[0]["record_id"], record);
    }
}

async fn a_message_that_is_refused_leaves_nothing<DB: Database>(at: Place<DB>) {
    let publish = ["publish", "order.placed", "--service", "shop"];
    let ran = at.run(publish).await.ends_with(1);
    assert!(
        ran.err.contains("final_shop_outbox") && ran.err.contains("`final migrate`"),
        "{ran:#?}"
    );
    at.outbox_bus("shop").migrate().await.expect("tables");
    let refused: [&[&str]; 5] = [
        &["publish", "amq.direct", "--service", "shop"],
        &["publish", "t", "--service", "Shop"],
        &[
            "publish",
            "t",
            "--service",
            "shop",
            "--header",
            "x-final-key=1",
        ],
        &["publish", "t", "--service", "shop", "--delay", "500d"],
        &["publish", "t", "--service", "shop", "--delay", "5"],
    ];
    for args in refused {
        at.run(args).await.ends_with(2);
    }
    assert_eq!(at.number("SELECT count(*) FROM final_shop_outbox").await, 0);
}
