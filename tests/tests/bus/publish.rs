//! Publishing without a transaction, and the options of a message.

use final_core::{Error, Json};
use serde::{Deserialize, Serialize};

use crate::{
    database::Database,
    house::{House, SOON},
    transport::Transport,
};

crate::suite!(
    everywhere: [
        a_message_published_alone_is_handled,
        key_headers_and_id_reach_the_handler,
        json_and_bytes_travel_as_they_are,
        publishing_without_the_table_says_what_to_call,
        an_unconfirmed_message_goes_past_the_outbox,
        an_unconfirmed_message_cannot_be_delayed,
        publishing_after_shutdown_waits_for_the_next_start,
    ],
    with an outbox: [
        a_message_published_before_start_waits_in_the_outbox,
    ],
);

async fn a_message_published_alone_is_handled<D: Database, T: Transport>(house: House<D, T>) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;

    bus.publish(house.topic("placed"), &7_i64)
        .await
        .expect("publish");

    notes.reach(1).await;
    assert_eq!(notes.numbers(), [7]);
    house.outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");
}

async fn key_headers_and_id_reach_the_handler<D: Database, T: Transport>(house: House<D, T>) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;

    let id = bus
        .publish(house.topic("placed"), &1_i64)
        .key("order 42")
        .header("tenant", "acme")
        .header("note", "übermäßig ✓")
        .durable(false)
        .await
        .expect("publish");

    notes.reach(1).await;
    let message = &notes.all()[0];
    assert_eq!(message.id(), id);
    assert_eq!(message.key(), Some("order 42"));
    assert_eq!(message.topic(), house.topic("placed"));
    let headers: Vec<_> = message.headers().iter().collect();
    assert_eq!(headers, [("note", "übermäßig ✓"), ("tenant", "acme")]);
    assert!(!message.is_durable());
    assert_eq!(message.attempt(), 1);
    bus.shutdown().await.expect("shutdown");
}

#[derive(Serialize, Deserialize)]
struct Order {
    id: i64,
}

async fn json_and_bytes_travel_as_they_are<D: Database, T: Transport>(house: House<D, T>) {
    let (bus, notes) = house
        .start_noting(house.options(), &["json", "bytes"])
        .await;

    bus.publish(house.topic("json"), Json(&Order { id: 1 }))
        .await
        .expect("publish");
    notes.reach(1).await;
    bus.publish_bytes(house.topic("bytes"), vec![0, 159, 146, 150])
        .await
        .expect("publish");
    notes.reach(2).await;

    let all = notes.all();
    assert_eq!(&all[0].payload()[..], br#"{"id":1}"#);
    assert_eq!(all[0].content_type(), "application/json");
    assert_eq!(&all[1].payload()[..], [0, 159, 146, 150]);
    bus.shutdown().await.expect("shutdown");
}

async fn a_message_published_before_start_waits_in_the_outbox<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let bus = house.bus();
    bus.migrate().await.expect("migrate");
    bus.publish(house.topic("placed"), &1_i64)
        .await
        .expect("publish");
    assert_eq!(bus.stats().await.expect("stats").pending, 1);

    let notes = crate::house::Notes::default();
    bus.start(house.noting(&notes, &["placed"]))
        .await
        .expect("start");

    notes.reach(1).await;
    house.outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");
}

async fn publishing_without_the_table_says_what_to_call<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let error = house
        .bus()
        .publish("a.topic", &1_i64)
        .await
        .expect_err("there is no table");

    assert!(matches!(&error, Error::MissingTable { .. }), "{error:?}");
    assert!(error.to_string().contains("migrate"), "{error}");
}

async fn an_unconfirmed_message_goes_past_the_outbox<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_connected(house.options(), &["ping"]).await;

    bus.publish(house.topic("ping"), &1_i64)
        .confirm(false)
        .await
        .expect("publish");

    notes.reach(1).await;
    assert_eq!(bus.stats().await.expect("stats").acked, 0);
    bus.shutdown().await.expect("shutdown");
}

async fn an_unconfirmed_message_cannot_be_delayed<D: Database, T: Transport>(house: House<D, T>) {
    let bus = house.bus();
    let result = bus.publish("ping", &1_i64).confirm(false).delay(SOON).await;
    assert!(
        matches!(result, Err(Error::InvalidPolicy { .. })),
        "{result:?}"
    );
}

async fn publishing_after_shutdown_waits_for_the_next_start<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, _) = house.start_noting(house.options(), &["placed"]).await;
    bus.shutdown().await.expect("shutdown");
    bus.publish(house.topic("placed"), &1_i64)
        .await
        .expect("publish");

    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    notes.reach(1).await;
    house.outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");
}
