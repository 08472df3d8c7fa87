//! Messages of a source that is no bus: appended to a caller's transaction, or published together.

use std::{collections::BTreeMap, time::Duration};

use final_core::{
    Bus, Error, Message, MessageId, SqlBroker,
    broker::{Broker, Delivery, Place, Settlement, Setup},
    database::Dialect,
};
use sqlx::Transaction;
use tokio::{sync::mpsc, time::timeout};

use super::{Log, noting, options, refused::Guard};
use crate::{
    database::Database,
    house::{Notes, SOON},
};

crate::log_suite!(
    what_is_appended_comes_as_it_was_once_its_transaction_has_committed,
    what_is_rolled_back_never_comes,
    each_message_is_told_where_it_stands_also_those_that_share_an_id,
    messages_that_no_bus_could_publish_are_refused_before_anything_is_written,
    a_message_that_the_database_refuses_leaves_nothing_of_its_transaction,
    a_delivery_tells_its_place_and_how_often_it_came,
    a_bus_publishes_messages_of_others_as_they_are,
);

crate::log_suite!(at once: places_are_right_while_many_write);

fn order(number: i64) -> Message {
    Message::new("order", number.to_string())
        .with_key(format!("customer-{}", number % 7))
        .with_header("tenant", "acme")
        .with_content_type("text/plain")
}

async fn begin<D: Database>(log: &Log<D>) -> Transaction<'static, D> {
    D::begin(&log.pool).await.expect("begin")
}

async fn what_is_appended_comes_as_it_was_once_its_transaction_has_committed<D: Database>(
    log: Log<D>,
) {
    let broker = log.broker();
    let (one, to_one) = log.noting_on("one", broker.clone(), &["order"]).await;
    let (two, to_two) = log.noting_on("two", broker.clone(), &["order"]).await;
    let sent = Vec::from_iter((0..70).map(order));

    let mut tx = begin(&log).await;
    broker.append(&mut tx, &sent).await.expect("appended");
    assert_eq!(to_one.len() + to_two.len(), 0, "before its COMMIT");
    tx.commit().await.expect("commit");
    broker.committed();

    for notes in [&to_one, &to_two] {
        notes.reach(70).await;
        let came: BTreeMap<MessageId, Message> = notes
            .all()
            .into_iter()
            .map(|message| (message.id(), message))
            .collect();
        for message in &sent {
            let same = &came[&message.id()];
            assert_eq!(same.key(), message.key());
            assert_eq!(same.headers(), message.headers());
            assert_eq!(same.payload(), message.payload());
            assert_eq!(same.content_type(), "text/plain");
        }
    }
    one.shutdown().await.expect("shutdown");
    two.shutdown().await.expect("shutdown");
}

async fn what_is_rolled_back_never_comes<D: Database>(log: Log<D>) {
    let broker = log.broker();
    let (bus, notes) = log.noting_on("one", broker.clone(), &["order"]).await;
    let mut tx = begin(&log).await;
    broker.append(&mut tx, &[order(1)]).await.expect("appended");
    let places = broker.append_placed(&mut tx, &[order(2)]).await;
    assert_eq!(places.expect("appended").len(), 1);
    tx.rollback().await.expect("rollback");
    broker
        .publish(&[order(3)], |_| false)
        .await
        .expect("published");

    notes.reach(1).await;
    assert_eq!(notes.all()[0].payload(), "3");
    bus.shutdown().await.expect("shutdown");
}

async fn each_message_is_told_where_it_stands_also_those_that_share_an_id<D: Database>(
    log: Log<D>,
) {
    let broker = log.broker();
    broker.migrate().await.expect("tables");
    let id = MessageId::new();
    let mut sent = Vec::from_iter((0..100).map(order));
    for at in [3, 40, 41, 99] {
        sent[at] = Message::identified(id, "order", at.to_string());
    }
    let mut tx = begin(&log).await;
    let places = broker
        .append_placed(&mut tx, &sent)
        .await
        .expect("appended");
    tx.commit().await.expect("commit");
    check(&log, &sent, &places).await;

    let some = broker
        .publish(&sent, |at| at % 3 == 0)
        .await
        .expect("published");
    assert_eq!(some.len(), sent.len());
    assert!(
        some.iter()
            .enumerate()
            .all(|(at, place)| place.is_some() == (at % 3 == 0))
    );
    for (message, place) in sent.iter().zip(some) {
        if let Some(place) = place {
            check(&log, std::slice::from_ref(message), &[place]).await;
        }
    }
    let none = broker.publish(&sent, |_| false).await.expect("published");
    assert_eq!(none, vec![None; 100]);
}

/// The row of each place has its message.
async fn check<D: Database>(log: &Log<D>, sent: &[Message], places: &[Place]) {
    assert_eq!(sent.len(), places.len());
    for (message, place) in sent.iter().zip(places) {
        let text = std::str::from_utf8(message.payload()).expect("a number");
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        let payload = match D::DIALECT {
            Dialect::Postgres => format!("'\\x{hex}'"),
            Dialect::MySql | Dialect::Sqlite => format!("x'{hex}'"),
        };
        let row = format!(
            "SELECT count(*) FROM final_log WHERE seq = {} AND lane = {} AND payload = {payload}",
            place.number, place.partition,
        );
        assert_eq!(log.number(&row).await, 1, "{text} at {place:?}");
    }
}

async fn messages_that_no_bus_could_publish_are_refused_before_anything_is_written<D: Database>(
    log: Log<D>,
) {
    let broker = log.broker();
    broker.migrate().await.expect("tables");
    let wrong = [
        Message::new(" ", "payload"),
        order(1).with_key("a\0b"),
        order(1).with_header("x-final-tried", "3"),
        order(1).with_header("x-delivery-count", "3"),
        order(1).with_content_type("text/plain\r\nx: y"),
    ];
    for message in wrong {
        let error = broker.publish(&[order(0), message.clone()], |_| true).await;
        assert!(error.expect_err("wrong").is_refusal());
        let mut tx = begin(&log).await;
        let refused = broker.append(&mut tx, &[order(0), message.clone()]).await;
        assert!(refused.expect_err("wrong").is_refusal());
        tx.commit().await.expect("the transaction is as it was");
    }
    assert_eq!(log.number("SELECT count(*) FROM final_log").await, 0);
    let large = order(1).check(0).expect_err("one byte");
    assert!(matches!(
        large,
        Error::MessageTooLarge {
            size: 1,
            limit: 0,
            ..
        }
    ));
}

async fn a_message_that_the_database_refuses_leaves_nothing_of_its_transaction<D: Database>(
    log: Log<D>,
) {
    let broker = log.broker();
    broker.migrate().await.expect("tables");
    Guard::refusing::<D>("final_log", "NEW.topic = 'wrong'")
        .set(&log)
        .await;
    let wrong = Message::new("wrong", "payload");

    for wants in [false, true] {
        let all = [order(0), wrong.clone(), order(1)];
        let error = broker.publish(&all, |_| wants).await.expect_err("refused");
        assert!(error.is_refusal(), "{error:?}");
        assert_eq!(log.number("SELECT count(*) FROM final_log").await, 0);
    }
    for number in 0..10 {
        broker
            .publish(&[order(number)], |_| true)
            .await
            .expect("taken");
    }
    assert_eq!(log.number("SELECT count(*) FROM final_log").await, 10);
}

async fn a_delivery_tells_its_place_and_how_often_it_came<D: Database>(log: Log<D>) {
    let broker = log.broker();
    broker.migrate().await.expect("tables");
    broker
        .subscribe("one", &["order"])
        .await
        .expect("subscribed");
    let sent = [order(1), order(2)];
    let places = broker.publish(&sent, |_| true).await.expect("published");
    let (mut deliveries, link) = open(&broker).await;

    let mut seen = BTreeMap::new();
    for time in 1..=3 {
        let mut came = Vec::new();
        while came.len() < 2 {
            came.push(next(&mut deliveries).await);
        }
        for delivery in came {
            let id = delivery.message().expect("a message").id();
            assert_eq!(delivery.times(), time, "{delivery:?}");
            if time == 1 {
                seen.insert(id, delivery.place());
            }
            assert!(delivery.place().is_some());
            if time < 3 {
                drop(delivery);
            } else {
                delivery.settle(Settlement::Ack);
            }
        }
    }
    for (message, place) in sent.iter().zip(places) {
        assert_eq!(seen[&message.id()], place);
    }
    close(link).await;
}

async fn open<D: Database>(
    broker: &SqlBroker<D>,
) -> (
    mpsc::Receiver<Delivery>,
    std::sync::Arc<dyn final_core::broker::Link>,
) {
    let opened = broker
        .open(Setup::new("one", ["order"]))
        .await
        .expect("open");
    (opened.deliveries, opened.link)
}

async fn next(deliveries: &mut mpsc::Receiver<Delivery>) -> Delivery {
    let next = timeout(SOON, deliveries.recv()).await;
    next.expect("in time").expect("open")
}

async fn close(link: std::sync::Arc<dyn final_core::broker::Link>) {
    link.stop_consuming(SOON).await;
    link.finish_consuming(SOON).await;
    link.close(SOON).await;
}

async fn a_bus_publishes_messages_of_others_as_they_are<D: Database>(log: Log<D>) {
    let broker = log.broker();
    let (one, notes) = log.noting_on("one", broker.clone(), &["order"]).await;
    let far = Log::<D>::new().await;
    let by_outbox = Bus::new("far", far.pool.clone(), broker.clone())
        .with_options(options().scan_interval(Duration::from_millis(500)));
    by_outbox
        .start(noting(&Notes::default(), &[]))
        .await
        .expect("start");
    let here = log.bus_on("here", broker);
    let sent = Vec::from_iter((0..120).map(order));

    by_outbox
        .publish_all(sent[..60].to_vec())
        .await
        .expect("published");
    here.publish_all(sent[60..].to_vec())
        .await
        .expect("published");

    notes.reach(120).await;
    let came: BTreeMap<MessageId, Message> = notes
        .all()
        .into_iter()
        .map(|message| (message.id(), message))
        .collect();
    for message in &sent {
        assert_eq!(came[&message.id()].key(), message.key());
        assert_eq!(came[&message.id()].content_type(), "text/plain");
    }
    let refused = here
        .publish_all(vec![order(1), order(2).with_header("x-final-a", "b")])
        .await;
    assert!(refused.expect_err("refused").is_refusal());
    one.shutdown().await.expect("shutdown");
    by_outbox.shutdown().await.expect("shutdown");
    here.shutdown().await.expect("shutdown");
}

async fn places_are_right_while_many_write<D: Database>(log: Log<D>) {
    let broker = log.broker();
    broker.migrate().await.expect("tables");
    let writers = (0..6).map(|writer| {
        let broker = broker.clone();
        async move {
            let mut all = Vec::new();
            for lot in 0..8 {
                let first = writer * 1_000 + lot * 20;
                let sent = Vec::from_iter((first..first + 20).map(order));
                let places = broker.publish(&sent, |_| true).await.expect("published");
                all.extend(sent.into_iter().zip(places.into_iter().flatten()));
            }
            all
        }
    });
    let all = futures::future::join_all(writers).await.concat();
    let (sent, places): (Vec<Message>, Vec<Place>) = all.into_iter().unzip();
    assert_eq!(places.len(), 960);
    check(&log, &sent, &places).await;
}
