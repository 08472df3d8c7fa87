//! A hook that puts headers into messages where they are staged.

use std::{cell::RefCell, sync::Arc};

use final_core::{Bus, MessageId, Telemetry};
use futures::future::join_all;

use crate::{
    database::Database,
    house::{House, Notes},
    transport::{Memory, Transport},
};

crate::suite!(
    everywhere: [
        each_message_has_the_context_of_its_own_publisher,
        whatever_a_hook_does_no_message_is_lost,
    ],
);

tokio::task_local! {
    /// What a tracing system would call the current context.
    static CONTEXT: RefCell<String>;
}

/// Puts the current context into each message, as a tracing system does.
struct Trace;

impl Telemetry for Trace {
    fn inject(&self, _topic: &str, put: &mut dyn FnMut(&str, &str)) {
        let _ = CONTEXT.try_with(|context| put("traceparent", &context.borrow()));
    }
}

/// Starts a bus with a hook.
async fn start<D: Database, T: Transport>(
    house: &House<D, T>,
    hook: impl Telemetry,
) -> (Bus<D>, Notes) {
    let bus = house.bus().with_telemetry(hook);
    // The order of the two does not matter.
    let bus = bus.with_options(house.options());
    let notes = Notes::default();
    bus.start(house.noting(&notes, &["placed"]))
        .await
        .expect("start");
    (bus, notes)
}

/// In the three ways to publish, by many at once. The relay sends them in batches, in tasks of its own.
async fn each_message_has_the_context_of_its_own_publisher<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = start(&house, Trace).await;
    let (bus, house) = (Arc::new(bus), Arc::new(house));
    let publishers = (0..24).map(|n| {
        let (bus, house) = (Arc::clone(&bus), Arc::clone(&house));
        let context = RefCell::new(format!("context {n}"));
        tokio::spawn(CONTEXT.scope(context, async move {
            let topic = house.topic("placed");
            let id: MessageId = match n % 3 {
                0 => bus.publish(topic, &n).await.expect("publish"),
                1 => {
                    let mut tx = bus.begin().await.expect("begin");
                    let id = bus.publish_in(&mut tx, topic, &n).await.expect("publish");
                    tx.commit().await.expect("commit");
                    bus.wake();
                    id
                }
                _ => {
                    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
                    let id = txbus.publish(topic, &n).await.expect("publish");
                    // What is current at the COMMIT is none of the message's business.
                    let commit = CONTEXT.scope(RefCell::new("another".to_owned()), txbus.commit());
                    commit.await.expect("commit");
                    id
                }
            };
            (id, n)
        }))
    });
    let published: Vec<_> = join_all(publishers).await;

    notes.reach(published.len()).await;
    let messages = notes.all();
    for published in published {
        let (id, n) = published.expect("a publisher");
        let message = messages.iter().find(|message| message.id() == id);
        let context = message.and_then(|message| message.headers().get("traceparent"));
        assert_eq!(context, Some(&*format!("context {n}")));
    }
    bus.shutdown().await.expect("shutdown");
}

/// Puts what cannot be sent, and panics every other time.
struct Hostile(std::sync::atomic::AtomicU32);

impl Telemetry for Hostile {
    fn inject(&self, _topic: &str, put: &mut dyn FnMut(&str, &str)) {
        put("x-final-envelope", "not yours");
        put("CC", "[\"everywhere\"]");
        put("", "no name");
        put("name\0", "value");
        put("tenant", "another");
        put("nul", "a\0b\r\n\u{202e}'\"\\");
        put("large", &"x".repeat(1 << 20));
        let calls = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert!(calls.is_multiple_of(2), "a hook that panics, on purpose");
    }
}

async fn whatever_a_hook_does_no_message_is_lost<D: Database, T: Transport>(house: House<D, T>) {
    let (bus, notes) = start(&house, Hostile(0.into())).await;
    for n in 0..4_i64 {
        let published = bus
            .publish(house.topic("placed"), &n)
            .header("tenant", "acme")
            .await;
        published.expect("publish");
    }

    notes.reach(4).await;
    let mut numbers = notes.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3]);
    for message in notes.all() {
        let headers: Vec<_> = message.headers().iter().map(|(name, _)| name).collect();
        assert_eq!(message.headers().get("tenant"), Some("acme"));
        let is_known = |name: &&str| ["nul", "tenant"].contains(name);
        assert!(headers.iter().all(is_known), "{headers:?}");
    }
    assert_eq!(bus.metrics().await.panics, 2);
    bus.shutdown().await.expect("shutdown");
}

/// A message that is sent past the outbox passes the hook as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unconfirmed_message_has_a_context_too() {
    let house = House::<sqlx::Sqlite, Memory>::new().await;
    let (bus, notes) = start(&house, Trace).await;
    let published = CONTEXT.scope(RefCell::new("context".to_owned()), async {
        bus.publish(house.topic("placed"), &1_i64)
            .confirm(false)
            .await
    });
    published.await.expect("publish");

    notes.reach(1).await;
    assert_eq!(notes.all()[0].headers().get("traceparent"), Some("context"));
    bus.shutdown().await.expect("shutdown");
}
