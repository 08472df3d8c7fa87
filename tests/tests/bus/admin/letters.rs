//! Dead letters are listed page by page, and shown one by one.

use std::time::Duration;

use final_core::{
    Message, MessageId, Router, SqlBroker,
    admin::{Action, LetterSource, Pace},
    broker::{Broker, Cause, DeadLetterFilter, LetterCursor, Settlement, Setup},
};

use super::{admin, kill, page, refusing, shop};
use crate::{
    database::Database,
    house::SOON,
    log::{Log, publish},
};

crate::log_suite!(
    pages_of_letters_go_on_where_the_page_before_has_ended,
    a_filter_narrows_letters_by_key_topic_reason_and_age,
    a_letter_is_shown_with_its_message,
    letters_collected_from_a_broker_come_behind_those_of_the_log,
    letters_with_their_messages_come_in_pages_too,
    letters_of_a_group_that_is_no_service_are_listed_and_put_back,
);

async fn pages_of_letters_go_on_where_the_page_before_has_ended<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..25, 25).await;

    let (mut seen, mut after) = (Vec::new(), None::<LetterCursor>);
    loop {
        let mut filter = DeadLetterFilter::all().limit(10);
        if let Some(after) = after {
            filter = filter.after(after.to_string().parse().expect("a cursor"));
        }
        let page = page(&log, filter).await;
        assert!(!page.stopped);
        seen.extend(page.items.into_iter().map(|letter| letter.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }

    assert_eq!(seen.len(), 25);
    let all = page(&log, DeadLetterFilter::all()).await.items;
    assert_eq!(seen, all.iter().map(|letter| letter.id).collect::<Vec<_>>());
    bus.shutdown().await.expect("shutdown");
}

async fn a_filter_narrows_letters_by_key_topic_reason_and_age<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..6, 6).await;
    bus.publish("placed", &7_i64)
        .key("k")
        .await
        .expect("publish");
    log.comes_to("SELECT count(*) FROM final_log_dead", 7).await;

    let all = DeadLetterFilter::all;
    let count = async |filter| page(&log, filter).await.items.len();
    assert_eq!(count(all().key("k")).await, 1);
    assert_eq!(count(all().key("K")).await, 0);
    assert_eq!(count(all().topic("placed")).await, 7);
    assert_eq!(count(all().topic("shipped")).await, 0);
    assert_eq!(count(all().reason("100%_4")).await, 1);
    assert_eq!(count(all().reason("1%4")).await, 0);
    assert_eq!(count(all().older_than(Duration::from_secs(3600))).await, 0);
    let letters = page(&log, all()).await.items;
    assert_eq!(count(all().before(letters[6].died_at)).await, 7);
    let hour_ago = letters[0].died_at - Duration::from_secs(3600);
    assert_eq!(count(all().before(hour_ago)).await, 0);
    assert_eq!(count(all().ids([letters[1].id, letters[3].id])).await, 2);
    assert_eq!(count(all().id(MessageId::new())).await, 0);
    bus.shutdown().await.expect("shutdown");
}

async fn a_letter_is_shown_with_its_message<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;
    let sent = bus
        .publish("placed", &7_i64)
        .key("k")
        .header("tenant", "acme");
    let id = sent.await.expect("publish");
    log.comes_to("SELECT count(*) FROM final_log_dead", 1).await;

    let listed = page(&log, DeadLetterFilter::all()).await.items.remove(0);
    assert_eq!((listed.id, listed.source), (id, LetterSource::Log));
    assert_eq!(
        (&*listed.topic, listed.key.as_deref()),
        ("placed", Some("k"))
    );
    assert_eq!((&*listed.reason, listed.attempts), ("refused, 100%_7", 1));
    let whole = shop(&log).letter(&listed.cursor).await.expect("read");
    let message = whole.expect("there").message.expect("a message");
    assert_eq!(message.headers().get("tenant"), Some("acme"));
    assert_eq!(
        rmp_serde::from_slice::<i64>(message.payload()).expect("a number"),
        7
    );
    let other = shop(&log).letter(&LetterCursor::own(12_345)).await;
    assert!(other.expect("read").is_none());
    bus.shutdown().await.expect("shutdown");
}

/// Writes a collected letter of `shop`.
pub(super) async fn collect<D: Database>(log: &Log<D>, number: u8) {
    let id = format!("{number:032x}");
    let (id, payload) = match D::NAME {
        "PostgreSQL" => (format!("'{id}'::uuid"), "'\\x07'::bytea"),
        _ => (format!("x'{id}'"), "x'07'"),
    };
    log.run(&format!(
        "INSERT INTO final_shop_dead (letter_key, message_id, topic, payload, content_type, durable, reason, \
             attempts, died_at, queue, envelope, record_id) \
         VALUES ({id}, {id}, 'placed', {payload}, 'application/msgpack', 1, 'rejected', 3, {number}, 'shop_dlx', \
             'AAEC', {id})"
    ))
    .await;
}

async fn letters_collected_from_a_broker_come_behind_those_of_the_log<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..3, 3).await;
    for number in [1, 2] {
        collect(&log, number).await;
    }

    let sources = async |filter| {
        let page = page(&log, filter).await;
        let letters: Vec<_> = page.items.iter().map(|letter| letter.source).collect();
        (letters, page.next)
    };
    let (first, next) = sources(DeadLetterFilter::all().limit(4)).await;
    let (own, broker) = (LetterSource::Log, LetterSource::Collected);
    assert_eq!(first, [own, own, own, broker]);
    let rest = DeadLetterFilter::all().after(next.expect("a next page"));
    assert_eq!(sources(rest).await, (vec![broker], None));
    let (some, _) = sources(DeadLetterFilter::all().reason("rejected")).await;
    assert_eq!(some, [broker, broker]);
    let letter = page(&log, DeadLetterFilter::all().reason("rejected"))
        .await
        .items
        .remove(1);
    assert_eq!(
        letter.id.to_string(),
        "00000000-0000-0000-0000-000000000002"
    );
    let whole = shop(&log)
        .letter(&letter.cursor)
        .await
        .expect("read")
        .expect("there");
    assert_eq!(&whole.message.expect("a message").payload()[..], [7]);
    let trail = shop(&log)
        .trail(letter.id)
        .await
        .expect("a trail")
        .to_string();
    assert!(trail.contains("Dead letter of shop (broker)"), "{trail}");
    bus.shutdown().await.expect("shutdown");
}

async fn letters_with_their_messages_come_in_pages_too<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..7, 7).await;

    let filter = DeadLetterFilter::all().limit(5);
    let first = shop(&log).whole_letters(&filter).await.expect("letters");
    let next = first.next.expect("a next page");
    let rest = shop(&log)
        .whole_letters(&filter.after(next))
        .await
        .expect("letters");

    assert_eq!(
        (first.items.len(), rest.items.len(), rest.next),
        (5, 2, None)
    );
    let payloads = first.items.iter().chain(&rest.items).map(|whole| {
        let message = whole.message.as_ref().expect("a message");
        rmp_serde::from_slice::<i64>(message.payload()).expect("a number")
    });
    assert_eq!(crate::log::sorted(payloads), Vec::from_iter(0..7));
    bus.shutdown().await.expect("shutdown");
}

/// A gateway names its groups as it likes, and its letters are put back by the same commands.
async fn letters_of_a_group_that_is_no_service_are_listed_and_put_back<D: Database>(log: Log<D>) {
    const GROUP: &str = "Billing.v2/order \"placed\" :now?";
    let topic = "order.placed";
    let broker = SqlBroker::new(log.pool.clone());
    let mut opened = broker.open(Setup::new(GROUP, [topic])).await.expect("open");
    let bus = log.bus("shop");
    bus.start(Router::new()).await.expect("start");
    publish(&bus, topic, 0..1).await;
    let refused = opened.deliveries.recv().await.expect("a delivery");
    refused.settle(Settlement::DeadLetter(Cause::new("refused", 1)));
    log.comes_to("SELECT count(*) FROM final_log_dead", 1).await;

    let services = admin(&log).services().await.expect("services");
    let found = services.iter().find(|service| service.name == GROUP);
    assert!(found.is_some_and(|found| found.reads_log && found.outbox.is_none()));
    let group = admin(&log).service(GROUP);
    assert_eq!(group.overview().await.expect("overview").dead.len(), 1);
    let plan = group
        .plan(Action::Replay, &DeadLetterFilter::all(), "ann")
        .await;
    let plan = plan.expect("a plan");
    let done = admin(&log)
        .carry_out(plan.id, Pace::unlimited(), |_| {})
        .await;
    assert_eq!(done.expect("carried out").done, 1);

    let again = opened.deliveries.recv().await.expect("the delivery again");
    assert_eq!(again.message().map(Message::topic), Ok(topic));
    again.settle(Settlement::Ack);
    opened.link.stop_consuming(SOON).await;
    opened.link.finish_consuming(SOON).await;
    opened.link.close(SOON).await;
    bus.shutdown().await.expect("shutdown");
}
