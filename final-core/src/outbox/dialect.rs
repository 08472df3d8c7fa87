//! The same wiring for every database: each keeps its twin files under the names used here.

/// Implements [`Dialect`](super::Dialect) by the functions of the modules next to it.
macro_rules! dialect {
    ($database:ty) => {
        impl $crate::outbox::sealed::Sealed for $database {}

        impl $crate::outbox::OutboxDatabase for $database {}

        #[allow(private_interfaces)]
        impl Dialect for $database {
            type Statements = Statements;

            async fn begin(pool: &Pool<Self>) -> DbResult<Transaction<'static, Self>> {
                pool::begin(pool).await
            }

            fn relay_pool(pool: &Pool<Self>) -> Pool<Self> {
                pool::relay(pool)
            }

            fn lives_in_pool(pool: &Pool<Self>) -> bool {
                pool::lives_in_pool(pool)
            }

            async fn locate(
                relay: &Pool<Self>,
                service: &ServiceName,
            ) -> DbResult<Self::Statements> {
                pool::locate(relay, service).await
            }

            fn table(statements: &Self::Statements) -> &str {
                &statements.table
            }

            fn is_missing_table(error: &sqlx::Error) -> bool {
                error::is_missing_table(error)
            }

            fn is_not_in_transaction(error: &sqlx::Error) -> bool {
                error::is_not_in_transaction(error)
            }

            fn is_surely_rolled_back(error: &sqlx::Error) -> bool {
                error::is_surely_rolled_back(error)
            }

            async fn insert(
                conn: &mut Self::Connection,
                statements: &Self::Statements,
                records: &[NewRecord<'_>],
                in_transaction: bool,
            ) -> DbResult<()> {
                insert::insert(conn, statements, records, in_transaction).await
            }

            async fn alone(
                caller: &Pool<Self>,
                statements: &Self::Statements,
            ) -> DbResult<Alone<Self>> {
                alone::alone(caller, statements).await
            }

            async fn insert_alone(
                conn: &mut Self::Connection,
                statements: &Self::Statements,
                record: &NewRecord<'_>,
            ) -> DbResult<bool> {
                alone::insert(conn, statements, record).await
            }

            async fn confirm_open(
                conn: &mut Self::Connection,
                statements: &Self::Statements,
                flushed: bool,
            ) -> DbResult<bool> {
                alone::confirm_open(conn, statements, flushed).await
            }

            async fn claims(relay: &Pool<Self>, statements: &Self::Statements) -> DbResult<Claims> {
                claim::claims(relay, statements).await
            }

            async fn look(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                gap: Gap,
                limit: u32,
            ) -> DbResult<Vec<Due>> {
                claim::look(relay, statements, gap, limit).await
            }

            async fn reserve(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                last: i64,
                owner: Uuid,
                lease: Duration,
                stretch: Stretch,
            ) -> DbResult<bool> {
                claim::reserve(relay, statements, last, owner, lease, stretch).await
            }

            async fn read(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                stretch: Stretch,
                most: u32,
            ) -> DbResult<Vec<Claimed>> {
                claim::read(relay, statements, stretch, most).await
            }

            async fn finish(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                numbers: &[i64],
                owner: Uuid,
            ) -> DbResult<u64> {
                claim::finish(relay, statements, numbers, owner).await
            }

            async fn forget(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                number: i64,
            ) -> DbResult<u64> {
                claim::forget(relay, statements, number).await
            }

            async fn claim_parked(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                topic: &str,
                owner: Uuid,
                lease: Duration,
            ) -> DbResult<Option<Record>> {
                claim::claim_parked(relay, statements, topic, owner, lease).await
            }

            async fn next_due(
                relay: &Pool<Self>,
                statements: &Self::Statements,
            ) -> DbResult<Option<Duration>> {
                inspect::next_due(relay, statements).await
            }

            async fn parked_topics(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                limit: u32,
            ) -> DbResult<Vec<String>> {
                inspect::parked_topics(relay, statements, limit).await
            }

            async fn delete(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                ids: &[Uuid],
            ) -> DbResult<u64> {
                settle::delete(relay, statements, ids).await
            }

            async fn mark_acked(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                ids: &[Uuid],
            ) -> DbResult<u64> {
                settle::mark_acked(relay, statements, ids).await
            }

            async fn renew(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                ids: &[Uuid],
                owner: Uuid,
                lease: Duration,
            ) -> DbResult<u64> {
                settle::renew(relay, statements, ids, owner, lease).await
            }

            async fn release(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                ids: &[Uuid],
                owner: Uuid,
                wait: Duration,
            ) -> DbResult<u64> {
                settle::release(relay, statements, ids, owner, wait).await
            }

            async fn put_back(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                ids: &[Uuid],
                owner: Uuid,
                wait: Duration,
                error: &str,
                fault: bool,
            ) -> DbResult<u64> {
                settle::put_back(relay, statements, ids, owner, wait, error, fault).await
            }

            async fn park(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                ids: &[Uuid],
                owner: Uuid,
                error: &str,
            ) -> DbResult<u64> {
                settle::park(relay, statements, ids, owner, error).await
            }

            async fn unpark(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                topic: &str,
                limit: u32,
            ) -> DbResult<u64> {
                settle::unpark(relay, statements, topic, limit).await
            }

            async fn fail(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                ids: &[Uuid],
                owner: Uuid,
                error: &str,
            ) -> DbResult<u64> {
                settle::fail(relay, statements, ids, owner, error).await
            }

            async fn failed(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                limit: u32,
            ) -> DbResult<Vec<FailedRecord>> {
                inspect::failed(relay, statements, limit).await
            }

            async fn retry_failed(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                ids: Option<&[Uuid]>,
            ) -> DbResult<u64> {
                settle::retry_failed(relay, statements, ids).await
            }

            async fn backlog(
                relay: &Pool<Self>,
                statements: &Self::Statements,
            ) -> DbResult<Backlog> {
                inspect::backlog(relay, statements).await
            }

            async fn purge_acked(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                age: Duration,
                limit: u32,
            ) -> DbResult<u64> {
                settle::purge_acked(relay, statements, age, limit).await
            }

            async fn has_other_leases(
                relay: &Pool<Self>,
                statements: &Self::Statements,
                owner: Uuid,
            ) -> DbResult<bool> {
                inspect::has_other_leases(relay, statements, owner).await
            }

            async fn purge_all(relay: &Pool<Self>, statements: &Self::Statements) -> DbResult<u64> {
                settle::purge_all(relay, statements).await
            }

            async fn migrate(
                relay: &Pool<Self>,
                service: &ServiceName,
            ) -> Result<(), crate::Error> {
                schema::migrate(relay, service).await
            }

            fn migration_sql(service: &ServiceName) -> String {
                $crate::outbox::schema::script(service, &schema::statements(service))
            }

            async fn startup_lock(
                relay: &Pool<Self>,
                _service: &ServiceName,
            ) -> DbResult<StartupLock<Self>> {
                schema::lock(relay).await
            }
        }
    };
}
