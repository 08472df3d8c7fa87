//! Records are listed by their state, page by page, and shown one by one.

use final_core::{
    MemoryBroker, MessageId,
    admin::{RecordCursor, RecordFilter, RecordInfo, RecordState},
};

use super::{fill, outbox_bus, shop};
use crate::{database::Database, log::Log};

crate::log_suite!(
    records_are_listed_by_their_state_and_pages_go_on_where_the_page_before_has_ended,
    a_filter_narrows_records,
    a_record_is_shown_with_its_message,
    a_record_that_is_leased_is_in_hand,
);

async fn filled<D: Database>(log: &Log<D>) {
    outbox_bus(log, &MemoryBroker::new())
        .migrate()
        .await
        .expect("migrate");
    for (status, topic, from, count) in [
        (0, "a", 0, 7),
        (1, "a", 100, 3),
        (1, "b", 200, 4),
        (2, "a", 300, 5),
        (3, "b", 400, 6),
    ] {
        log.run(&fill::<D>(status, topic, from, count)).await;
    }
}

async fn listed<D: Database>(log: &Log<D>, filter: &RecordFilter, page: u32) -> Vec<RecordInfo> {
    let (mut all, mut after) = (Vec::new(), None::<RecordCursor>);
    loop {
        let mut filter = filter.clone().limit(page);
        if let Some(after) = after {
            filter = filter.after(after.to_string().parse().expect("a cursor"));
        }
        let page = shop(log).records(&filter).await.expect("records");
        assert!(!page.stopped);
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

async fn records_are_listed_by_their_state_and_pages_go_on_where_the_page_before_has_ended<
    D: Database,
>(
    log: Log<D>,
) {
    filled(&log).await;

    let whole = listed(&log, &RecordFilter::all(), 1_000).await;
    let states: Vec<RecordState> = whole.iter().map(|record| record.state).collect();
    let expected = [
        vec![RecordState::Failed; 6],
        vec![RecordState::Unroutable; 7],
        vec![RecordState::Pending; 7],
        vec![RecordState::Acked; 5],
    ];
    assert_eq!(states, expected.concat());
    let ids = |records: &[RecordInfo]| records.iter().map(|record| record.id).collect::<Vec<_>>();
    for page in [1, 4, 6, 7] {
        assert_eq!(
            ids(&listed(&log, &RecordFilter::all(), page).await),
            ids(&whole),
            "{page}"
        );
    }
}

async fn a_filter_narrows_records<D: Database>(log: Log<D>) {
    filled(&log).await;
    let count = async |filter: RecordFilter| listed(&log, &filter, 3).await.len();
    let all = RecordFilter::all;

    assert_eq!(count(all().topic("b")).await, 10);
    assert_eq!(count(all().topic("b").state(RecordState::Failed)).await, 6);
    assert_eq!(
        count(all().state(RecordState::Acked).state(RecordState::Pending)).await,
        12
    );
    assert_eq!(count(all().reason("queue")).await, 18);
    assert_eq!(count(all().reason("q%e")).await, 0);
    assert_eq!(count(all().key("k")).await, 0);
    let id = |number: u128| MessageId(uuid::Uuid::from_u128(number));
    assert_eq!(count(all().ids([id(1), id(101), id(9_999)])).await, 2);
    assert_eq!(
        count(all().ids([id(1), id(101)]).state(RecordState::Pending)).await,
        1
    );
    assert_eq!(count(all().ids([])).await, 0);
    let hour = std::time::Duration::from_secs(3600);
    assert_eq!(count(all().older_than(hour)).await, 0);
    let first = listed(&log, &all(), 1_000).await.remove(0);
    assert_eq!(count(all().before(first.written_at - hour)).await, 0);
    assert_eq!(count(all().before(first.written_at + hour)).await, 25);
}

async fn a_record_is_shown_with_its_message<D: Database>(log: Log<D>) {
    let bus = outbox_bus(&log, &MemoryBroker::new());
    bus.migrate().await.expect("migrate");
    let sent = bus
        .publish("placed", &7_i64)
        .key("k")
        .header("tenant", "acme");
    let id = sent.await.expect("publish");

    let whole = shop(&log).record(id).await.expect("read").expect("there");

    assert_eq!(
        (whole.info.id, whole.info.state),
        (id, RecordState::Pending)
    );
    assert_eq!(
        (&*whole.info.topic, whole.info.key.as_deref()),
        ("placed", Some("k"))
    );
    let message = whole.message.expect("a message");
    assert_eq!(message.headers().get("tenant"), Some("acme"));
    assert_eq!(
        rmp_serde::from_slice::<i64>(message.payload()).expect("a number"),
        7
    );
    assert!(
        shop(&log)
            .record(MessageId::new())
            .await
            .expect("read")
            .is_none()
    );
}

async fn a_record_that_is_leased_is_in_hand<D: Database>(log: Log<D>) {
    filled(&log).await;
    let (owner, later) = match D::NAME {
        "PostgreSQL" => (
            "'00000000-0000-0000-0000-000000000007'",
            "clock_timestamp() + interval '1 hour'",
        ),
        "MySQL" => (
            "x'00000000000000000000000000000007'",
            "UTC_TIMESTAMP(6) + INTERVAL 1 HOUR",
        ),
        _ => (
            "x'00000000000000000000000000000007'",
            "unixepoch() * 1000 + 3600000",
        ),
    };
    let one = match D::NAME {
        "PostgreSQL" => "'00000000-0000-0000-0000-000000000003'",
        _ => "x'00000000000000000000000000000003'",
    };
    log.run(&format!(
        "UPDATE final_shop_outbox SET claimed_by = {owner}, available_at = {later} WHERE message_id = {one}"
    ))
    .await;

    let held = listed(&log, &RecordFilter::all().state(RecordState::InHand), 10).await;

    assert_eq!(held.len(), 1);
    assert_eq!(held[0].id.0.as_u128(), 3);
    assert_eq!(held[0].owner.expect("an owner").as_u128(), 7);
    assert!(held[0].lease_left.is_some());
    let pending = listed(&log, &RecordFilter::all().state(RecordState::Pending), 10).await;
    assert_eq!(pending.len(), 6);
}
