//! A job: a source, its targets, and how their columns belong together.
//!
//! Input: what the caller says. Output: what the parts ask it for; an explanation, or comparisons.
//!
//! | part | has |
//! | --- | --- |
//! | [`scans`], [`sweep`] | how rows that differ are found while both tables change |
//! | [`repair`](mod@repair), [`publisher`] | what is done about rows that differ |
//! | [`compare`] | what a job does by itself |
//! | [`explain`] | what it would do |
//! | [`asked`] | what the parts ask it for |

mod asked;
mod compare;
pub(crate) mod described;
pub(crate) mod explain;
pub(crate) mod publisher;
pub(crate) mod repair;
pub(crate) mod scans;
pub(crate) mod sweep;

use std::time::Duration;

use final_webhook::Endpoint;

use self::{
    repair::Repair,
    scans::{FreshScan, Scans, UpdatedScan},
    sweep::Sweep,
};
use crate::{compare::Settings, plan::mapping::Mapping, side::Side};

/// A source table and the tables that are to agree with it.
///
/// ```no_run
/// use final_reconcile::{Job, Mapped, Side};
///
/// # async fn run(shop: sqlx::MySqlPool, search: sqlx::PgPool) -> Result<(), final_reconcile::ReconcileError> {
/// let users = Job::new("users")
///     .source(Side::mysql(shop, "user"))
///     .target(Side::postgres(search, "user_copy"), |map| {
///         map.key("id", "number")
///             .same(["name", "avatar"])
///             .column("amount", Mapped::to("amount_eur").decimal(2))
///     });
/// println!("{}", users.explain().await?);
/// for comparison in users.compare().await? {
///     println!("{comparison}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Job {
    name: String,
    source: Option<Side>,
    targets: Vec<(Side, Mapping)>,
    settings: Settings,
    repair: Option<Repair>,
    max_repairs: u64,
    max_waiting: u32,
    scans: Scans,
    alert: Option<Endpoint>,
}

impl Job {
    /// How long a call for an [`alert`](Self::alert) may take: one process has the alerts for a minute.
    pub const LONGEST_ALERT: Duration = Duration::from_secs(20);

    /// A job of this name, which reports and logs have.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            source: None,
            targets: Vec::new(),
            settings: Settings::default(),
            repair: None,
            max_repairs: 1_000,
            max_waiting: 100_000,
            scans: Scans::default(),
            alert: None,
        }
    }

    /// The table that is right.
    #[must_use]
    pub fn source(mut self, side: Side) -> Self {
        self.source = Some(side);
        self
    }

    /// A table that is to agree with the source.
    #[must_use]
    pub fn target(mut self, side: Side, map: impl FnOnce(Mapping) -> Mapping) -> Self {
        self.targets.push((side, map(Mapping::default())));
        self
    }

    /// How long a copy may take to follow its source; 2 s by default. A difference counts only if neither row has changed
    /// for twice this time. It has to be longer than the copy lags: zero is for tables in which nothing is written.
    ///
    /// For a target with a [heartbeat](Mapping::heartbeat) it is how long a change may stay behind a later one in the mirror.
    /// Zero is for a mirror that brings all changes in their order.
    #[must_use]
    pub fn settle(mut self, settle: Duration) -> Self {
        self.settings.settle = settle;
        self
    }

    /// How many differences a [`Comparison`](crate::Comparison) describes; 20 by default. All are counted.
    #[must_use]
    pub fn examples(mut self, examples: usize) -> Self {
        self.settings.examples = examples;
        self
    }

    /// Whether examples have the values that differ, and not only the names of the columns. They are what the tables
    /// hold, so a report with them must go only to a reader who may see the tables.
    #[must_use]
    pub fn show_values(mut self, show: bool) -> Self {
        self.settings.values = show;
        self
    }

    /// What a [`Reconciler`](crate::Reconciler) does about differences. [`compare`](Self::compare) only reports them.
    #[must_use]
    pub fn repair(mut self, repair: Repair) -> Self {
        self.repair = Some(repair);
        self
    }

    /// How many rows of a target one run may repair; 1,000 by default. More look like a wrong mapping. If more differ in a
    /// comparison, none is repaired. If scans find more within an hour, the job pauses until it is
    /// [resumed](crate::Reconciler::resume).
    #[must_use]
    pub fn max_repairs(mut self, most: u64) -> Self {
        self.max_repairs = most;
        self
    }

    /// How many rows of a target may wait for a look; 100,000 by default. Beyond that [changes](Self::watch) are held back:
    /// their messages are not done, so they stay in the log or the queue, and a sweep waits as well. Both go on by
    /// themselves once rows were looked at. Somewhat more rows can wait, because each process counts again after 1,000 keys at
    /// most and writes all keys of a message together.
    ///
    /// It must be larger than the number of rows that change within two [`settle`](Self::settle).
    #[must_use]
    pub fn max_waiting(mut self, most: u32) -> Self {
        self.max_waiting = most;
        self
    }

    /// Compares rows with new keys, so often. The key has to be one whole number that grows. A row is compared when its id
    /// was the newest for as long as the copy may take ([`settle`](Self::settle)).
    ///
    /// A job without a stored position begins 10,000 ids before the newest one; [`first_id`](Self::first_id) names another
    /// one.
    #[must_use]
    pub fn fresh_ids(self, every: Duration) -> Self {
        self.fresh(every, None)
    }

    /// The same by another column of the source, which has whole numbers that grow. It should have an index.
    #[must_use]
    pub fn fresh_ids_by(self, column: impl Into<String>, every: Duration) -> Self {
        self.fresh(every, Some(column.into()))
    }

    fn fresh(mut self, every: Duration, column: Option<String>) -> Self {
        let first = self.scans.fresh.and_then(|fresh| fresh.first);
        self.scans.fresh = Some(FreshScan {
            every,
            column,
            first,
        });
        self
    }

    /// The id at which a job without a stored position begins. Without [`fresh_ids`](Self::fresh_ids) before it, it says
    /// nothing.
    #[must_use]
    pub fn first_id(mut self, id: i64) -> Self {
        if let Some(fresh) = &mut self.scans.fresh {
            fresh.first = Some(id);
        }
        self
    }

    /// How much later than others an id may become visible, because its transaction is long; ten minutes by default. Ids
    /// that are missing are looked for so long.
    #[must_use]
    pub fn look_back(mut self, look_back: Duration) -> Self {
        self.scans.look_back = look_back;
        self
    }

    /// Compares rows that were updated, so often: those in whose column the source's database or program has written a new
    /// time. `overlap` is how much later than its time an update may be committed. The column should have an index.
    #[must_use]
    pub fn updated(
        mut self,
        column: impl Into<String>,
        every: Duration,
        overlap: Duration,
    ) -> Self {
        self.scans.updated = Some(UpdatedScan {
            column: column.into(),
            every,
            overlap,
        });
        self
    }

    /// Compares the whole table from time to time.
    #[must_use]
    pub fn sweep(mut self, sweep: Sweep) -> Self {
        self.scans.sweep = Some(sweep);
        self
    }

    /// Compares each row whose change comes as a message of this topic, some time later. The messages are those of a
    /// capture of the source. [`Reconciler::watching`](crate::Reconciler::watching) takes them.
    #[must_use]
    pub fn watch(mut self, topic: impl Into<String>) -> Self {
        self.scans.topics.push(topic.into());
        self
    }

    /// Calls this endpoint when the job is in trouble: a repair has failed three times, the job is paused because more rows
    /// differ than it may repair, or a scan cannot run. There is one call when the trouble begins, one each hour while it
    /// lasts, and one when it is over. docs/reconcile.md tells what is sent. The endpoint's time limit is
    /// [`LONGEST_ALERT`](Self::LONGEST_ALERT) at most.
    ///
    /// ```
    /// use final_reconcile::Job;
    /// use final_webhook::Endpoint;
    ///
    /// let users = Job::new("users").alert(Endpoint::new("https://hooks.example/ops")?);
    /// # Ok::<_, final_webhook::EndpointError>(())
    /// ```
    #[must_use]
    pub fn alert(mut self, endpoint: Endpoint) -> Self {
        self.alert = Some(endpoint);
        self
    }
}
