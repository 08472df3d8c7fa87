//! A handler gets every payload that `publish` accepts, and `publish` refuses payloads that no handler could
//! read.

use std::net::IpAddr;

use final_core::{Bus, Error, Json, MemoryBroker, Payload, Router, SqliteBus};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::house::SOON;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Event {
    Login { from: IpAddr },
    Paid { cents: i128 },
    Measured { value: f64 },
}

async fn bus() -> SqliteBus {
    let pool = sqlx::SqlitePool::connect("sqlite::memory:").await;
    Bus::new("shop", pool.expect("SQLite"), MemoryBroker::new())
}

#[tokio::test]
async fn an_address_inside_of_a_tagged_enum_reaches_its_handler() {
    let bus = bus().await;
    let (sender, mut events) = mpsc::unbounded_channel();
    let json = sender.clone();
    let router = Router::new()
        .route("login", async move |Payload(event): Payload<Event>| {
            let _ = sender.send(event);
        })
        .route("login.json", async move |Json(event): Json<Event>| {
            let _ = json.send(event);
        });
    bus.start(router).await.expect("start");
    let login = Event::Login {
        from: "2001:db8::1".parse().expect("an address"),
    };

    bus.publish("login", &login).await.expect("published");
    bus.publish("login.json", Json(&login))
        .await
        .expect("published");

    for _ in 0..2 {
        let event = tokio::time::timeout(SOON, events.recv()).await;
        assert_eq!(event.expect("in time").as_ref(), Some(&login));
    }
    assert_eq!(bus.stats().await.expect("stats").dead_lettered, 0);
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn what_no_handler_could_read_is_an_error_of_publish_that_names_the_field() {
    let bus = bus().await;
    bus.start(Router::new()).await.expect("start");
    let paid = Event::Paid { cents: 1 };
    let measured = Event::Measured { value: f64::NAN };

    let refusals = [
        (bus.publish("paid", &paid).await, "cents: "),
        (bus.publish("measured", Json(&measured)).await, "value: "),
    ];

    for (answer, field) in refusals {
        let Err(Error::Encode { source, .. }) = answer else {
            panic!("published: {answer:?}");
        };
        assert!(source.to_string().starts_with(field), "{source}");
    }
    assert_eq!(bus.stats().await.expect("stats").pending, 0);
    bus.publish("measured", &measured)
        .await
        .expect("msgpack has it");
    bus.shutdown().await.expect("shutdown");
}
