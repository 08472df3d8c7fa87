//! What the Redis port promises, asked for byte by byte.

use std::{collections::BTreeSet, time::Duration};

use final_core::{Message, broker::Settlement};
use final_gateway::{
    Listen,
    rights::{AppLimits, Grant, Operations},
};
use serde_json::{Value, json};

use super::{PUB, SUB, raw::Raw, start};
use crate::{
    engine::{SOON, Stand},
    place::{Database, Place},
};

crate::on_each_engine!(
    a_message_that_was_answered_is_there_and_a_pipeline_is_answered_in_order,
    what_is_not_committed_comes_again_to_the_next_connection_and_what_is_does_not,
    a_commit_of_an_earlier_connection_is_void,
    messages_of_services_come_too_and_bytes_that_are_no_json_are_not_lost,
    a_colour_gets_its_own_messages_and_stops_at_no_others,
);

crate::everywhere!(a_revocation_closes_the_connections_of_the_app);

fn values(taken: &[Value]) -> BTreeSet<i64> {
    taken
        .iter()
        .filter_map(|one| one["value"].as_i64())
        .collect()
}

async fn a_message_that_was_answered_is_there_and_a_pipeline_is_answered_in_order<DB: Database>(
    stand: Stand<DB>,
) {
    let (running, address) = start(&stand).await;
    let mut service = stand.consumer("service", "test156").await;
    let mut publisher = Raw::log_in(address, PUB).await;
    assert_eq!(publisher.ask(&["SET", "k", "{\"id\": 0}"]).await, "+OK");
    let delivery = service.next().await;
    let message = delivery.message().expect("a message");
    assert_eq!(message.key(), Some("k"));
    assert_eq!(&message.payload()[..], b"{\"id\": 0}");
    assert_eq!(message.content_type(), "application/json");
    delivery.settle(Settlement::Ack);

    for number in 1..=100 {
        publisher.send(&["SET", "k", &number.to_string()]).await;
    }
    publisher.send(&["SET", "k"]).await;
    for _ in 1..=100 {
        assert_eq!(publisher.line().await, "+OK");
    }
    assert_eq!(publisher.line().await, "-pub params error");
    // A pipeline keeps its order.
    let mut seen = Vec::new();
    while seen.len() < 100 {
        let delivery = service.next().await;
        seen.push(delivery.message().expect("a message").payload().clone());
        delivery.settle(Settlement::Ack);
    }
    service.close().await;
    running.shutdown().await;
    assert!(Raw::connect_refused(address).await);
}

async fn what_is_not_committed_comes_again_to_the_next_connection_and_what_is_does_not<
    DB: Database,
>(
    stand: Stand<DB>,
) {
    let (running, address) = start(&stand).await;
    let mut one = Raw::log_in(address, SUB).await;
    let mut publisher = Raw::log_in(address, PUB).await;
    for number in 0..20 {
        let key = number.to_string();
        assert_eq!(publisher.ask(&["SET", &key, &key]).await, "+OK");
    }
    let taken = one.take_all(20).await;
    assert_eq!(values(&taken), (0..20).collect());
    let (done, open) = taken.split_at(12);
    one.commit(done).await;
    // A commit means everything of its partition up to there.
    let is_done = |message: &&Value| {
        let ends = done
            .iter()
            .filter(|end| end["partition"] == message["partition"]);
        ends.filter_map(|end| end["offset"].as_i64()).max() >= message["offset"].as_i64()
    };
    let open: Vec<_> = open
        .iter()
        .filter(|message| !is_done(message))
        .cloned()
        .collect();
    assert!(!open.is_empty());
    drop(one);
    let mut two = Raw::log_in(address, SUB).await;
    let again = two.take_all(open.len()).await;
    assert_eq!(values(&again), values(&open));
    two.commit(&again).await;
    drop(two);
    assert_eq!(publisher.ask(&["SET", "k", "99"]).await, "+OK");
    let mut three = Raw::log_in(address, SUB).await;
    assert_eq!(values(&three.take().await), BTreeSet::from([99]));
    running.shutdown().await;
}

async fn a_commit_of_an_earlier_connection_is_void<DB: Database>(stand: Stand<DB>) {
    let (running, address) = start(&stand).await;
    let mut one = Raw::log_in(address, SUB).await;
    let mut publisher = Raw::log_in(address, PUB).await;
    assert_eq!(publisher.ask(&["SET", "k", "1"]).await, "+OK");
    let taken = one.take().await;
    assert_eq!(one.ask(&["QUIT"]).await, "+OK");
    let mut two = Raw::log_in(address, SUB).await;
    // As the seed's client for Go does, which remembers what it could not commit.
    two.commit(&taken).await;
    let again = two.take().await;
    assert_eq!(again[0]["value"], 1);
    assert!(again[0]["offset"].as_i64() > taken[0]["offset"].as_i64());
    let partition = again[0]["partition"].to_string();
    let offset = again[0]["offset"].as_i64().expect("an offset") + 1;
    for (partition, offset) in [
        (partition.as_str(), offset.to_string()),
        (&partition, "-1".to_owned()),
        ("77", "1".to_owned()),
        (&partition, "9223372036854775808".to_owned()),
    ] {
        let answer = two.ask(&["SET", partition, &offset]).await;
        assert!(
            answer.starts_with("-commit offset params error"),
            "{answer}"
        );
    }
    two.commit(&again).await;
    running.shutdown().await;
}

async fn messages_of_services_come_too_and_bytes_that_are_no_json_are_not_lost<DB: Database>(
    stand: Stand<DB>,
) {
    let (running, address) = start(&stand).await;
    let mut consumer = Raw::log_in(address, SUB).await;
    let message = Message::new("test156", &b"\x93\x01\x02\x03"[..]).with_header("tenant", "acme");
    let published = running
        .publisher()
        .submit(message.clone(), false, SOON)
        .await;
    published.expect("room").await.expect("committed");
    let taken = consumer.take().await;
    assert_eq!(taken[0]["value"], "kwECAw==");
    assert_eq!(
        taken[0]["metadata"],
        json!({"tenant": "acme", "final-encoding": "base64", "final-content-type": "application/msgpack"})
    );
    drop(consumer);
    let mut consumer = Raw::log_in(address, SUB).await;
    let taken = loop {
        let taken = consumer.mget(&["MGET", "pb", "id"]).await;
        if !taken.is_empty() {
            break taken;
        }
    };
    assert!(taken[0].starts_with(b"\x12\x04\x93\x01\x02\x03\x1a\x07test156"));
    let id = message.id().to_string();
    assert!(taken[0].windows(36).any(|bytes| bytes == id.as_bytes()));
    running.shutdown().await;
}

async fn a_colour_gets_its_own_messages_and_stops_at_no_others<DB: Database>(stand: Stand<DB>) {
    let (running, address) = start(&stand).await;
    let red = |dsn: &str| format!("{dsn}&color=red");
    let mut consumer = Raw::log_in(address, &red(SUB)).await;
    let mut plain = Raw::log_in(address, SUB).await;
    let mut publisher = Raw::log_in(address, PUB).await;
    for number in 0..10 {
        assert_eq!(
            publisher.ask(&["SET", "k", &number.to_string()]).await,
            "+OK"
        );
    }
    let mut of_red = Raw::log_in(address, &red(PUB)).await;
    assert_eq!(of_red.ask(&["SET", "k", "99"]).await, "+OK");
    let taken = consumer.take_all(1).await;
    assert_eq!(values(&taken), BTreeSet::from([99]));
    consumer.commit(&taken).await;
    let taken = plain.take_all(10).await;
    assert_eq!(values(&taken), (0..10).collect());
    running.shutdown().await;
}

async fn a_revocation_closes_the_connections_of_the_app<DB: Database>(place: Place<DB>) {
    let stand = Stand::on(place);
    let gateway = stand.gateway().resp(Listen::at("127.0.0.1:0"));
    gateway.migrate().await.expect("tables");
    let apps = gateway.apps().expect("tables");
    let secret = apps
        .create("shop", AppLimits::default())
        .await
        .expect("created");
    let grant = Grant::new("billing", "order.*", Operations::BOTH).expect("a grant");
    apps.allow("shop", grant).await.expect("allowed");
    let running = gateway.start().await.expect("start");
    let address = running.addresses().resp.expect("an address");
    let dsn = |secret: &str, topic: &str, role: &str| {
        format!("shop:{secret}@billing/topic={topic}&role={role}")
    };
    let secret = secret.reveal().to_owned();
    for (secret, topic, answer) in [
        ("wrong", "order.placed", "-error secret"),
        (&secret, "payment", "-error topic"),
    ] {
        let mut raw = Raw::connect(address).await;
        assert_eq!(raw.ask(&["AUTH", &dsn(secret, topic, "pub")]).await, answer);
        assert_eq!(raw.line().await, "");
    }
    let mut publisher = Raw::log_in(address, &dsn(&secret, "order.placed", "pub")).await;
    assert_eq!(publisher.ask(&["SET", "k", "1"]).await, "+OK");
    let mut consumer = Raw::log_in(address, &dsn(&secret, "order.placed", "sub")).await;
    consumer.send(&["MGET", ""]).await;
    apps.revoke("shop", "billing", "order.*", Operations::BOTH)
        .await
        .expect("revoked");
    for raw in [&mut publisher, &mut consumer] {
        let answer = raw.line().await;
        assert!(answer.starts_with("-"), "{answer}");
        assert_eq!(raw.line().await, "");
    }
    tokio::time::timeout(Duration::from_secs(60), running.shutdown())
        .await
        .expect("in time");
}
