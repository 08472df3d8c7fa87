//! Takes terms, one after the other, until the capture is told to stop or stops by itself.
//!
//! Input: the lease of the capture. State: how often it has failed in a row. Output: terms; the state that health and
//! operators see. The picture is in [`CaptureState`].

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Engine, end::TermEnd, pause::Pauses, term, vitals::Vitals};
use crate::{
    capture::{CaptureState, StopReason},
    position::{PositionError, TakenTerm, Term},
    target::lots::causes,
};

/// A term that lasted this long was a good one: the next try comes soon.
const GOOD: Duration = Duration::from_secs(10);

/// How long giving the lease back may take.
const RELEASE: Duration = Duration::from_secs(3);

/// Runs a capture until it is told to stop.
pub(crate) async fn run(engine: Arc<Engine>, vitals: Arc<Vitals>, stop: CancellationToken) {
    let mut pauses = Pauses::new();
    while let Some((asked, taken)) = standby(&engine, &vitals, &stop).await {
        let began = Instant::now();
        let term = taken.term.clone();
        vitals.set_state(CaptureState::Connecting);
        note(&engine, &term, "connecting", None).await;
        let end = term::run(&engine, &vitals, taken, asked, &stop).await;
        match end {
            TermEnd::Told => {
                release(&engine, &term, "", None).await;
                break;
            }
            TermEnd::Deposed => tracing::warn!(
                target: "final::capture",
                capture = &*engine.name, epoch = term.epoch,
                "another reader has taken over, or the lease could not be renewed; standing by"
            ),
            TermEnd::Stopped(reason) => {
                tracing::error!(
                    target: "final::capture",
                    capture = &*engine.name, why = reason.word(), error = %reason,
                    "the capture has stopped; its position stays where it is until somebody acts"
                );
                vitals.stop(reason.clone());
                release(&engine, &term, "stopped", Some(&reason)).await;
                stop.cancelled().await;
                break;
            }
            TermEnd::Away(error) => {
                if began.elapsed() > GOOD {
                    pauses = Pauses::new();
                }
                if pauses.is_first() {
                    tracing::warn!(
                        target: "final::capture",
                        capture = &*engine.name, source = engine.source.place(), error,
                        "changes cannot be read now; trying again until they can"
                    );
                }
                vitals.set_state(CaptureState::Connecting);
                vitals.change(|numbers| {
                    numbers.reconnects += 1;
                    numbers.source_trouble = Some(error.clone());
                });
                note(&engine, &term, "away", Some(&error)).await;
                tokio::select! {
                    () = sleep(pauses.next()) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
        if stop.is_cancelled() {
            release(&engine, &term, "", None).await;
        }
    }
    vitals.renewed(None);
}

/// Waits until the capture is ours, and says when that was asked for. `None` if it is told to stop.
async fn standby(
    engine: &Engine,
    vitals: &Vitals,
    stop: &CancellationToken,
) -> Option<(Instant, TakenTerm)> {
    let store = engine.outlet.positions();
    let mut pauses = Pauses::new();
    let mut is_told = false;
    let look = (engine.lease / 10).clamp(Duration::from_millis(100), Duration::from_secs(1));
    loop {
        if stop.is_cancelled() {
            return None;
        }
        let asked = Instant::now();
        let taken = tokio::select! {
            taken = store.take(&engine.name, engine.owner, engine.lease) => taken,
            () = stop.cancelled() => return None,
        };
        let pause = match taken {
            Ok(Some(taken)) => {
                vitals.target_answers();
                return Some((asked, taken));
            }
            Ok(None) => {
                vitals.target_answers();
                vitals.set_state(CaptureState::Standby);
                if !is_told {
                    tracing::info!(
                        target: "final::capture",
                        capture = &*engine.name, place = store.place(),
                        "another process reads the capture; standing by"
                    );
                    is_told = true;
                }
                pauses = Pauses::new();
                look
            }
            Err(PositionError::Unreadable(text)) => {
                tracing::error!(
                    target: "final::capture",
                    capture = &*engine.name, error = text,
                    "the position of the capture cannot be read"
                );
                vitals.stop(StopReason::Position(text));
                stop.cancelled().await;
                return None;
            }
            Err(error) => {
                let error = causes(&error);
                if pauses.is_first() {
                    tracing::warn!(
                        target: "final::capture",
                        capture = &*engine.name, place = store.place(), error,
                        "the position cannot be asked for; trying again until it can"
                    );
                }
                vitals.set_state(CaptureState::Connecting);
                vitals.change(|numbers| numbers.target_trouble = Some(error));
                pauses.next()
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => return None,
        }
    }
}

async fn note(engine: &Engine, term: &Term, state: &str, reason: Option<&str>) {
    // For operators only: the engine does without it.
    let store = engine.outlet.positions();
    let _ = tokio::time::timeout(RELEASE, store.note(term, state, reason)).await;
}

/// Gives the lease back, so that another reader need not wait for its end.
async fn release(engine: &Engine, term: &Term, state: &str, reason: Option<&StopReason>) {
    let reason = reason.map(ToString::to_string);
    note(engine, term, state, reason.as_deref()).await;
    let store = engine.outlet.positions();
    let _ = tokio::time::timeout(RELEASE, store.release(term)).await;
}
