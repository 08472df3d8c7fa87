//! Random histories of two owners on SQLite, beside a model that says what each record must be.
//!
//! Time is moved by shifting the table, so that hours pass at once. All lengths are whole minutes: what
//! really passes meanwhile decides nothing.

use std::{collections::BTreeMap, time::Duration};

use proptest::{prelude::*, test_runner::TestRunner};
use sqlx::{AssertSqlSafe, Sqlite};
use uuid::Uuid;

use super::Outbox;
use super::calls::Calls;
use crate::{Message, outbox::NewRecord};

const TOPICS: [&str; 2] = ["order.placed", "order.paid"];
const LEASE: u64 = 10;
/// Half a minute off, so that nothing is just as old.
const AGE: Duration = Duration::from_secs(20 * 60 + 30);

/// Which records: each bit is one of those inserted, counted from the youngest.
type Which = u8;

#[derive(Clone, Debug)]
enum Step {
    Insert {
        topic: usize,
        wait: u64,
        leased: bool,
        parked: bool,
    },
    Claim {
        limit: u32,
    },
    /// The youngest but so many.
    Finish(usize),
    ClaimParked {
        topic: usize,
    },
    Renew(Which),
    Release(Which, u64),
    PutBack(Which, u64, bool),
    Park(Which),
    Fail(Which),
    Delete(Which),
    MarkAcked(Which),
    Unpark {
        topic: usize,
        limit: u32,
    },
    RetryFailed(Option<Which>),
    PurgeAcked {
        limit: u32,
    },
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = (usize, Step)> {
    use Step::*;
    let wait = prop_oneof![Just(0), 1..15_u64];
    let topic = 0..TOPICS.len();
    let step = prop_oneof![
        6 => (topic.clone(), wait.clone(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(topic, wait, leased, parked)| Insert { topic, wait, leased, parked }),
        6 => (1..5_u32).prop_map(|limit| Claim { limit }),
        2 => (0..4_usize).prop_map(Finish),
        2 => topic.clone().prop_map(|topic| ClaimParked { topic }),
        2 => any::<u8>().prop_map(Renew),
        2 => (any::<u8>(), wait.clone()).prop_map(|(which, wait)| Release(which, wait)),
        2 => (any::<u8>(), wait, any::<bool>()).prop_map(|(which, wait, fault)| PutBack(which, wait, fault)),
        2 => any::<u8>().prop_map(Park),
        2 => any::<u8>().prop_map(Fail),
        1 => any::<u8>().prop_map(Delete),
        1 => any::<u8>().prop_map(MarkAcked),
        1 => (topic, 1..4_u32).prop_map(|(topic, limit)| Unpark { topic, limit }),
        1 => prop::option::of(any::<u8>()).prop_map(RetryFailed),
        1 => (1..4_u32).prop_map(|limit| PurgeAcked { limit }),
        3 => (1..25_u64).prop_map(Pass),
    ];
    (0..2_usize, step)
}

/// What the table must hold of a record.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    topic: &'static str,
    status: i64,
    owner: Option<Uuid>,
    attempts: i64,
    faults: i64,
    /// In minutes; after it the record is due, or its lease is over.
    available: u64,
    /// The claim it was taken with, until something else happens to it.
    claim: Option<usize>,
    acked: u64,
}

/// Whose a claim is and when it runs out.
#[derive(Clone, Copy, Debug)]
struct Claimed {
    number: i64,
    owner: Uuid,
    until: u64,
}

impl Row {
    /// Pending, and nobody's for now.
    fn free(&mut self, at: u64) {
        (self.status, self.owner, self.available) = (0, None, at);
        self.claim = None;
    }

    fn lease(&mut self, owner: Uuid, until: u64) {
        self.free(until);
        self.owner = Some(owner);
    }

    fn set_aside(&mut self, status: i64) {
        (self.status, self.owner, self.claim) = (status, None, None);
        self.attempts += 1;
    }
}

struct World<'a> {
    outbox: &'a Outbox<Sqlite>,
    owners: [Uuid; 2],
    rows: BTreeMap<Uuid, Row>,
    claims: Vec<Claimed>,
    inserted: Vec<Uuid>,
    gone: Vec<Uuid>,
    now: u64,
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

impl World<'_> {
    fn ids(&self, which: Which) -> Vec<Uuid> {
        let youngest = self.inserted.iter().rev().enumerate();
        youngest
            .filter(|(at, _)| *at < 8 && which & (1 << at) != 0)
            .map(|(_, id)| *id)
            .collect()
    }

    /// Changes what the owner may change, and returns how many that are.
    fn change(&mut self, ids: &[Uuid], owner: Uuid, change: impl Fn(&mut Row)) -> u64 {
        let (now, claims) = (self.now, self.claims.clone());
        let is_leased = |row: &Row| row.owner == Some(owner) && row.available > now;
        let is_claimed = |row: &Row| {
            let claim = row.claim.map(|claim| claims[claim]);
            claim.is_some_and(|claim| claim.owner == owner && claim.until > now)
        };
        self.change_if(
            ids,
            |row| row.status == 0 && (is_leased(row) || is_claimed(row)),
            change,
        )
    }

    fn is_due(&self, row: &Row) -> bool {
        let is_claimed = row
            .claim
            .is_some_and(|claim| self.claims[claim].until > self.now);
        row.status == 0 && row.available <= self.now && !is_claimed
    }

    fn change_if(
        &mut self,
        ids: &[Uuid],
        may: impl Fn(&Row) -> bool,
        change: impl Fn(&mut Row),
    ) -> u64 {
        let rows = self.rows.iter_mut();
        let chosen = rows.filter(|(id, row)| ids.contains(id) && may(row));
        chosen.map(|(_, row)| change(row)).count() as u64
    }

    fn with(&self, may: impl Fn(&Row) -> bool) -> Vec<Uuid> {
        let rows = self.rows.iter();
        rows.filter(|(_, row)| may(row))
            .map(|(id, _)| *id)
            .collect()
    }

    fn remove(&mut self, ids: &[Uuid]) -> u64 {
        let before = self.rows.len();
        self.rows.retain(|id, _| !ids.contains(id));
        self.gone.extend(ids);
        (before - self.rows.len()) as u64
    }

    async fn step(&mut self, owner: usize, step: &Step) -> sqlx::Result<()> {
        let (relay, s, me, now) = (
            &self.outbox.relay,
            &self.outbox.s,
            self.owners[owner],
            self.now,
        );
        match *step {
            Step::Insert {
                topic,
                wait,
                leased,
                parked,
            } => {
                let message = Message::new(TOPICS[topic], "payload");
                let id = message.id().0;
                let lease = leased.then(|| (me, minutes(LEASE)));
                let record = NewRecord {
                    delay: minutes(wait),
                    lease,
                    parked,
                    ..NewRecord::plain(&message)
                };
                self.outbox.insert(&[record]).await;
                let row = Row {
                    topic: TOPICS[topic],
                    status: parked.into(),
                    owner: leased.then_some(me),
                    attempts: 0,
                    faults: 0,
                    available: now + if leased { LEASE } else { wait },
                    claim: None,
                    acked: 0,
                };
                self.rows.insert(id, row);
                self.inserted.push(id);
            }
            Step::Claim { limit } => {
                let due = self.with(|row| self.is_due(row));
                let claim = self.outbox.claim_for(me, None, limit, minutes(LEASE)).await;
                let Some(claim) = claim else {
                    assert!(due.is_empty(), "claims nothing only where nothing is due");
                    return Ok(());
                };
                let (claimed_as, is_full) = (claim.number, claim.is_full);
                let claimed = self.outbox.read(claim).await;
                let ids = super::house::ids(&claimed);
                assert!(
                    ids.iter().all(|id| due.contains(id)),
                    "claimed what is not due, or held"
                );
                let most = due.len().min(limit as usize);
                assert!(
                    ids.len() == most || is_full && ids.len() < most,
                    "claims all it may, each once, as far as the next claim"
                );
                for claimed in &claimed {
                    let row = &self.rows[&claimed.record.id.0];
                    assert_eq!(claimed.record.attempts, row.attempts as u32);
                    assert_eq!(claimed.record.faults, row.faults as u32);
                }
                let number = self.claims.len();
                self.change_if(&ids, |_| true, |row| row.claim = Some(number));
                self.claims.push(Claimed {
                    number: claimed_as,
                    owner: me,
                    until: now + LEASE,
                });
            }
            Step::Finish(back) => {
                let at = self.claims.len().checked_sub(1 + back);
                if let Some(claim) = at.map(|at| &mut self.claims[at]) {
                    claim.until = now.min(claim.until);
                    Sqlite::finish(relay, s, &[claim.number], claim.owner).await?;
                }
            }
            Step::ClaimParked { topic } => {
                let parked = self.with(|row| row.status == 1 && row.topic == TOPICS[topic]);
                let probe =
                    Sqlite::claim_parked(relay, s, TOPICS[topic], me, minutes(LEASE)).await?;
                let probe = probe.map(|record| record.id.0);
                assert_eq!(probe.as_ref(), parked.first());
                self.change_if(probe.as_slice(), |_| true, |row| row.lease(me, now + LEASE));
            }
            Step::Renew(which) => {
                let ids = self.ids(which);
                let changed = Sqlite::renew(relay, s, &ids, me, minutes(LEASE)).await?;
                assert_eq!(
                    changed,
                    self.change(&ids, me, |row| row.lease(me, now + LEASE))
                );
            }
            Step::Release(which, wait) => {
                let ids = self.ids(which);
                let changed = Sqlite::release(relay, s, &ids, me, minutes(wait)).await?;
                assert_eq!(changed, self.change(&ids, me, |row| row.free(now + wait)));
            }
            Step::PutBack(which, wait, fault) => {
                let ids = self.ids(which);
                let changed =
                    Sqlite::put_back(relay, s, &ids, me, minutes(wait), "nack", fault).await?;
                let expected = self.change(&ids, me, |row| {
                    row.free(now + wait);
                    row.attempts += 1;
                    row.faults += i64::from(fault);
                });
                assert_eq!(changed, expected);
            }
            Step::Park(which) => {
                let ids = self.ids(which);
                let changed = Sqlite::park(relay, s, &ids, me, "no queue").await?;
                assert_eq!(changed, self.change(&ids, me, |row| row.set_aside(1)));
            }
            Step::Fail(which) => {
                let ids = self.ids(which);
                let changed = Sqlite::fail(relay, s, &ids, me, "too large").await?;
                assert_eq!(changed, self.change(&ids, me, |row| row.set_aside(3)));
            }
            Step::Delete(which) => {
                let ids = self.ids(which);
                let deleted = Sqlite::delete(relay, s, &ids).await?;
                assert_eq!(deleted, self.remove(&ids));
            }
            Step::MarkAcked(which) => {
                let ids = self.ids(which);
                let marked = Sqlite::mark_acked(relay, s, &ids).await?;
                let expected = self.change_if(
                    &ids,
                    |row| row.status < 2,
                    |row| {
                        (row.status, row.owner, row.acked) = (2, None, now);
                        row.claim = None;
                    },
                );
                assert_eq!(marked, expected);
            }
            Step::Unpark { topic, limit } => {
                let mut ids = self.with(|row| row.status == 1 && row.topic == TOPICS[topic]);
                ids.truncate(limit as usize);
                let released = Sqlite::unpark(relay, s, TOPICS[topic], limit).await?;
                assert_eq!(
                    released,
                    self.change_if(&ids, |_| true, |row| row.free(now))
                );
            }
            Step::RetryFailed(which) => {
                let ids = which.map(|which| self.ids(which));
                let retried = Sqlite::retry_failed(relay, s, ids.as_deref()).await?;
                let ids = ids.unwrap_or_else(|| self.inserted.clone());
                let expected = self.change_if(
                    &ids,
                    |row| row.status == 3,
                    |row| {
                        row.free(now);
                        (row.attempts, row.faults) = (0, 0);
                    },
                );
                assert_eq!(retried, expected);
            }
            Step::PurgeAcked { limit } => {
                let old = |row: &Row| row.status == 2 && minutes(now - row.acked) > AGE;
                let mut old = self.with(old);
                // Those acked first go first, which the id does not tell.
                old.sort_by_key(|id| self.rows[id].acked);
                let purged = Sqlite::purge_acked(relay, s, AGE, limit, 0).await?;
                assert_eq!(purged, old.len().min(limit as usize) as u64);
                let left = self.read().await?;
                old.retain(|id| !left.contains_key(id));
                assert_eq!(self.remove(&old), purged);
            }
            Step::Pass(passed) => {
                let shift = minutes(passed).as_millis();
                self.outbox
                    .run(&format!(
                        "UPDATE {{t}} SET available_at = available_at - {shift}, \
                         due_at = due_at - {shift}, acked_at = acked_at - {shift}"
                    ))
                    .await;
                self.outbox
                    .run(&format!(
                        "UPDATE {{c}} SET live_until = live_until - {shift}, \
                         first_at = first_at - {shift}, last_at = last_at - {shift}"
                    ))
                    .await;
                self.now += passed;
            }
        }
        Ok(())
    }

    /// The table as the model would say it; of the time, whether it is over.
    async fn read(&self) -> sqlx::Result<BTreeMap<Uuid, Seen>> {
        let sql = format!(
            "SELECT message_id, status, claimed_by, attempts, faults, \
             available_at <= CAST(unixepoch('subsec') * 1000 AS INTEGER) FROM {}",
            Sqlite::table(&self.outbox.s)
        );
        let rows: Vec<(Uuid, i64, Option<Uuid>, i64, i64, bool)> =
            sqlx::query_as(AssertSqlSafe(sql))
                .fetch_all(&self.outbox.pool)
                .await?;
        let seen = rows
            .into_iter()
            .map(|(id, status, owner, attempts, faults, over)| {
                (id, (status, owner, attempts, faults, over))
            });
        Ok(seen.collect())
    }

    async fn check(&self) -> sqlx::Result<()> {
        let expected: BTreeMap<_, Seen> = self
            .rows
            .iter()
            .map(|(id, row)| {
                let over = row.available <= self.now;
                (*id, (row.status, row.owner, row.attempts, row.faults, over))
            })
            .collect();
        assert_eq!(self.read().await?, expected);
        // Nothing is lost but by what removes it.
        let lost = |id: &&Uuid| !self.rows.contains_key(id) && !self.gone.contains(id);
        assert_eq!(self.inserted.iter().find(lost), None);
        Ok(())
    }
}

type Seen = (i64, Option<Uuid>, i64, i64, bool);

#[test]
fn whatever_two_owners_do_no_record_is_lost_shared_or_changed_by_the_other() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let outbox = runtime.block_on(Outbox::<Sqlite>::new());
    let config = ProptestConfig::with_cases(100);
    let mut runner = TestRunner::new(ProptestConfig {
        source_file: Some(file!()),
        failure_persistence: None,
        ..config
    });
    let histories = prop::collection::vec(any_step(), 1..60);

    let result = runner.run(&histories, |steps| {
        runtime.block_on(async {
            Sqlite::purge_all(&outbox.relay, &outbox.s).await.unwrap();
            outbox.run("UPDATE {c} SET live_until = 0").await;
            let mut world = World {
                outbox: &outbox,
                owners: [Uuid::now_v7(), Uuid::now_v7()],
                rows: BTreeMap::new(),
                claims: Vec::new(),
                inserted: Vec::new(),
                gone: Vec::new(),
                now: 0,
            };
            for (owner, step) in &steps {
                world.step(*owner, step).await.unwrap();
                world.check().await.unwrap();
            }
        });
        Ok(())
    });

    result.unwrap();
}
