//! The overview of a service: what waits, who has it, and what does not move.
//!
//! Input: the outbox and its claims, the log, the dead letters. Output: an [`Overview`].

use std::time::Duration;

use uuid::Uuid;

use super::{
    Answer, Count, HeldMessage, LetterSource, LogGroup, NotMoving, RecordState, Schema,
    desk::{Desk, doing, micros_of},
    records::{InfoRow, LiveClaim, info_columns},
    services::ServiceTables,
    walk::Walk,
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Value, columns, limits::duration},
};

/// How many parked topics are described.
const MOST_TOPICS: i64 = 100;

/// How many held messages are described.
const MOST_HELD: usize = 10;

/// Among how many records of a parked topic the last answer of the broker is looked for.
const MOST_REASONS: i64 = 1_000;

/// Among how many leases that have run out their owners are looked for.
const MOST_LEFT: i64 = 10_000;

/// What there is of one service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Overview {
    /// The service.
    pub service: String,
    /// Its outbox; `None` if it has none.
    pub outbox: Option<OutboxOverview>,
    /// Its group of the log; `None` if it does not read the log.
    pub group: Option<LogGroup>,
    /// Its dead letters, by where they are. Sources without letters are left out.
    pub dead: Vec<DeadCount>,
    /// The held messages of its group, the first ten in the order of the log.
    pub held: Vec<HeldMessage>,
    /// What does not move and why, the most important first.
    pub not_moving: Vec<NotMoving>,
}

/// What is in an outbox.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutboxOverview {
    /// The version of its tables.
    pub schema: Schema,
    /// Records that are not yet proven to be with the broker, those in hand included, unroutable ones left out.
    pub pending: Count,
    /// How many of the pending records a process has leased.
    pub in_hand: Count,
    /// Records whose topic has no queue, or is parked for another reason.
    pub unroutable: Count,
    /// Records that can never be sent as they are.
    pub failed: Count,
    /// How long the oldest pending or unroutable record has been due, among the first 10,000 of each.
    pub oldest_due: Option<Duration>,
    /// The topics that have unroutable records: 100 at most.
    pub parked: Vec<ParkedTopic>,
    /// The processes that have leased records, or that are gone and had leased them.
    pub owners: Vec<RecordOwner>,
}

/// A topic to which nothing can be sent now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ParkedTopic {
    /// The topic.
    pub topic: String,
    /// How many of its records wait.
    pub count: Count,
    /// How long the oldest of them has been due.
    pub oldest: Duration,
    /// The last answer of the broker, if one is written down.
    pub reason: Option<String>,
}

/// A process that has leased records.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordOwner {
    /// The owner of the leases. It is new for each bus of each process.
    pub owner: Uuid,
    /// How many records it has.
    pub records: Count,
    /// How long its longest lease lasts. `None` if its leases have run out without a renewal: the process is gone or
    /// stands still, and its records are due again.
    pub left: Option<Duration>,
}

/// How many dead letters there are of one source.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DeadCount {
    /// Where they are.
    pub source: LetterSource,
    /// How many there are.
    pub count: Count,
    /// How long the oldest of them has been dead, among the first 10,000.
    pub oldest: Option<Duration>,
}

columns! {
    /// A record of a parked topic.
    struct ParkedRow {
        due_at: i64,
        last_error: Option<String>,
        clock: i64,
    }
}

columns! {
    /// What an owner has by leases in the records themselves.
    struct OwnerRow {
        owner: Uuid,
        records: i64,
        left_over: i64,
    }
}

/// One more than is counted to.
fn most() -> Value<'static> {
    (i64::try_from(Count::MOST).unwrap_or(i64::MAX) + 1).into()
}

impl<DB: OutboxDatabase> Desk<DB> {
    /// The overview of a service.
    pub(super) async fn overview(&self, tables: &ServiceTables) -> Answer<Overview> {
        let outbox = match tables.outbox {
            None => None,
            Some(schema) => {
                let outbox = self.outbox_overview(tables, schema).await;
                Some(outbox.map_err(doing("counting the outbox"))?)
            }
        };
        let service = tables.service.as_str();
        let group = match tables.is_group {
            false => None,
            true => {
                let group = self.group(service).await;
                Some(group.map_err(doing("counting what waits in the log"))?.0)
            }
        };
        let held = match &group {
            Some(group) if !group.held.is_zero() => {
                let held = self.held(service).await;
                let mut held = held.map_err(doing("listing held messages"))?;
                held.truncate(MOST_HELD);
                held
            }
            _ => Vec::new(),
        };
        let dead = self.dead_counts(tables).await;
        let mut overview = Overview {
            service: service.to_owned(),
            outbox: outbox.as_ref().map(|(outbox, _)| outbox.clone()),
            group,
            held,
            dead: dead.map_err(doing("counting dead letters"))?,
            not_moving: Vec::new(),
        };
        let firsts = outbox.map(|(_, firsts)| firsts).unwrap_or_default();
        overview.not_moving = NotMoving::all(&overview, &firsts);
        Ok(overview)
    }

    async fn outbox_overview(
        &self,
        tables: &ServiceTables,
        schema: Schema,
    ) -> DbResult<(OutboxOverview, Firsts)> {
        if !tables.has_outbox() {
            let nothing = OutboxOverview {
                schema,
                pending: Count::default(),
                in_hand: Count::default(),
                unroutable: Count::default(),
                failed: Count::default(),
                oldest_due: None,
                parked: Vec::new(),
                owners: Vec::new(),
            };
            return Ok((nothing, Firsts::default()));
        }
        let claims = self.live_claims(tables).await?;
        let walk = |state: RecordState| state.walk(DB::DIALECT, tables);
        let owners = self.owners(tables, &claims).await?;
        let held = owners.iter().filter(|owner| owner.left.is_some());
        let in_hand = held.fold(Count::default(), |all, owner| all.plus(owner.records));
        let parked = self.parked(tables).await?;
        let due = self.oldest_due(walk(RecordState::Pending)).await?;
        let oldest = parked.iter().map(|topic| topic.oldest);
        let overview = OutboxOverview {
            schema,
            pending: walk(RecordState::Pending).count(self, &mut 0).await?,
            in_hand,
            unroutable: walk(RecordState::Unroutable).count(self, &mut 0).await?,
            failed: walk(RecordState::Failed).count(self, &mut 0).await?,
            oldest_due: oldest.chain(due).max(),
            parked,
            owners,
        };
        let firsts = Firsts {
            failed: self.first_error(tables, walk(RecordState::Failed)).await?,
            due: self.first_error(tables, walk(RecordState::Pending)).await?,
            oldest: due,
        };
        Ok((overview, firsts))
    }

    /// How long the oldest record of a walk has been due, among the first 10,000. A delay that its publisher asked for
    /// does not count.
    async fn oldest_due(&self, walk: Walk<'_>) -> DbResult<Option<Duration>> {
        let oldest = format!(
            "SELECT {{now}} - MIN({}) FROM (SELECT due_at FROM {} WHERE {} \
             ORDER BY available_at, message_id LIMIT ?) d WHERE d.due_at <= {{clock}}",
            micros_of(DB::DIALECT, "d.due_at"),
            walk.table,
            walk.fixed.0,
        );
        let oldest: Option<Option<i64>> = self.first(&oldest, &[most()]).await?;
        Ok(oldest.flatten().map(duration))
    }

    /// The last error of the first record of a walk.
    async fn first_error(
        &self,
        tables: &ServiceTables,
        walk: Walk<'_>,
    ) -> DbResult<Option<String>> {
        let columns = info_columns(DB::DIALECT, tables);
        let (rows, _) = walk.read::<DB, InfoRow>(self, &columns, 1, &mut 0).await?;
        Ok(rows.into_iter().next().and_then(InfoRow::error))
    }

    /// The parked topics, each with its reason.
    async fn parked(&self, tables: &ServiceTables) -> DbResult<Vec<ParkedTopic>> {
        let statements = self.statements(&tables.service).await?;
        let (topics, values) = statements
            .parked_topics
            .bind(vec![("most", MOST_TOPICS.into())])?;
        let topics: Vec<String> = self.rows_sql(&topics, &values).await?;
        let walk = RecordState::Unroutable.walk(DB::DIALECT, tables);
        let (table, status) = (&walk.table, &walk.fixed.0);
        let mut parked = Vec::with_capacity(topics.len());
        for topic in topics {
            let counted = format!(
                "SELECT COUNT(*) FROM (SELECT 1 AS one FROM {table} WHERE {status} AND topic = ? LIMIT ?) c"
            );
            let values = [topic.as_str().into(), most()];
            let counted: i64 = self.first(&counted, &values).await?.unwrap_or(0);
            // Records that were published while the topic was parked have no answer of the broker yet.
            let rows = format!(
                "SELECT {} AS due_at, last_error, {{now}} AS clock FROM {table} \
                 WHERE {status} AND topic = ? ORDER BY message_id LIMIT ?",
                micros_of(DB::DIALECT, "due_at")
            );
            let values = [topic.as_str().into(), MOST_REASONS.into()];
            let rows: Vec<ParkedRow> = self.rows(&rows, &values).await?;
            let Some(oldest) = rows.iter().map(|row| row.clock - row.due_at).max() else {
                continue;
            };
            parked.push(ParkedTopic {
                count: Count::capped(counted),
                oldest: duration(oldest),
                reason: rows.into_iter().find_map(|row| row.last_error),
                topic,
            });
        }
        Ok(parked)
    }

    /// The processes that have records, by claims and by leases in the records themselves.
    async fn owners(
        &self,
        tables: &ServiceTables,
        claims: &[LiveClaim],
    ) -> DbResult<Vec<RecordOwner>> {
        let walk = RecordState::Pending.walk(DB::DIALECT, tables);
        let mut owners: Vec<RecordOwner> = Vec::new();
        let mut add = |owner: Uuid, records: Count, left: i64| {
            let left = (left > 0).then(|| duration(left));
            match owners.iter_mut().find(|known| known.owner == owner) {
                // What ran out of one that is alive is renewed, or was given up on purpose.
                Some(known) if left.is_none() && known.left.is_some() => {}
                Some(known) if left.is_some() && known.left.is_none() => {
                    (known.records, known.left) = (records, left);
                }
                Some(known) => {
                    known.records = known.records.plus(records);
                    known.left = known.left.max(left);
                }
                None => owners.push(RecordOwner {
                    owner,
                    records,
                    left,
                }),
            }
        };
        for claim in claims {
            let covered = Walk {
                after: Some(claim.before_first()),
                up_to: Some(claim.last()),
                ..walk.clone()
            };
            // What has a lease of its own within the claim is not of the claim.
            add(
                claim.owner,
                covered.count(self, &mut 0).await?,
                claim.left(),
            );
        }
        for bound in [">", "<="] {
            // Of delayed records, and of those that are due, there may be any number.
            let own = format!(
                "SELECT l.claimed_by AS owner, COUNT(*) AS records, MAX({}) - {{now}} AS left_over \
                 FROM (SELECT claimed_by, available_at FROM {} WHERE status = 0 \
                     AND available_at {bound} {{clock}} ORDER BY available_at, message_id LIMIT ?) l \
                 WHERE l.claimed_by <> ? GROUP BY l.claimed_by",
                micros_of(DB::DIALECT, "l.available_at"),
                walk.table,
            );
            let values = [MOST_LEFT.into(), Uuid::nil().into()];
            for row in self.rows::<OwnerRow>(&own, &values).await? {
                add(row.owner, Count::capped(row.records), row.left_over);
            }
        }
        for claim in self.ended_claims(tables).await? {
            let covered = Walk {
                after: Some(claim.before_first()),
                up_to: Some(claim.last()),
                ..walk.clone()
            };
            let is_taken = claims.iter().any(|live| live.overlaps(&claim));
            let records = covered.count(self, &mut 0).await?;
            if !is_taken && !records.is_zero() {
                add(claim.owner, records, 0);
            }
        }
        Ok(owners)
    }
}

/// What the first records of an outbox say, beside its overview.
#[derive(Debug, Default)]
pub(super) struct Firsts {
    /// The last error of the first failed record.
    pub(super) failed: Option<String>,
    /// The last error of the first pending record.
    pub(super) due: Option<String>,
    /// How long the oldest pending record has been due.
    pub(super) oldest: Option<Duration>,
}
