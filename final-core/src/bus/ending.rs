//! The one end of a bus, for all who ask for it.
//!
//! Input: calls of `shutdown`, from any task and runtime, at any time. State: [`Ending`], how far the shutdown is.
//! Output: one run of the shutdown at a time, and its result for every caller, also for those that come later.
//!
//! ```text
//!   open ── first call ──▶ under way ── its task ends ──▶ ended, with a result for all
//!                           ▲     │
//!               a caller goes on  │ the runtime of the task ends first
//!                           └── cut off
//! ```

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::FutureExt;
use tokio::{runtime::Handle, sync::watch, time::timeout};

use super::{Inner, Phase};
use crate::{Error, OutboxDatabase, lock::lock, runtime::crew::panic_text};

/// How much longer than its limit a shutdown can take, with every step that has a limit of its own.
///
/// A shutdown that takes longer still belongs to a runtime that no thread runs, such as a current-thread runtime
/// outside of `block_on`.
const LONGEST_EXTRA: Duration = Duration::from_secs(60);

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    InTime,
    /// With what had to be cut short.
    Late(&'static str),
    Panicked,
}

/// How far the shutdown of a bus is.
#[derive(Debug)]
pub(super) struct Ending(watch::Sender<Step>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Open,
    UnderWay,
    CutOff,
    Ended(End),
}

/// One run of the shutdown. Dropped without an end, it is cut off.
pub(super) struct Run<DB: OutboxDatabase>(Arc<Inner<DB>>);

impl Ending {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Step::Open))
    }

    /// True for the caller that is to run the shutdown.
    fn begin(&self) -> bool {
        self.0.send_if_modified(|step| {
            let is_mine = matches!(step, Step::Open | Step::CutOff);
            if is_mine {
                *step = Step::UnderWay;
            }
            is_mine
        })
    }

    /// The first end counts.
    fn end(&self, end: End) {
        self.0.send_if_modified(|step| {
            let is_first = !matches!(step, Step::Ended(_));
            if is_first {
                *step = Step::Ended(end);
            }
            is_first
        });
    }

    fn cut_off(&self) {
        self.0.send_if_modified(|step| {
            let is_cut_off = *step == Step::UnderWay;
            if is_cut_off {
                *step = Step::CutOff;
            }
            is_cut_off
        });
    }

    /// Waits until no run is under way. The end, unless a run was cut off.
    async fn ended(&self) -> Option<End> {
        let mut steps = self.0.subscribe();
        let step = steps
            .wait_for(|step| matches!(step, Step::CutOff | Step::Ended(_)))
            .await;
        match step.as_deref() {
            Ok(Step::Ended(end)) => Some(*end),
            _ => None,
        }
    }
}

impl<DB: OutboxDatabase> Inner<DB> {
    /// Runs the shutdown, or waits for the run that is under way.
    pub(super) async fn end(self: &Arc<Self>) -> End {
        let longest = self.options.shutdown_timeout + LONGEST_EXTRA;
        loop {
            let here = Handle::try_current().ok();
            let is_here = here.is_some();
            if self.ending.begin() {
                // Boxed: the future of a service that has ours in it is as deep as all of them together.
                let run = Box::pin(Run(Arc::clone(self)).drive());
                match here.or_else(|| lock(&self.runtime).clone()) {
                    // A task, which goes on when its caller is dropped. Not in the crew: it waits for the crew.
                    Some(runtime) => drop(runtime.spawn(run)),
                    // Without a runtime nothing was started, so no step waits for anything.
                    None => run.await,
                }
            }
            let ended = self.ending.ended();
            if !is_here {
                // There is no clock here, and no other runtime to go on in.
                return ended.await.unwrap_or(End::Panicked);
            }
            match timeout(longest, ended).await {
                Ok(Some(end)) => return end,
                Ok(None) => {}
                Err(_) => self.ending.cut_off(),
            }
        }
    }
}

impl<DB: OutboxDatabase> Run<DB> {
    async fn drive(self) {
        let end = match AssertUnwindSafe(self.0.stop()).catch_unwind().await {
            Ok(end) => end,
            Err(panic) => {
                tracing::error!(
                    target: "final::bus",
                    task = "shutdown",
                    panic = panic_text(panic.as_ref()),
                    "a task panicked"
                );
                End::Panicked
            }
        };
        self.0.phase.store(Phase::Stopped as u8, Ordering::Release);
        self.0.ending.end(end);
    }
}

impl<DB: OutboxDatabase> Drop for Run<DB> {
    fn drop(&mut self) {
        self.0.ending.cut_off();
    }
}

impl End {
    /// What a caller of the shutdown is told.
    pub(super) fn told(self, limit: Duration) -> Result<(), Error> {
        match self {
            Self::InTime => Ok(()),
            Self::Late(what) => Err(Error::Timeout { what, limit }),
            Self::Panicked => Err(Error::ShutDown),
        }
    }
}
