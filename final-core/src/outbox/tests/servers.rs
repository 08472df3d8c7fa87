//! What only holds where several write at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::Notify;
use uuid::Uuid;

pub(super) use super::letters::letters_whose_replay_takes_too_long_are_replayed_in_smaller_parts;
use super::{
    House, Outbox,
    house::{LEASE, ids, message, shop},
};
use crate::{
    Bus, MemoryBroker, Options, Router,
    broker::{Broker, BrokerError, Opened, Setup},
    outbox::{NewRecord, RecordId},
};

/// Everything here answers at once, or waits for the other transaction until the server's own limit for
/// locks, which is longer.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(40), work)
        .await
        .expect("it waited for somebody else's lock")
}

pub(super) async fn settling_does_not_wait_for_a_callers_open_insert<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 12).await;
    let (relay, s, me) = (&outbox.relay, &outbox.s, outbox.me);
    let message = message("order.placed");
    let mut open = outbox.begin().await;
    DB::insert(&mut open, s, &[NewRecord::plain(&message)], true)
        .await
        .unwrap();

    assert_eq!(ids(&soon(outbox.claim(100)).await), all);
    let settled = soon(async {
        let wait = Duration::ZERO;
        [
            DB::renew(relay, s, &all, me, LEASE).await,
            DB::delete(relay, s, &all[..2]).await,
            DB::release(relay, s, &all[2..4], me, LEASE).await,
            DB::put_back(relay, s, &all[4..6], me, LEASE, "nack", false).await,
            DB::park(relay, s, &all[6..8], me, "no queue").await,
            DB::unpark(relay, s, "order.placed", 10).await,
            DB::fail(relay, s, &all[8..10], me, "broken").await,
            DB::retry_failed(relay, s, None).await,
            DB::mark_acked(relay, s, &all[10..]).await,
            DB::purge_acked(relay, s, wait, 10, 0).await,
            DB::purge_all(relay, s).await,
        ]
    });

    assert_eq!(
        settled.await.map(Result::unwrap),
        [12, 2, 2, 2, 2, 2, 2, 2, 2, 2, 8]
    );
    open.commit().await.unwrap();
    assert_eq!(ids(&outbox.claim(10).await), [message.id().0]);
}

/// The caller's record comes before all others in the table, and these are nearly all that is in it: a database
/// may find it cheaper to go through the whole table than to look each of them up.
pub(super) async fn settling_does_not_wait_for_an_open_insert_before_all_others<DB: House>() {
    for count in [12, 50, 300] {
        let outbox = Outbox::<DB>::new().await;
        let (relay, s, me) = (&outbox.relay, &outbox.s, outbox.me);
        let message = message("order.placed");
        let mut open = outbox.begin().await;
        DB::insert(&mut open, s, &[NewRecord::plain(&message)], true)
            .await
            .unwrap();
        let all = outbox.fill("order.placed", count).await;

        assert_eq!(ids(&soon(outbox.claim(1_000)).await), all);
        let settled = soon(async {
            [
                DB::renew(relay, s, &all, me, LEASE).await,
                DB::mark_acked(relay, s, &all[..2]).await,
                DB::delete(relay, s, &all).await,
            ]
        });

        let count = count as u64;
        assert_eq!(settled.await.map(Result::unwrap), [count, 2, count]);
        open.commit().await.unwrap();
    }
}

pub(super) async fn inserts_claims_and_settling_at_once_do_not_deadlock<DB: House>() {
    let outbox = Arc::new(Outbox::<DB>::new().await);
    let end = Instant::now() + Duration::from_secs(2);
    let writer = |outbox: Arc<Outbox<DB>>| async move {
        while Instant::now() < end {
            let all = outbox.fill("order.placed", 20).await;
            DB::delete(&outbox.relay, &outbox.s, &all[..10]).await?;
        }
        Ok::<_, sqlx::Error>(())
    };
    let scanner = |outbox: Arc<Outbox<DB>>| async move {
        let (me, wait) = (Uuid::now_v7(), Duration::from_millis(5));
        while Instant::now() < end {
            let mine = ids(&outbox.claim_as(me, 30).await);
            let (relay, s, half) = (&outbox.relay, &outbox.s, mine.len() / 2);
            DB::renew(relay, s, &mine, me, LEASE).await?;
            DB::put_back(relay, s, &mine[..half], me, wait, "nack", false).await?;
            DB::delete(relay, s, &mine[half..]).await?;
        }
        Ok::<_, sqlx::Error>(())
    };

    let writers = (0..3).map(|_| tokio::spawn(writer(Arc::clone(&outbox))));
    let scanners = (0..3).map(|_| tokio::spawn(scanner(Arc::clone(&outbox))));
    let writers = futures::future::join_all(writers);
    let (writers, scanners) = tokio::join!(writers, futures::future::join_all(scanners));

    for result in writers.into_iter().chain(scanners) {
        result.unwrap().unwrap();
    }
}

/// What commits late has a place in the order that others have passed.
pub(super) async fn what_commits_in_the_midst_of_a_claim_is_due_when_that_is_finished<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let pause = Duration::from_millis(2);
    outbox.fill("order.placed", 1).await;
    tokio::time::sleep(pause).await;
    let late = message("order.placed");
    let mut open = outbox.begin().await;
    DB::insert(&mut open, &outbox.s, &[NewRecord::plain(&late)], true)
        .await
        .unwrap();
    tokio::time::sleep(pause).await;
    outbox.fill("order.placed", 1).await;
    let claim = outbox.claim_for(outbox.me, None, 10, LEASE).await.unwrap();
    let number = claim.number;
    let next_due = || DB::next_due(&outbox.relay, &outbox.s);

    open.commit().await.unwrap();
    assert!(outbox.claim(10).await.is_empty());
    assert!(next_due().await.unwrap().unwrap() > LEASE / 2);
    // Nor does who has the claim get to see it.
    assert_eq!(outbox.read(claim).await.len(), 2);
    DB::finish(&outbox.relay, &outbox.s, &[number], outbox.me)
        .await
        .unwrap();

    assert_eq!(next_due().await.unwrap(), Some(Duration::ZERO));
    let left = outbox.claim(10).await;
    assert_eq!(ids(&left)[1], late.id().0);
}

pub(super) async fn claims_pass_over_what_another_has_locked<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 3).await;
    let mut other = DB::begin(&outbox.relay).await.unwrap();
    let lock = format!(
        "SELECT COUNT(*) FROM (SELECT message_id FROM {} ORDER BY message_id LIMIT 1 FOR UPDATE) l",
        DB::table(&outbox.s)
    );
    DB::number(&mut other, &lock).await;

    let claimed = soon(outbox.claim(10)).await;

    assert_eq!(ids(&claimed), all[1..]);
}

pub(super) async fn a_topic_is_released_but_for_what_another_has_locked<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 3).await;
    outbox.claim(10).await;
    let (relay, s, me) = (&outbox.relay, &outbox.s, outbox.me);
    DB::park(relay, s, &all, me, "no queue").await.unwrap();
    let mut other = DB::begin(&outbox.relay).await.unwrap();
    let lock = format!(
        "SELECT COUNT(*) FROM (SELECT message_id FROM {} ORDER BY message_id LIMIT 1 FOR UPDATE) l",
        DB::table(&outbox.s)
    );
    DB::number(&mut other, &lock).await;

    let probe = soon(DB::claim_parked(relay, s, "order.placed", me, LEASE)).await;
    assert_eq!(probe.unwrap().map(|record| record.id.0), Some(all[1]));
    let released = soon(DB::unpark(relay, s, "order.placed", 10)).await;
    assert_eq!(released.unwrap(), 1);
}

/// Two who look at the same time: what one passed over would be hidden by its claim.
pub(super) async fn claims_do_not_pass_over_what_another_only_looks_at<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 3).await;
    let mut other = DB::begin(&outbox.relay).await.unwrap();
    let share = match DB::NAME {
        "PostgreSQL" => "FOR SHARE",
        _ => "LOCK IN SHARE MODE",
    };
    let look = format!(
        "SELECT COUNT(*) FROM (SELECT message_id FROM {} ORDER BY message_id LIMIT 1 {share}) l",
        DB::table(&outbox.s)
    );
    DB::number(&mut other, &look).await;

    assert_eq!(ids(&soon(outbox.claim(10)).await), all);
}

pub(super) async fn an_empty_claim_does_not_block_a_callers_insert<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let later = message("order.placed");
    let delayed = NewRecord {
        delay: Duration::from_secs(60),
        ..NewRecord::plain(&later)
    };
    outbox.insert(&[delayed]).await;

    // As the claim looks at the table, in a transaction of the relay that stays open.
    let mut open = DB::begin(&outbox.relay).await.unwrap();
    let due = format!(
        "SELECT COUNT(*) FROM (SELECT message_id FROM {} \
         WHERE status = 0 AND available_at <= '2001-01-01' \
         ORDER BY available_at, message_id LIMIT 10 FOR UPDATE SKIP LOCKED) d",
        DB::table(&outbox.s)
    );
    assert_eq!(DB::number(&mut open, &due).await, 0);

    soon(outbox.fill("order.placed", 3)).await;
}

pub(super) async fn the_relay_reads_what_is_committed<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let count = format!("SELECT COUNT(*) FROM {}", DB::table(&outbox.s));
    let mut open = DB::begin(&outbox.relay).await.unwrap();
    assert_eq!(DB::number(&mut open, &count).await, 0);

    outbox.fill("order.placed", 1).await;

    assert_eq!(DB::number(&mut open, &count).await, 1);
}

pub(super) async fn a_callers_own_schema_does_not_redirect_the_insert<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let name = format!("elsewhere_{}", Uuid::now_v7().simple());
    let message = message("order.placed");
    let mut conn = outbox.pool.acquire().await.unwrap();
    DB::execute(&mut conn, &format!("CREATE SCHEMA {name}")).await;
    let switch = if DB::NAME == "PostgreSQL" {
        format!("SET search_path = {name}")
    } else {
        format!("USE {name}")
    };
    DB::script(&mut conn, &switch).await;

    DB::insert(&mut conn, &outbox.s, &[NewRecord::plain(&message)], false)
        .await
        .unwrap();

    assert_eq!(ids(&outbox.claim(10).await), [message.id().0]);
}

pub(super) async fn the_startup_lock_keeps_others_from_migrating<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let other = DB::relay_pool(&outbox.pool);
    let lock = DB::lock_migrations(&outbox.relay).await.unwrap();

    let migrate = tokio::spawn(async move { DB::migrate(&other, &shop()).await });
    tokio::time::sleep(Duration::from_millis(300)).await;

    assert!(!migrate.is_finished());
    drop(lock);
    soon(migrate).await.unwrap().unwrap();
}

/// Opens when it is told to.
#[derive(Clone, Default)]
struct Gate {
    opening: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl Broker for Gate {
    fn open(&self, setup: Setup) -> BoxFuture<'_, Result<Opened, BrokerError>> {
        let open = async move {
            self.opening.notify_one();
            self.go_on.notified().await;
            MemoryBroker::new().open(setup).await
        };
        open.boxed()
    }
}

/// Who migrates is about to start, and to write what the purge would take along.
pub(super) async fn nobody_migrates_while_a_start_purges<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let gate = Gate::default();
    let bus = Bus::new(shop().as_str(), outbox.pool.clone(), gate.clone())
        .with_options(Options::default().purge_on_startup(true));
    let starting = bus.clone();
    let start = tokio::spawn(async move { starting.start(Router::new()).await });
    soon(gate.opening.notified()).await;

    let other = DB::relay_pool(&outbox.pool);
    let migrate = tokio::spawn(async move { DB::migrate(&other, &shop()).await });
    tokio::time::sleep(Duration::from_millis(300)).await;

    assert!(!migrate.is_finished());
    gate.go_on.notify_one();
    soon(start).await.unwrap().unwrap();
    soon(migrate).await.unwrap().unwrap();
    bus.shutdown().await.unwrap();
}

/// A publisher that gives a message an id must not wait for another one that has given the same id.
pub(super) async fn two_open_transactions_publish_one_id_and_wait_for_neither<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let s = &outbox.s;
    let message = message("order.placed");
    let named = || NewRecord {
        id: RecordId::new(),
        ..NewRecord::plain(&message)
    };
    // One that a bus gave its id, and two whose publishers chose the same one.
    let (mut first, mut second, mut third) = (
        outbox.begin().await,
        outbox.begin().await,
        outbox.begin().await,
    );
    let at_once = async {
        DB::insert(&mut first, s, &[NewRecord::plain(&message)], true)
            .await
            .unwrap();
        DB::insert(&mut second, s, &[named()], true).await.unwrap();
        DB::insert(&mut third, s, &[named(), named()], true)
            .await
            .unwrap();
    };
    tokio::time::timeout(Duration::from_secs(5), at_once)
        .await
        .expect("it waited for another transaction");
    third.commit().await.unwrap();
    first.rollback().await.unwrap();
    second.commit().await.unwrap();

    let claimed = outbox.claim(10).await;
    let told = claimed.iter().map(|claimed| claimed.record.message_id);
    assert_eq!(told.collect::<Vec<_>>(), [message.id(); 3]);
}

/// A change of the table waits for transactions that have written to it, and every later INSERT would wait behind it.
pub(super) async fn an_upgrade_lets_others_publish_while_it_waits_for_an_open_transaction<
    DB: House,
>() {
    let outbox = super::sent_as::of_version_4::<DB>().await;
    let (relay, s) = (&outbox.relay, &outbox.s);
    let messages: Vec<_> = (0..12).map(|_| message("order.placed")).collect();
    let mut open = outbox.begin().await;
    DB::insert(&mut open, s, &[NewRecord::plain(&messages[0])], true)
        .await
        .unwrap();
    let upgrade = tokio::spawn({
        let relay = relay.clone();
        async move { DB::migrate(&relay, &shop()).await }
    });

    for message in &messages[1..] {
        let record = [NewRecord::plain(message)];
        let others = outbox.insert(&record);
        tokio::time::timeout(Duration::from_secs(5), others)
            .await
            .expect("it waited for the upgrade");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(!upgrade.is_finished(), "the upgrade did not wait");
    open.commit().await.unwrap();

    soon(upgrade).await.unwrap().unwrap();
    assert_eq!(outbox.claim(100).await.len(), 12);
}
