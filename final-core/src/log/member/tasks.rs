//! Tasks of a running bus beside the engine.
//!
//! | task | does |
//! | --- | --- |
//! | `renew` | extends the lease, each third of its time |
//! | `listen` | hears other processes, and wakes the engines of this one |
//! | `tell` | tells other processes of commits |
//!
//! Input: the member, and signals of other tasks or processes. Output: the lease in `final_log_members`, and
//! wakeups. Each task ends with the member's `close`, and goes on after an error of the database. The tasks
//! [`send`](super::send) and [`trim`](super::trim) have files of their own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::Member;
use crate::{OutboxDatabase, log::tables::members::Announcement, runtime::backoff::Backoff};

/// The pause between two notices to other processes: commits in between share one.
const NOTICE: Duration = Duration::from_millis(2);
/// The pauses after a failure.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// Extends the lease, and joins again if the membership is gone. Sooner than others may take over it is tried
/// several times, so one failure does no harm. More than one in a row is reported, and so is the end of the lease.
pub(crate) async fn renew<DB: OutboxDatabase>(member: Arc<Member<DB>>) {
    let third = member.tuning.lease / 3;
    let mut trouble = Trouble::default();
    let mut pause = third;
    loop {
        tokio::select! {
            () = sleep(pause) => {}
            () = member.finish.cancelled() => return,
            () = member.close.cancelled() => return,
        }
        if !member.is_prepared() {
            continue;
        }
        pause = match member.renew().await {
            Ok(()) => {
                trouble.ended(&member);
                third
            }
            Err(error) => {
                trouble.failed(&member, &error);
                PAUSES.pause(trouble.failures).min(third)
            }
        };
    }
}

/// Renewals that fail, and what was told of them.
#[derive(Debug, Default)]
struct Trouble {
    /// In a row.
    failures: u32,
    reported: u32,
    is_over: bool,
}

impl Trouble {
    fn failed<DB: OutboxDatabase>(&mut self, member: &Member<DB>, error: &sqlx::Error) {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 && member.lease_left() > member.tuning.lease / 3 {
            tracing::debug!(
                target: "final::log",
                %error,
                "the lease on our lanes was not renewed; trying again"
            );
            return;
        }
        self.reported = self.reported.saturating_add(1);
        member.renewing_failed(error, self.reported);
        if !member.is_alive() && member.consumes() && !self.is_over {
            self.is_over = true;
            tracing::warn!(
                target: "final::log",
                service = &*member.group, %error,
                "the lease on our lanes is over and could not be renewed; nothing is read until it is, and \
                 other members may take the lanes"
            );
        }
    }

    fn ended<DB: OutboxDatabase>(&mut self, member: &Member<DB>) {
        if self.reported > 0 {
            tracing::info!(
                target: "final::log",
                service = &*member.group,
                "the lease on our lanes is renewed again"
            );
        }
        *self = Self::default();
    }
}

/// Hears what other processes announce, and wakes the engines of this one.
pub(crate) async fn listen<DB: OutboxDatabase>(member: Arc<Member<DB>>) {
    let own = member.wakeups.process.to_string();
    let mut failures = 0;
    loop {
        let since = Instant::now();
        let heard = |text: &str| {
            member.set_listening(true);
            let (announcement, from) = Announcement::parse(text);
            // Our own announcements come back as well. One without a sender means that the connection is new,
            // so something may have been missed.
            if from == own {
                return;
            }
            member.wakeups.wake();
            if announcement == Announcement::Members {
                member.wakeups.wake_members();
            }
        };
        let listening = member.log.listen(heard);
        let ended = tokio::select! {
            ended = listening => ended,
            () = member.close.cancelled() => return,
        };
        member.set_listening(false);
        if let Err(error) = ended {
            tracing::debug!(
                target: "final::log",
                %error,
                "other processes are not heard; polling instead"
            );
        }
        failures = if since.elapsed() > Duration::from_secs(60) {
            1
        } else {
            failures + 1
        };
        tokio::select! {
            () = sleep(PAUSES.pause(failures)) => {}
            () = member.close.cancelled() => return,
        }
    }
}

/// Tells other processes of our commits. It does so outside the transactions: a NOTIFY inside would make all
/// commits of the database wait for each other.
pub(crate) async fn tell<DB: OutboxDatabase>(member: Arc<Member<DB>>) {
    let mut commits = member.wakeups.commits();
    loop {
        tokio::select! {
            changed = commits.changed() => if changed.is_err() { return },
            () = member.close.cancelled() => return,
        }
        if member.wakeups.must_tell()
            && let Err(error) = member
                .log
                .notify(member.wakeups.process, Announcement::Messages)
                .await
        {
            tracing::debug!(
                target: "final::log",
                %error,
                "other processes were not told of new messages; they find them by polling"
            );
        }
        sleep(NOTICE).await;
    }
}
