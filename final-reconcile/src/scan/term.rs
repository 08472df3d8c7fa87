//! Takes the lease of a unit, and runs its scans while it is ours.
//!
//! ```text
//!  standby ─ taken ─▶ scans run, the lease is renewed ─┬─ told to stop: given back
//!     ▲                                                └─ lost: all scans are cut off
//!     └──────────────────────────────────────────────────────┘
//! ```

use std::{future::pending, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use super::context::Unit;
use super::{
    context::{Context, Ended},
    fresh::Fresh,
    look::Look,
    pauses::Pauses,
    round::Scan,
    store::Term,
    sweep::Sweeping,
    updated::Updated,
};
use crate::error::causes;

/// How long giving the lease back may take.
const RELEASE: Duration = Duration::from_secs(3);

/// Runs the scans of a unit until it is told to stop.
pub(crate) async fn run(unit: Arc<Unit>, stop: CancellationToken) {
    let mut pauses = Pauses::default();
    let look = (unit.lease / 10).clamp(Duration::from_millis(50), Duration::from_secs(1));
    while !stop.is_cancelled() {
        let owner = Uuid::now_v7();
        let asked = Instant::now();
        let taken = tokio::select! {
            taken = unit.store.take(&unit.name, owner, unit.lease) => taken,
            () = stop.cancelled() => return,
        };
        let pause = match taken {
            Ok(Some(epoch)) => {
                pauses = Pauses::default();
                let term = Term {
                    unit: Arc::clone(&unit.name),
                    owner,
                    epoch,
                };
                run_term(&unit, term, asked, &stop).await;
                look
            }
            Ok(None) => {
                pauses = Pauses::default();
                unit.vitals.ours(&unit.name, false);
                look
            }
            Err(error) => {
                let error = causes(&error);
                if pauses.failures() == 0 {
                    tracing::warn!(
                        target: "final::reconcile",
                        job = unit.name.job,
                        copy = unit.name.target,
                        error,
                        "the state of scans cannot be read or written; nothing is forgotten, and it is tried again"
                    );
                }
                unit.vitals.state(&unit.name, error);
                pauses.next()
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Runs the scans until the lease is lost, or until they are told to stop.
async fn run_term(unit: &Arc<Unit>, term: Term, asked: Instant, stop: &CancellationToken) {
    let context = Context::new(Arc::clone(unit), term);
    unit.vitals.ours(&unit.name, true);
    tokio::select! {
        () = keep_lease(&context, asked) => deposed(&context),
        () = scans(&context) => deposed(&context),
        () = stop.cancelled() => {
            // Without an answer the lease runs out by itself.
            let _ = timeout(RELEASE, unit.store.release(&context.term)).await;
        }
    }
    unit.vitals.ours(&unit.name, false);
}

fn deposed(context: &Context) {
    tracing::warn!(
        target: "final::reconcile",
        job = context.unit.name.job,
        copy = context.unit.name.target,
        epoch = context.term.epoch,
        "another process runs the scans now, or the lease could not be renewed; standing by"
    );
}

/// Renews the lease until it is lost.
async fn keep_lease(context: &Context, asked: Instant) {
    let (unit, term) = (&context.unit, &context.term);
    let mut end = asked + unit.lease;
    loop {
        let next = end.min(Instant::now() + unit.lease / 3);
        sleep(next.saturating_duration_since(Instant::now())).await;
        let asked = Instant::now();
        let left = end.saturating_duration_since(asked);
        let take = unit.store.take(&unit.name, term.owner, unit.lease);
        match timeout(left, take).await {
            Ok(Ok(Some(epoch))) if epoch == term.epoch => end = asked + unit.lease,
            Ok(Err(_)) if asked < end => sleep(unit.lease / 20).await,
            Ok(_) | Err(_) => return,
        }
    }
}

/// Tells of rows that belong to a source or target which the job does not have any more, and which no other configuration
/// runs now. One unit of the job does so.
async fn tell_of_others(context: &Context) {
    let unit = &context.unit;
    let units = unit.job.units();
    if units.first() != Some(&unit.name) {
        return;
    }
    // Without an answer the next term tells it.
    let all = unit.store.leftovers(&unit.name.job, &units).await;
    for other in all
        .unwrap_or_default()
        .iter()
        .filter(|other| !other.is_running)
    {
        tracing::warn!(
            target: "final::reconcile",
            job = unit.name.job,
            source = other.source,
            copy = other.target,
            repairs = other.repairs,
            "the state has positions or repairs of a source or target that the job does not have; `final reconcile forget` shows \
             and removes what is left over"
        );
    }
}

/// Runs all scans. Ends if one of them finds that another process has taken over. A job that only repairs, or tells alerts, has
/// none: its lease says that it runs.
async fn scans(context: &Context) {
    tell_of_others(context).await;
    let job = &context.unit.job;
    let wanted = job.scans();
    if wanted.is_empty() {
        return pending().await;
    }
    let mut scans: Vec<Box<dyn Scan>> = vec![
        Box::new(Look::default()),
        Box::new(Sweeping::new(wanted.sweep.clone())),
    ];
    if let Some(fresh) = &wanted.fresh {
        scans.push(Box::new(Fresh::new(fresh.clone(), wanted.look_back)));
    }
    if let Some(updated) = &wanted.updated {
        scans.push(Box::new(Updated::new(updated.clone())));
    }
    let mut scans: FuturesUnordered<_> = scans
        .into_iter()
        .map(|scan| repeat(context, scan))
        .collect();
    scans.next().await;
}

/// Does one round after the other, until another process has taken over.
async fn repeat(context: &Context, mut scan: Box<dyn Scan>) {
    let mut pauses = Pauses::default();
    loop {
        let pause = match scan.round(context).await {
            Ok(pause) => {
                pauses = Pauses::default();
                context.works(scan.kind()).await;
                pause
            }
            Err(Ended::Deposed) => return,
            Err(Ended::Paused) => {
                context.paused().await;
                Duration::ZERO
            }
            Err(Ended::Partly(why, pause)) => {
                pauses = Pauses::default();
                context.works_partly(scan.kind(), why).await;
                pause
            }
            Err(Ended::Failed(error)) => {
                context.forget_tables().await;
                context.fails(scan.kind(), &error, &mut pauses).await
            }
        };
        sleep(pause).await;
    }
}
