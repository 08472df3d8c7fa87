//! One stream, from its opening to its end, while the lease is ours.
//!
//! Input: a term that was taken. State: the open stream, the tasks of feed and target, the lease. Output: why it has
//! ended; everything that was done is saved.
//!
//! ```text
//!   open ─ save the point and the identity ─▶ feed, target and lease run ─┬─ feed ends ─▶ target ends ─▶ close ─▶ end
//!                                                                         ├─ target ends ───────────────▶ close ─▶ end
//!                                                                         └─ lease is lost ─▶ both are cut off ─▶ end
//! ```
//!
//! The lease is renewed by a task of its own. In one task with the feed, each step of a renewal would wait until the feed has
//! nothing to do. In a large transaction, and on a busy machine, that is seconds.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Engine, claim,
    end::TermEnd,
    feed::{Feed, FeedEnd},
    vitals::Vitals,
};
use crate::{
    capture::{CaptureState, StopReason},
    format::Encoder,
    position::{Position, PositionError, PositionStore, SourceIdentity, Standing, TakenTerm, Term},
    source::OpenedSource,
    target::{Job, TargetEnd},
};

/// How long opening a stream may take. A source has the shorter limit for each of its steps, and names the cause.
const OPENING: Duration = Duration::from_secs(180);

/// How long a stream has to end in good order.
const CLOSING: Duration = Duration::from_secs(5);

/// Runs one term, which was asked for at that time. `stop` lets it end in good order.
pub(super) async fn run(
    engine: &Arc<Engine>,
    vitals: &Arc<Vitals>,
    taken: TakenTerm,
    asked: Instant,
    stop: &CancellationToken,
) -> TermEnd {
    let store = engine.outlet.positions();
    let TakenTerm {
        term,
        position,
        number,
    } = taken;
    vitals.set_position(position.clone());
    vitals.change(|numbers| numbers.epoch = term.epoch);
    // The target asks for it, and may begin before the renewals do.
    vitals.renewed(Some(asked + engine.lease));
    let mut lease = keep_lease(engine, vitals, &store, &term, asked);
    let stream = stream(engine, vitals, &*store, &term, position, number, stop);
    let end = tokio::select! {
        end = stream => end,
        lost = &mut lease => lost.unwrap_or_else(|error| {
            TermEnd::Stopped(StopReason::Panicked(format!("the task of the lease: {error}")))
        }),
    };
    // A renewal after the lease was given back would keep it from the next reader.
    lease.abort();
    if !lease.is_finished() {
        let _ = lease.await;
    }
    vitals.forget_in_hand();
    end
}

async fn stream(
    engine: &Arc<Engine>,
    vitals: &Arc<Vitals>,
    store: &dyn PositionStore,
    term: &Term,
    position: Option<Position>,
    mut number: i64,
    stop: &CancellationToken,
) -> TermEnd {
    let has_begun = position.is_some();
    let from = position.or_else(|| begin_at(engine));
    let opening = engine.source.open(&engine.encoder.selection, from.as_ref());
    let opened = tokio::select! {
        opened = timeout(OPENING, opening) => opened,
        () = stop.cancelled() => return TermEnd::Told,
    };
    let OpenedSource {
        mut reader,
        identity,
        point,
    } = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return error.into(),
        Err(_) => {
            return TermEnd::Away(format!(
                "the source did not open a stream within {OPENING:?}"
            ));
        }
    };
    if !has_begun && let Err(end) = claim::of_another(engine, store, &identity).await {
        let _ = timeout(CLOSING, reader.close()).await;
        return end;
    }
    // Before anything is read: a first start must not begin "from now on" a second time. A point that somebody has
    // named is written down with the first progress behind it: until then another one can be named.
    let is_named = !has_begun && engine.from.is_some();
    number += i64::from(!is_named);
    let begun = Standing {
        position: Position {
            identity: identity.clone(),
            point: from.as_ref().map_or(point, |from| from.point.clone()),
            partial: from.and_then(|from| from.partial),
        },
        at: None,
        number,
    };
    if !is_named && let Err(error) = store.save(term, &begun, &[]).await {
        let _ = timeout(CLOSING, reader.close()).await;
        return error.into();
    }
    vitals.set_position(Some(begun.position.clone()));
    vitals.set_state(CaptureState::Streaming);
    vitals.change(|numbers| numbers.source_trouble = None);
    let _ = store.note(term, "streaming", None).await;
    tracing::info!(
        target: "final::capture",
        capture = &*term.name, source = engine.source.place(), position = %begun.position, epoch = term.epoch,
        "changes are read"
    );

    let encoder = Encoder::new(engine.encoder.clone(), identity.clone());
    let mut feed = Feed::new(engine, encoder, begun.position.partial, Arc::clone(vitals));
    let (lots, given) = mpsc::channel(1);
    let mut target = Target::start(engine, vitals, term, identity, number, given);
    let positions = vitals.position();
    let fed = tokio::select! {
        fed = feed.run(&mut *reader, lots, positions, stop) => Some(fed),
        // Only an end of its own: the feed ends first otherwise.
        ended = &mut target.task => {
            target.ended = Some(ended.unwrap_or_else(|error| Err(panicked(&error))));
            None
        }
    };
    let is_told = matches!(fed, Some(FeedEnd::Told) | None);
    let ended = target.end(is_told, stop, engine.shutdown_within).await;
    let saved = vitals
        .position()
        .borrow()
        .as_ref()
        .map(|at| at.point.clone());
    if let Some(point) = saved {
        reader.saved(&point);
    }
    let _ = timeout(CLOSING, reader.close()).await;
    match (ended, fed) {
        (Some(Err(TargetEnd::Deposed)), _) => TermEnd::Deposed,
        (Some(Err(TargetEnd::Stopped(reason))), _) => TermEnd::Stopped(reason),
        (_, Some(FeedEnd::Stopped(reason))) => TermEnd::Stopped(reason),
        (_, Some(FeedEnd::Away(error))) => error.into(),
        (_, Some(FeedEnd::Told)) => TermEnd::Told,
        (_, Some(FeedEnd::TargetEnded) | None) => {
            TermEnd::Away("the target's task has ended".to_owned())
        }
    }
}

/// Where a capture begins that has no position.
fn begin_at(engine: &Engine) -> Option<Position> {
    let point = engine.from.clone()?;
    Some(Position {
        identity: SourceIdentity("".into()),
        point,
        partial: None,
    })
}

fn panicked(error: &tokio::task::JoinError) -> TargetEnd {
    TargetEnd::Stopped(StopReason::Panicked(format!("the target's task: {error}")))
}

/// The task of the target. It is cut off when this is dropped.
struct Target {
    task: JoinHandle<Result<(), TargetEnd>>,
    ended: Option<Result<(), TargetEnd>>,
}

impl Target {
    fn start(
        engine: &Arc<Engine>,
        vitals: &Arc<Vitals>,
        term: &Term,
        identity: SourceIdentity,
        number: i64,
        lots: mpsc::Receiver<crate::target::Lot>,
    ) -> Self {
        let job = Job {
            term: term.clone(),
            identity,
            number,
            lots,
            vitals: Arc::clone(vitals),
            on_poison: engine.on_poison,
            most_parked: engine.most_parked,
            max_message_bytes: engine.max_message_bytes,
        };
        let outlet = Arc::clone(&engine.outlet);
        Self {
            task: tokio::spawn(async move { outlet.run(job).await }),
            ended: None,
        }
    }

    /// Waits until everything that was handed over is done: for `limit` at most, which begins once the capture is told to
    /// stop, or at once if the stream has ended by itself. A topic that takes nothing would keep the source closed.
    async fn end(
        &mut self,
        is_told: bool,
        stop: &CancellationToken,
        limit: Duration,
    ) -> Option<Result<(), TargetEnd>> {
        if self.ended.is_none() {
            let too_late = async {
                if is_told {
                    stop.cancelled().await;
                }
                sleep(limit).await;
            };
            tokio::select! {
                ended = &mut self.task => {
                    self.ended = Some(ended.unwrap_or_else(|error| Err(panicked(&error))));
                }
                () = too_late => {
                    tracing::warn!(
                        target: "final::capture",
                        ?limit,
                        "the target did not take in time what was read; it is read again"
                    );
                    // The next term of this process has the same epoch, so this one must not write any more.
                    self.task.abort();
                    let _ = timeout(CLOSING, &mut self.task).await;
                }
            }
        }
        self.ended.take()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Renews the lease until it is lost, in a task of its own.
fn keep_lease(
    engine: &Arc<Engine>,
    vitals: &Arc<Vitals>,
    store: &Arc<dyn PositionStore>,
    term: &Term,
    asked: Instant,
) -> AbortOnDropHandle<TermEnd> {
    let (engine, vitals) = (Arc::clone(engine), Arc::clone(vitals));
    let (store, term) = (Arc::clone(store), term.clone());
    let renew = async move { renew_lease(&engine, &vitals, &*store, &term, asked).await };
    AbortOnDropHandle::new(tokio::spawn(renew))
}

async fn renew_lease(
    engine: &Engine,
    vitals: &Vitals,
    store: &dyn PositionStore,
    term: &Term,
    asked: Instant,
) -> TermEnd {
    let lease = engine.lease;
    let mut end = asked + lease;
    loop {
        vitals.renewed(Some(end));
        let next = end.min(Instant::now() + lease / 3);
        sleep(next.saturating_duration_since(Instant::now())).await;
        let asked = Instant::now();
        let left = end.saturating_duration_since(asked);
        match timeout(left, store.take(&term.name, engine.owner, lease)).await {
            Ok(Ok(Some(taken))) if taken.term == *term => end = asked + lease,
            Ok(Ok(_)) => return TermEnd::Deposed,
            // The store has given the lease back: another reader may begin at once.
            Ok(Err(error @ PositionError::Unreadable(_))) => {
                vitals.renewed(None);
                return error.into();
            }
            Ok(Err(_)) if asked < end => {
                // The target's own tries tell of it.
                sleep(lease / 20).await;
            }
            Ok(Err(_)) | Err(_) => {
                vitals.renewed(None);
                return TermEnd::Deposed;
            }
        }
    }
}
