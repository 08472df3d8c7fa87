//! The overview says what waits, who has it, and what does not move and why.

use final_core::{
    HandlerError, MemoryBroker, Router,
    admin::{AdminError, LetterSource, NotMoving},
};

use super::{admin, comes_true, fill, kill, outbox_bus, refusing, shop};
use crate::{
    database::Database,
    log::{Held, Log, publish},
};

crate::log_suite!(
    an_overview_counts_each_state,
    a_parked_topic_is_told_with_its_reason,
    a_process_that_has_records_is_named_and_one_that_is_gone_too,
    lanes_without_a_member_and_their_backlog_are_told,
    a_group_tells_its_members_and_lanes,
    dead_letters_are_told_last,
    a_service_that_nobody_knows_is_told_with_those_that_are_known,
);

async fn an_overview_counts_each_state<D: Database>(log: Log<D>) {
    outbox_bus(&log, &MemoryBroker::new())
        .migrate()
        .await
        .expect("migrate");
    for (status, from, count) in [(0, 0, 7), (1, 100, 3), (2, 200, 4), (3, 300, 2)] {
        log.run(&fill::<D>(status, "placed", from, count)).await;
    }

    let overview = shop(&log).overview().await.expect("an overview");

    let outbox = overview.outbox.expect("an outbox");
    let counts = [
        outbox.pending,
        outbox.in_hand,
        outbox.unroutable,
        outbox.failed,
    ];
    assert_eq!(counts.map(|count| count.number), [7, 0, 3, 2]);
    assert!(counts.iter().all(|count| !count.more));
    assert!(outbox.oldest_due.is_some());
    assert!(overview.group.is_none() && overview.dead.is_empty());
    let words: Vec<String> = overview
        .not_moving
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(words.len(), 2, "{words:?}");
    assert!(
        words[0].starts_with("3 of topic \"placed\" cannot be sent"),
        "{words:?}"
    );
    assert!(
        words[1].contains("2 failed") && words[1].contains("no queue for it"),
        "{words:?}"
    );
}

async fn a_parked_topic_is_told_with_its_reason<D: Database>(log: Log<D>) {
    let bus = outbox_bus(&log, &MemoryBroker::new());
    bus.start(Router::new()).await.expect("start");
    bus.publish("nobody.reads", &1_i64).await.expect("publish");
    bus.publish("nobody.reads", &2_i64).await.expect("publish");

    comes_true("both records are parked", async || {
        let overview = shop(&log).overview().await.expect("an overview");
        overview.outbox.expect("an outbox").unroutable.number == 2
    })
    .await;
    let overview = shop(&log).overview().await.expect("an overview");
    let parked = overview.outbox.expect("an outbox").parked.remove(0);
    assert_eq!((&*parked.topic, parked.count.number), ("nobody.reads", 2));
    let reason = parked.reason.expect("a reason");
    assert!(!reason.is_empty());
    let stuck = overview.not_moving.first().expect("stuck");
    assert!(matches!(stuck, NotMoving::Parked { .. }), "{stuck:?}");
    assert!(stuck.to_string().contains(&reason), "{stuck}");
    bus.shutdown().await.expect("shutdown");
}

/// A claim on all records of `shop` by an owner, for so many seconds.
fn claim<D: Database>(owner: u8, number: u8, seconds: i32) -> String {
    let owner = format!("{owner:032x}");
    let (owner, first, last, until) = match D::NAME {
        "PostgreSQL" => (
            format!("'{owner}'::uuid"),
            "'00000000-0000-0000-0000-000000000000'".to_owned(),
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'".to_owned(),
            format!("clock_timestamp() + interval '{seconds} seconds'"),
        ),
        "MySQL" => (
            format!("x'{owner}'"),
            format!("x'{}'", "00".repeat(16)),
            format!("x'{}'", "ff".repeat(16)),
            format!("UTC_TIMESTAMP(6) + INTERVAL {seconds} SECOND"),
        ),
        _ => (
            format!("x'{owner}'"),
            format!("x'{}'", "00".repeat(16)),
            format!("x'{}'", "ff".repeat(16)),
            format!("unixepoch() * 1000 + {seconds} * 1000"),
        ),
    };
    format!(
        "INSERT INTO final_shop_claims (number, owner, live_until, first_at, first_id, last_at, last_id) \
         SELECT {number}, {owner}, {until}, min(available_at), {first}, max(available_at), {last} \
         FROM final_shop_outbox"
    )
}

async fn a_process_that_has_records_is_named_and_one_that_is_gone_too<D: Database>(log: Log<D>) {
    outbox_bus(&log, &MemoryBroker::new())
        .migrate()
        .await
        .expect("migrate");
    log.run(&fill::<D>(0, "placed", 0, 12)).await;
    log.run(&claim::<D>(7, 1, -60)).await;

    let gone = shop(&log).overview().await.expect("an overview");
    let owners = &gone.outbox.as_ref().expect("an outbox").owners;
    assert_eq!(
        (owners.len(), owners[0].records.number, owners[0].left),
        (1, 12, None)
    );
    let stuck = gone.not_moving.first().expect("stuck");
    assert!(matches!(stuck, NotMoving::OwnerGone { .. }), "{stuck:?}");
    assert!(
        stuck
            .to_string()
            .contains("00000000-0000-0000-0000-000000000007"),
        "{stuck}"
    );

    log.run(&claim::<D>(8, 2, 60)).await;
    let held = shop(&log).overview().await.expect("an overview");
    let outbox = held.outbox.expect("an outbox");
    assert_eq!(outbox.in_hand.number, 12);
    assert_eq!(
        (outbox.owners.len(), outbox.owners[0].records.number),
        (1, 12)
    );
    assert!(outbox.owners[0].left.is_some());
    assert!(held.not_moving.is_empty(), "{:?}", held.not_moving);
}

async fn lanes_without_a_member_and_their_backlog_are_told<D: Database>(log: Log<D>) {
    let (mail, _) = log.noting("shop", &["placed"]).await;
    mail.shutdown().await.expect("shutdown");
    publish(&log.bus("other"), "placed", 0..30).await;

    let overview = shop(&log).overview().await.expect("an overview");

    let group = overview.group.expect("a group");
    assert_eq!((group.waiting.number, group.members), (30, 0));
    assert_eq!((group.lanes, group.lanes_without_member), (16, 16));
    assert_eq!(group.topics, ["placed"]);
    assert!(group.oldest.is_some());
    let stuck = overview.not_moving.first().expect("stuck").to_string();
    assert!(
        stuck.starts_with("16 of 16 lanes") && stuck.contains("30 messages"),
        "{stuck}"
    );
}

async fn a_group_tells_its_members_and_lanes<D: Database>(log: Log<D>) {
    let (held, bus) = (Held::new(), log.bus("shop"));
    bus.start(held.router("placed")).await.expect("start");
    log.shared_by("shop", 1).await;
    publish(&bus, "placed", 0..5).await;
    held.begun.reach(5).await;
    log.has_open("shop", 5).await;

    let groups = admin(&log).groups().await.expect("groups");
    let lanes = shop(&log).lanes().await.expect("lanes");

    assert_eq!(
        (groups.len(), &*groups[0].name, groups[0].members),
        (1, "shop", 1)
    );
    assert_eq!(
        (groups[0].waiting.number, groups[0].lanes_without_member),
        (0, 0)
    );
    assert!(groups[0].oldest.is_some(), "five are in hand");
    assert_eq!(lanes.len(), 16);
    assert!(
        lanes
            .iter()
            .all(|lane| lane.lease_left.is_some() && lane.member.is_some())
    );
    assert_eq!(lanes.iter().map(|lane| lane.open_count).sum::<u64>(), 5);
    held.let_go(5);
    held.done.reach(5).await;
    bus.shutdown().await.expect("shutdown");
    assert!(shop(&log).forget_group().await.expect("forgotten"));
    assert!(admin(&log).groups().await.expect("groups").is_empty());
}

async fn dead_letters_are_told_last<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..3, 3).await;
    bus.shutdown().await.expect("shutdown");
    publish(&log.bus("other"), "placed", 0..2).await;

    let overview = shop(&log).overview().await.expect("an overview");

    assert_eq!((overview.dead.len(), overview.dead[0].count.number), (1, 3));
    assert_eq!(overview.dead[0].source, LetterSource::Log);
    assert!(overview.dead[0].oldest.is_some());
    let [lanes, letters] = &overview.not_moving[..] else {
        panic!("{:?}", overview.not_moving);
    };
    assert!(
        matches!(lanes, NotMoving::LanesWithoutMember { .. }),
        "{lanes:?}"
    );
    assert!(
        letters.to_string().starts_with("3 dead letters (log)"),
        "{letters}"
    );
}

async fn a_service_that_nobody_knows_is_told_with_those_that_are_known<D: Database>(log: Log<D>) {
    let router = Router::new().route("placed", async || Ok::<_, HandlerError>(()));
    let bus = log.bus("mail");
    bus.start(router).await.expect("start");

    for name in ["shop", "No Name!", ""] {
        let unknown = admin(&log)
            .service(name)
            .overview()
            .await
            .expect_err("unknown");
        assert!(
            matches!(&unknown, AdminError::UnknownService { .. }),
            "{unknown:?}"
        );
        assert!(unknown.to_string().contains("mail"), "{unknown}");
    }
    bus.shutdown().await.expect("shutdown");
}
