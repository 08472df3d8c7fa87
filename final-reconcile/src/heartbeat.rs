//! Where a mirror tells how far it is, as a caller names it.

use std::time::Duration;

/// Where the mirror of a target tells how far it is: a row in the target's database, with a time of the source's clock.
/// The target has everything that the source had committed before that time.
///
/// With it a row that looks different is looked at again once the mirror has passed the time at which the row was read.
/// So a mirror that lags, however long, is no false alarm. docs/reconcile.md tells how such a row is kept.
///
/// ```
/// use final_reconcile::{Heartbeat, Job, Side};
///
/// # fn job(shop: sqlx::MySqlPool, search: sqlx::PgPool) -> Job {
/// Job::new("users")
///     .source(Side::mysql(shop, "user"))
///     .target(Side::postgres(search, "user_copy"), |map| {
///         map.except(["changed_at"])
///             .heartbeat(Heartbeat::table("mirror_heartbeat").column("at").row("id", "1"))
///     })
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Heartbeat {
    pub(crate) table: String,
    pub(crate) column: String,
    pub(crate) row: Option<(String, String)>,
    pub(crate) limit: Duration,
}

impl Heartbeat {
    /// A table of the target's database. It may have a schema before its name. Its column is `at`, and it has one row.
    pub fn table(table: impl Into<String>) -> Self {
        Self {
            table: table.into(),
            column: "at".into(),
            row: None,
            limit: Duration::from_secs(60),
        }
    }

    /// The column with the time. A time without a zone is taken as UTC.
    #[must_use]
    pub fn column(mut self, column: impl Into<String>) -> Self {
        self.column = column.into();
        self
    }

    /// The row whose column has this value, in a table with several rows. The column needs a unique index.
    #[must_use]
    pub fn row(mut self, column: impl Into<String>, value: impl Into<String>) -> Self {
        self.row = Some((column.into(), value.into()));
        self
    }

    /// How far the mirror may be behind; one minute by default. If it is farther behind, that is a trouble of the job. A
    /// [comparison](crate::Job::compare) waits for a row as long as this, [`settle`](crate::Job::settle) and 2 s.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}
