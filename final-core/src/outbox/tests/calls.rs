//! The table's methods with an owner and a lease of each call: in these cases several owners share one table.

use std::time::Duration;

use sqlx::Pool;
use uuid::Uuid;

use crate::{
    Error, MessageId,
    database::{
        DbResult, lone,
        renewable::{PoolOwner, RenewablePool},
    },
    names::ServiceName,
    outbox::{
        Claimed, FailedRecord, NewRecord, OutboxDatabase, Position, PutBack, Record, Table,
        claims::{Claim, Stretch},
        door::own_pool,
        insert::{insert, insert_alone},
        migrate::migrate,
        record::{Backlog, RecordId},
        schema,
        statements::Statements,
    },
    runtime::counter::Counter,
};

/// A pool that stays what it is.
fn renewable<DB: OutboxDatabase>(relay: &Pool<DB>) -> RenewablePool<DB> {
    RenewablePool::new(relay.clone(), PoolOwner::Outbox, Pool::clone)
}

fn keys(ids: &[Uuid]) -> Vec<RecordId> {
    ids.iter().copied().map(RecordId).collect()
}

fn messages(ids: &[Uuid]) -> Vec<MessageId> {
    ids.iter().copied().map(MessageId).collect()
}

macro_rules! calls {
    ($($name:ident($($argument:ident: $type:ty),*) by ($owner:expr, $lease:expr) -> $result:ty
        = $call:ident($($passed:expr),*);)*) => {$(
        fn $name(
            relay: &Pool<Self>,
            s: &Statements
            $(, $argument: $type)*
        ) -> impl Future<Output = DbResult<$result>> + Send {
            async move {
                let table = Table {
                    pool: &renewable(relay),
                    statements: s,
                    owner: $owner,
                    lease: $lease,
                };
                table.$call($($passed),*).await
            }
        }
    )*};
}

const NOBODY: Uuid = Uuid::nil();
const NEVER: Duration = Duration::ZERO;

/// What the cases call.
pub(in crate::outbox) trait Calls: OutboxDatabase {
    calls! {
        reserve(last: i64, owner: Uuid, lease: Duration, stretch: Stretch) by (owner, lease) -> bool = reserve(last, stretch);
        claim(after: Option<Position>, limit: u32, owner: Uuid, lease: Duration, asked: &Counter) by (owner, lease) -> Option<Claim> = claim(after, limit, asked);
        read(claim: &Claim) by (NOBODY, NEVER) -> Vec<Claimed> = read(claim);
        finish(numbers: &[i64], owner: Uuid) by (owner, NEVER) -> u64 = finish(numbers);
        claim_parked(topic: &str, owner: Uuid, lease: Duration) by (owner, lease) -> Option<Record> = claim_parked(topic);
        next_due() by (NOBODY, NEVER) -> Option<Duration> = next_due();
        parked_topics(limit: u32) by (NOBODY, NEVER) -> Vec<String> = parked_topics(limit);
        delete(ids: &[Uuid]) by (NOBODY, NEVER) -> u64 = ack(&keys(ids), false);
        mark_acked(ids: &[Uuid]) by (NOBODY, NEVER) -> u64 = ack(&keys(ids), true);
        renew(ids: &[Uuid], owner: Uuid, lease: Duration) by (owner, lease) -> u64 = renew(&keys(ids));
        release(ids: &[Uuid], owner: Uuid, wait: Duration) by (owner, NEVER) -> u64 = release(&keys(ids), wait);
        put_back(ids: &[Uuid], owner: Uuid, wait: Duration, error: &str, fault: bool) by (owner, NEVER) -> u64
            = put_back(&keys(ids), &PutBack { wait, error: error.to_owned(), fault });
        park(ids: &[Uuid], owner: Uuid, error: &str) by (owner, NEVER) -> u64 = park(&keys(ids), error);
        fail(ids: &[Uuid], owner: Uuid, error: &str) by (owner, NEVER) -> u64 = fail(&keys(ids), error);
        unpark(topic: &str, limit: u32) by (NOBODY, NEVER) -> u64 = unpark(topic, limit);
        failed(limit: u32) by (NOBODY, NEVER) -> Vec<FailedRecord> = failed(limit);
        retry_failed(ids: Option<&[Uuid]>) by (NOBODY, NEVER) -> u64
            = retry_failed(ids.map(messages).as_deref());
        backlog() by (NOBODY, NEVER) -> Backlog = backlog();
        purge_acked(age: Duration, limit: u32, skip: u32) by (NOBODY, NEVER) -> u64
            = purge_acked(age, limit, skip);
        purge_all() by (NOBODY, NEVER) -> u64 = purge_all();
        has_other_leases(owner: Uuid) by (owner, NEVER) -> bool = has_other_leases();
    }

    fn relay_pool(caller: &Pool<Self>) -> Pool<Self> {
        own_pool(caller)
    }

    fn locate(
        relay: &Pool<Self>,
        service: &ServiceName,
    ) -> impl Future<Output = DbResult<Statements>> + Send {
        async move {
            let server = Self::server(&mut *relay.acquire().await?).await?;
            Ok(Statements::new(Self::DIALECT, server, service).unwrap())
        }
    }

    fn table(s: &Statements) -> &str {
        &s.table
    }

    fn migrate(
        relay: &Pool<Self>,
        service: &ServiceName,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        async move { migrate(&renewable(relay), service).await }
    }

    fn migration_sql(service: &ServiceName) -> String {
        schema::script(Self::DIALECT, service)
    }

    fn insert(
        conn: &mut Self::Connection,
        s: &Statements,
        records: &[NewRecord<'_>],
        in_transaction: bool,
    ) -> impl Future<Output = DbResult<()>> + Send {
        async move { insert::<Self>(conn, s, records, in_transaction).await }
    }

    fn insert_alone(
        conn: &mut Self::Connection,
        s: &Statements,
        record: &NewRecord<'_>,
    ) -> impl Future<Output = DbResult<bool>> + Send {
        async move { insert_alone::<Self>(conn, s, record).await }
    }

    fn is_not_in_transaction(error: &sqlx::Error) -> bool {
        lone::is_not_in_transaction(error)
    }
}

impl<DB: OutboxDatabase> Calls for DB {}
