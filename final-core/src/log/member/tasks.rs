//! What goes on beside the engine: leases, notices, removals.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{sleep, sleep_until};

use super::Member;
use crate::log::tables::{members::Notice, trim::Keep};
use crate::{OutboxDatabase, runtime::backoff::Backoff};

/// The pause between two notices to other processes: what commits meanwhile shares one.
const NOTICE: Duration = Duration::from_millis(2);
/// The pause between two rounds of removing.
const TRIM: Duration = Duration::from_millis(500);
/// How often messages that are kept for a time are looked at.
const AGES: Duration = Duration::from_secs(10);
/// How often what was passed over is looked at.
const SWEEP: Duration = Duration::from_secs(600);
/// The pause before the log is walked through for the first time.
const FIRST_WALK: Duration = Duration::from_secs(1);
const AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// Extends the lease at a third of its time.
pub(crate) async fn renew<DB: OutboxDatabase>(member: Arc<Member<DB>>) {
    let third = member.tuning.lease / 3;
    let mut failures = 0;
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
        if let Err(error) = member.renew().await {
            tracing::debug!(%error, "the lease on our lanes was not renewed; trying again");
            failures += 1;
            pause = AGAIN.pause(failures).min(third);
        } else {
            (failures, pause) = (0, third);
        }
    }
}

/// Hears what other processes say.
pub(crate) async fn listen<DB: OutboxDatabase>(member: Arc<Member<DB>>) {
    let own = member.hub.process.to_string();
    let mut failures = 0;
    loop {
        let since = Instant::now();
        let heard = |text: &str| {
            member.set_listening(true);
            let (notice, from) = Notice::parse(text);
            // Our own come back as well. Nobody's: just connected, and something may have been missed.
            if from == own {
                return;
            }
            member.hub.ring();
            if notice == Notice::Members {
                member.hub.ring_members();
            }
        };
        let listening = member.log.listen(heard);
        let ended = tokio::select! {
            ended = listening => ended,
            () = member.close.cancelled() => return,
        };
        member.set_listening(false);
        if let Err(error) = ended {
            tracing::debug!(%error, "others are not heard; polling instead");
        }
        failures = if since.elapsed() > Duration::from_secs(60) {
            1
        } else {
            failures + 1
        };
        tokio::select! {
            () = sleep(AGAIN.pause(failures)) => {}
            () = member.close.cancelled() => return,
        }
    }
}

/// Tells other processes of our commits. Outside the transactions: a notice inside would make all
/// commits of the database wait for each other.
pub(crate) async fn tell<DB: OutboxDatabase>(member: Arc<Member<DB>>) {
    let mut commits = member.hub.commits();
    loop {
        tokio::select! {
            changed = commits.changed() => if changed.is_err() { return },
            () = member.close.cancelled() => return,
        }
        if member.hub.must_tell()
            && let Err(error) = member
                .log
                .notify(member.hub.process, Notice::Messages)
                .await
        {
            tracing::debug!(%error, "others were not told of new messages; they will look");
        }
        sleep(NOTICE).await;
    }
}

/// Removes what all groups have. Looks now and then whether every message has the number it was given
/// first.
pub(crate) async fn trim<DB: OutboxDatabase>(member: Arc<Member<DB>>) {
    let keep = member.tuning.keep;
    let keeps = !keep.after_read.is_zero() || keep.unread.is_some();
    let mut swept = Instant::now();
    let mut sweep_from = 0;
    let mut told = 0;
    let (mut walk_at, mut walk_from) = (Instant::now() + FIRST_WALK, 0);
    loop {
        tokio::select! {
            () = member.progress.notified() => {}
            () = sleep(AGES), if keeps => {}
            () = sleep_until(walk_at.into()) => {}
            () = member.close.cancelled() => return,
        }
        if !member.is_prepared() {
            walk_at = walk_at.max(Instant::now() + FIRST_WALK);
            continue;
        }
        if Instant::now() >= walk_at {
            match member.log.walk(walk_from).await {
                Ok((next, finds)) => {
                    if finds {
                        member.suspect_numbers();
                    }
                    walk_at = Instant::now() + next.map_or(SWEEP, |_| TRIM);
                    walk_from = next.unwrap_or(0);
                }
                Err(error) => {
                    tracing::debug!(%error, "the log was not walked through; tried again later");
                    walk_at = Instant::now() + AGES;
                }
            }
        }
        if let Err(error) = trim_all(&member, keep).await {
            tracing::debug!(%error, "the log was not trimmed; tried again later");
        }
        // Here and not where the log is read: reading must not wait for who is writing.
        let last = member.watermarks().for_others().pop();
        if let Some(last) = last.filter(|last| last.seq > told) {
            match member.log.write_watermark(last).await {
                Ok(()) => told = last.seq,
                Err(error) => {
                    tracing::debug!(%error, "others were not told how far the log was read");
                }
            }
        }
        if swept.elapsed() >= SWEEP {
            let is_second = |seq, written_at| {
                let is_second = member.watermarks().are_broken_by(seq, written_at);
                if is_second {
                    member.suspect_numbers();
                }
                is_second
            };
            match member.log.sweep(sweep_from, keep, is_second).await {
                Ok(Some(on)) => sweep_from = on,
                Ok(None) => (sweep_from, swept) = (0, Instant::now()),
                Err(error) => tracing::debug!(%error, "the log was not swept; tried again later"),
            }
        }
        tokio::select! {
            () = sleep(TRIM) => {}
            () = member.close.cancelled() => return,
        }
    }
}

async fn trim_all<DB: OutboxDatabase>(
    member: &Member<DB>,
    keep: Keep,
) -> crate::database::DbResult<()> {
    while member.log.trim(keep, member).await? {
        if member.close.is_cancelled() {
            break;
        }
    }
    Ok(())
}
