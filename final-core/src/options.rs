//! How a bus behaves, each setting with its default and the reason for it.

use std::{sync::Arc, time::Duration};

use crate::Error;

/// The longest pause before a retry. A longer one is a mistake in the unit.
const A_YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// The most later retries.
const MOST_LATER: usize = 1_000;

/// The longest time that an option may be. A deadline too far in the future cannot be computed.
const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// Settings of a [`Bus`](crate::Bus), chained by value.
///
/// ```
/// # use final_core::Options;
/// let options = Options::default().retry_count(5).num_ackers(2);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    pub(crate) retry_count: u32,
    pub(crate) retry_interval: Duration,
    pub(crate) max_retry_interval: Duration,
    pub(crate) later_retries: Arc<[Duration]>,
    pub(crate) concurrency: usize,
    pub(crate) num_subscribers: usize,
    pub(crate) num_ackers: usize,
    pub(crate) scan_interval: Duration,
    pub(crate) scan_batch: u32,
    pub(crate) lease: Duration,
    pub(crate) confirm_window: usize,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) max_message_bytes: usize,
    pub(crate) retention: Option<Duration>,
    pub(crate) unrouted_grace: Duration,
    pub(crate) crash_limit: u32,
    pub(crate) collect_dead_letters: bool,
    pub(crate) purge_on_startup: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // What the Go predecessor does: four tries in all.
            retry_count: 3,
            // The first retry should outlive a lock or a blip, not a deployment.
            retry_interval: Duration::from_millis(10),
            // Keeps the whole of many retries far below RabbitMQ's consumer timeout (30 min).
            max_retry_interval: Duration::from_secs(30),
            // What the Go predecessor does: none.
            later_retries: Arc::default(),
            // A pool of 20 connections is usual; prefetch alone must not decide this.
            concurrency: 32,
            // Acks are coalesced per channel, so one channel is fast enough.
            num_subscribers: 1,
            // One settles while the other waits for the database.
            num_ackers: 2,
            // Only a safety net: commits ring the scanner, and it knows the next due time.
            scan_interval: Duration::from_secs(10),
            // One claim takes about ten milliseconds, and the next is made meanwhile.
            scan_batch: 500,
            // How long another instance waits before it takes over from a dead one. Renewed after a third of it.
            lease: Duration::from_secs(5),
            // Throughput flattens from 500 on; beyond 1,000 only the wait for a confirm grows.
            confirm_window: 1_000,
            // Below the 30 s that Kubernetes waits before it kills.
            shutdown_timeout: Duration::from_secs(25),
            // One message still fits into one INSERT below any server's packet limit.
            max_message_bytes: 4 * 1024 * 1024,
            // A confirmed record has done its work.
            retention: None,
            // Longer than a rolling deployment takes to bring up the instance that has the route.
            unrouted_grace: Duration::from_secs(300),
            // The first end can have any reason, and so can the second; before RabbitMQ's delivery limit is reached.
            crash_limit: 3,
            // Programs that read the dead-letter queue find it empty then.
            collect_dead_letters: false,
            purge_on_startup: false,
        }
    }
}

impl Options {
    /// Options for a service whose handlers outlive a restart of a database or of a partner.
    ///
    /// The defaults, but ten retries with pauses from 100 ms to 30 s, which take about a minute, and then later
    /// retries after 1, 5 and 15 min. A message that still fails is dead-lettered after about 22 min.
    ///
    /// ```
    /// # use final_core::Options;
    /// let options = Options::patient().concurrency(8);
    /// ```
    pub fn patient() -> Self {
        let minute = Duration::from_secs(60);
        Self::default()
            .retry_count(10)
            .retry_interval(Duration::from_millis(100))
            .later_retries([minute, 5 * minute, 15 * minute])
    }

    /// Sets how often a failed handler is tried again after the first attempt.
    ///
    /// Then follow the [`later_retries`](Self::later_retries), and then the message goes to the dead letters.
    /// Defaults to 3.
    pub fn retry_count(mut self, retries: u32) -> Self {
        self.retry_count = retries;
        self
    }

    /// Sets the pause before the first retry; it doubles for each further one, with jitter.
    ///
    /// Defaults to 10 ms.
    pub fn retry_interval(mut self, interval: Duration) -> Self {
        self.retry_interval = interval;
        self
    }

    /// Sets the longest pause between the retries of [`retry_count`](Self::retry_count). Defaults to 30 s.
    ///
    /// A message that waits for some seconds or longer leaves the queue meanwhile. Where it cannot (a key in the key
    /// order of the log, the in-process broker), all its retries take place within 20 min: longer pauses are
    /// shortened, because RabbitMQ takes a message back from a consumer that keeps it for 30 min.
    pub fn max_retry_interval(mut self, interval: Duration) -> Self {
        self.max_retry_interval = interval;
        self
    }

    /// Sets the pauses of further retries, which follow those of [`retry_count`](Self::retry_count): one retry for
    /// each pause. None by default.
    ///
    /// The message leaves the service's queue meanwhile: it waits in the database, and comes back to this service
    /// alone. So other messages go on, and the service may be restarted.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use final_core::Options;
    /// let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    /// let options = Options::default().later_retries([minutes(1), minutes(10), minutes(60)]);
    /// ```
    pub fn later_retries(mut self, pauses: impl IntoIterator<Item = Duration>) -> Self {
        self.later_retries = pauses.into_iter().collect();
        self
    }

    /// Sets how many handlers run at once. A handler that waits for its retry does not count.
    ///
    /// Keep it near the size of the pool the handlers use. Defaults to 32.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers;
        self
    }

    /// Sets how many consumers (channels) the service opens. Defaults to 1.
    pub fn num_subscribers(mut self, subscribers: usize) -> Self {
        self.num_subscribers = subscribers;
        self
    }

    /// Sets how many tasks write confirms back to the outbox. Defaults to 2.
    pub fn num_ackers(mut self, ackers: usize) -> Self {
        self.num_ackers = ackers;
        self
    }

    /// Sets how long an idle scanner waits before it looks at the outbox again.
    ///
    /// Commits of this process and due times do not wait for a scan. Records that another instance left
    /// behind do. Defaults to 10 s.
    pub fn scan_interval(mut self, interval: Duration) -> Self {
        self.scan_interval = interval;
        self
    }

    /// Sets how many records one claim takes at most. Defaults to 500.
    pub fn scan_batch(mut self, records: u32) -> Self {
        self.scan_batch = records;
        self
    }

    /// Sets how long a record stays claimed by a process that no longer renews it.
    ///
    /// Shorter takes over sooner from a dead process; longer tolerates longer pauses of a live one
    /// without sending twice. Defaults to 5 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how many messages may wait for the broker's confirm at once.
    ///
    /// Also the most that a crash of the publisher can repeat. Defaults to 1,000.
    pub fn confirm_window(mut self, messages: usize) -> Self {
        self.confirm_window = messages;
        self
    }

    /// Sets how long `shutdown` works on what is in flight. Defaults to 25 s.
    ///
    /// Handlers have all but 2 s of it, or three quarters if it is below 8 s. Each step after them has two
    /// seconds even when the time is over. So if neither broker nor database answers, a shutdown can take
    /// ten seconds more.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Sets the largest payload that may be published, in bytes. Defaults to 4 MiB.
    ///
    /// Keep it below MySQL's `max_allowed_packet` and RabbitMQ's message limit.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets how long confirmed records are kept, marked as acked. By default they are deleted.
    pub fn retention(mut self, retention: impl Into<Option<Duration>>) -> Self {
        self.retention = retention.into().filter(|keep| !keep.is_zero());
        self
    }

    /// Sets how long a message without a route is requeued before it is dead-lettered.
    ///
    /// During a rolling deployment old instances receive messages that only new ones have a handler
    /// for. Defaults to 5 min.
    pub fn unrouted_grace(mut self, grace: Duration) -> Self {
        self.unrouted_grace = grace;
        self
    }

    /// Sets how often a handler may begin the same message without coming to an end, because its process ended,
    /// before the message is dead-lettered. Defaults to 3, at least 2.
    ///
    /// It ends a crash loop: a message that aborts the process, or exhausts its memory, comes again and again. Needs
    /// a broker that tells which messages were delivered before, as RabbitMQ does.
    pub fn crash_limit(mut self, times: u32) -> Self {
        self.crash_limit = times;
        self
    }

    /// Sets whether the bus takes the service's dead letters out of RabbitMQ, and keeps them in its database, in the
    /// table `final_<service>_dead`. Defaults to false.
    ///
    /// They can then be listed, replayed and discarded by
    /// [`collected_letters`](crate::Bus::collected_letters). In RabbitMQ they cannot be looked at safely: a look
    /// counts as a delivery, and a queue with a delivery limit drops the letter at that limit. All instances may
    /// collect at the same time. Programs that read the dead-letter queue themselves find it empty.
    ///
    /// It has no effect with `SqlBroker` and `MemoryBroker`, whose dead letters can be listed anyway.
    pub fn collect_dead_letters(mut self, collect: bool) -> Self {
        self.collect_dead_letters = collect;
        self
    }

    /// Sets whether `start` empties the service's outbox and queues. Defaults to false.
    ///
    /// For development. Dead letters are emptied too, and the broker has to be reachable. Refused while
    /// another instance is at work.
    pub fn purge_on_startup(mut self, purge: bool) -> Self {
        self.purge_on_startup = purge;
        self
    }

    /// Checks everything, and returns all problems together.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        let mut must = |ok: bool, problem: &str| {
            if !ok {
                problems.push(problem.to_owned());
            }
        };
        must(self.concurrency >= 1, "`concurrency` must be at least 1");
        must(
            self.num_subscribers >= 1,
            "`num_subscribers` must be at least 1",
        );
        must(
            self.num_subscribers <= 256,
            "`num_subscribers` must be at most 256",
        );
        must(self.crash_limit >= 2, "`crash_limit` must be at least 2");
        must(self.num_ackers >= 1, "`num_ackers` must be at least 1");
        must(self.num_ackers <= 64, "`num_ackers` must be at most 64");
        must(
            (1..=10_000).contains(&self.scan_batch),
            "`scan_batch` must be 1 to 10000",
        );
        must(
            (1..=65_535).contains(&self.confirm_window),
            "`confirm_window` must be 1 to 65535",
        );
        must(
            self.lease >= Duration::from_millis(100),
            "`lease` must be at least 100 ms",
        );
        must(
            self.lease <= Duration::from_secs(3600),
            "`lease` must be at most 1 h",
        );
        must(
            self.scan_interval >= Duration::from_millis(10),
            "`scan_interval` must be at least 10 ms",
        );
        must(
            self.scan_interval <= A_DAY,
            "`scan_interval` must be at most a day",
        );
        must(
            self.shutdown_timeout <= A_DAY,
            "`shutdown_timeout` must be at most a day",
        );
        must(
            self.max_message_bytes >= 1,
            "`max_message_bytes` must be at least 1",
        );
        must(
            self.max_message_bytes <= 128 * 1024 * 1024,
            "`max_message_bytes` must be at most 128 MiB, RabbitMQ's own limit",
        );
        must(
            self.max_retry_interval >= self.retry_interval,
            "`max_retry_interval` must not be shorter than `retry_interval`",
        );
        must(
            self.later_retries.iter().all(|pause| *pause <= A_YEAR),
            "each pause of `later_retries` must be at most a year",
        );
        must(
            self.later_retries.len() <= MOST_LATER,
            "`later_retries` must be at most 1,000 pauses",
        );
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidOptions(problems.join("; ")))
        }
    }
}
