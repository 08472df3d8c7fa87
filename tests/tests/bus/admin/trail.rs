//! The trail says where a message is and why, at each station of its way.

use std::time::Duration;

use final_core::{
    MemoryBroker, MessageId, Router,
    admin::{Action, GroupPosition, Pace, RecordState, Station, Trail},
    broker::DeadLetterFilter,
};

use super::{admin, comes_true, outbox_bus, refusing, shop};
use crate::{
    database::Database,
    log::{Held, Log},
};

crate::log_suite!(
    a_message_of_the_log_is_followed_from_its_delay_to_its_settlement,
    a_message_that_dies_is_followed_to_its_letter_and_back,
    a_message_of_an_outbox_is_followed,
    a_message_in_a_long_log_is_found_by_the_time_of_its_id,
);

async fn trail<D: Database>(log: &Log<D>, id: MessageId) -> Trail {
    shop(log).trail(id).await.expect("a trail")
}

/// How far the group `shop` is with the last row of a message.
fn position(trail: &Trail) -> Option<GroupPosition> {
    trail
        .stations
        .iter()
        .rev()
        .find_map(|station| match station {
            Station::Group {
                group, position, ..
            } if group == "shop" => Some(*position),
            _ => None,
        })
}

async fn position_comes_to<D: Database>(
    log: &Log<D>,
    id: MessageId,
    wanted: impl Fn(GroupPosition) -> bool,
) {
    comes_true("the position of the group", async || {
        position(&trail(log, id).await).is_some_and(&wanted)
    })
    .await;
}

async fn a_message_of_the_log_is_followed_from_its_delay_to_its_settlement<D: Database>(
    log: Log<D>,
) {
    let (held, bus) = (Held::new(), log.bus("shop"));
    bus.start(held.router("placed")).await.expect("start");
    // A second group that reads nothing keeps the row in the log.
    let (mail, _) = log.noting("mail", &["placed"]).await;
    mail.shutdown().await.expect("shutdown");
    let later = bus
        .publish("placed", &1_i64)
        .delay(Duration::from_secs(3600));
    let later = later.await.expect("publish");
    let now = bus.publish("placed", &2_i64).await.expect("publish");

    let delayed = trail(&log, later).await;
    assert!(
        matches!(&delayed.stations[..], [Station::Scheduled { .. }]),
        "{delayed:?}"
    );
    assert!(
        delayed
            .to_string()
            .contains("not due yet, for another 59 min"),
        "{delayed}"
    );
    held.begun.reach(1).await;
    position_comes_to(&log, now, |position| position == GroupPosition::Open).await;
    let open = trail(&log, now).await;
    assert!(open.is_complete);
    let told = open.to_string();
    assert!(
        told.contains("a handler has it") && told.contains("Group mail"),
        "{told}"
    );
    assert!(told.contains("no running process has lane"), "{told}");
    held.let_go(1);
    position_comes_to(&log, now, |position| position == GroupPosition::Settled).await;
    bus.shutdown().await.expect("shutdown");

    let waiting = bus_alone(&log).await;
    let waits = trail(&log, waiting).await;
    assert!(
        matches!(position(&waits), Some(GroupPosition::Waiting { .. })),
        "{waits}"
    );
    let all = admin(&log).trail(waiting).await.expect("a trail");
    assert_eq!(all.stations.len(), waits.stations.len());
    let nowhere = trail(&log, MessageId::new()).await;
    assert!(nowhere.stations.is_empty());
    assert!(
        nowhere.to_string().contains("No place knows it"),
        "{nowhere}"
    );
}

/// Publishes a message while nobody reads.
async fn bus_alone<D: Database>(log: &Log<D>) -> MessageId {
    log.bus("other")
        .publish("placed", &3_i64)
        .await
        .expect("publish")
}

async fn a_message_that_dies_is_followed_to_its_letter_and_back<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;
    let id = bus.publish("placed", &7_i64).await.expect("publish");
    log.comes_to("SELECT count(*) FROM final_log_dead", 1).await;
    bus.shutdown().await.expect("shutdown");

    let dead = trail(&log, id).await;
    let letter = dead.stations.iter().find_map(|station| match station {
        Station::Dead(letter) => Some(letter),
        _ => None,
    });
    assert_eq!(letter.expect("a letter").id, id);
    assert!(dead.to_string().contains("refused, 100%_7"), "{dead}");
    let filter = DeadLetterFilter::all().id(id);
    let plan = shop(&log)
        .plan(Action::Replay, &filter, "ann")
        .await
        .expect("a plan");
    let done = admin(&log)
        .carry_out(plan.id, Pace::unlimited(), |_| {})
        .await;
    assert_eq!(done.expect("carried out").done, 1);

    let back = trail(&log, id).await;
    assert!(
        matches!(position(&back), Some(GroupPosition::Waiting { .. })),
        "{back}"
    );
    let told = back.to_string();
    assert!(told.contains("for shop alone"), "{told}");
    assert!(
        told.contains("Operation 1 of ann: replay, done, 1 done"),
        "{told}"
    );
    assert!(!told.contains("Dead letter"), "{told}");
}

async fn a_message_of_an_outbox_is_followed<D: Database>(log: Log<D>) {
    let broker = MemoryBroker::new();
    let bus = outbox_bus(&log, &broker);
    bus.migrate().await.expect("migrate");
    let id = bus.publish("nobody.reads", &7_i64).await.expect("publish");
    let state = async || match &trail(&log, id).await.stations[..] {
        [Station::Record { record, .. }] => Some(record.state),
        _ => None,
    };

    assert_eq!(state().await, Some(RecordState::Pending));
    assert!(
        trail(&log, id)
            .await
            .to_string()
            .contains("due, and no process has it")
    );
    bus.start(Router::new()).await.expect("start");
    comes_true("the record is parked", async || {
        state().await == Some(RecordState::Unroutable)
    })
    .await;
    let told = trail(&log, id).await.to_string();
    assert!(
        told.contains("until its topic can be sent to") && told.contains("the last answer"),
        "{told}"
    );
    bus.shutdown().await.expect("shutdown");
    log.run("UPDATE final_shop_outbox SET status = 3").await;
    assert_eq!(state().await, Some(RecordState::Failed));
    log.run("UPDATE final_shop_outbox SET status = 2").await;
    assert_eq!(state().await, Some(RecordState::Acked));
}

async fn a_message_in_a_long_log_is_found_by_the_time_of_its_id<D: Database>(log: Log<D>) {
    let bus = log.bus("shop");
    bus.migrate().await.expect("migrate");
    let old = |hours: i64| {
        format!(
            "INSERT INTO final_log (message_id, topic, payload, content_type, durable, lane, weight, created_at) \
             SELECT {}, 'old', {}, '', 1, 0, 1, {} - {hours} * 3600000000 FROM {}",
            match D::NAME {
                "PostgreSQL" => "gen_random_uuid()",
                "MySQL" => "UNHEX(LPAD(HEX(n), 32, '0'))",
                _ => "randomblob(16)",
            },
            if D::NAME == "PostgreSQL" {
                "'\\x07'::bytea"
            } else {
                "x'07'"
            },
            match D::NAME {
                "PostgreSQL" => "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
                "MySQL" =>
                    "TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00.000000', UTC_TIMESTAMP(6))",
                _ => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
            },
            super::numbers::<D>(60_000)
        )
    };
    log.run(&old(5)).await;
    let id = bus.publish("placed", &7_i64).await.expect("publish");
    log.run(&old(-1)).await;

    let found = trail(&log, id).await;

    assert!(
        matches!(&found.stations[..], [Station::Logged { .. }]),
        "{found}"
    );
    assert!(!found.is_complete);
    let nowhere = trail(&log, MessageId::new()).await;
    assert!(nowhere.stations.is_empty() && !nowhere.is_complete);
    assert!(
        nowhere.to_string().contains("Not every row was looked at"),
        "{nowhere}"
    );
}
