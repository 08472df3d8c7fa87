//! Calls to real servers on this machine, most of which answer as no server should.

mod addresses;
mod circuits;
mod connections;
mod hostile;
mod logs;
mod outcomes;
mod places;
mod server;
mod signatures;
mod tls;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use crate::{Call, CallOutcome, Caller, CallerBuilder, Clock, Endpoint, NotDone};

/// Long enough for a busy machine, where a test expects an answer.
const PATIENT: Duration = Duration::from_secs(60);

fn caller() -> CallerBuilder {
    Caller::builder()
}

/// A call that differs from others in its key alone.
fn call(key: &str) -> Call {
    Call::new(r#"{"order":7}"#, "application/json", key).unwrap()
}

/// An endpoint on this machine.
fn local(url: &str) -> Endpoint {
    Endpoint::new(url)
        .unwrap()
        .allow_private(true)
        .timeout(PATIENT)
}

#[track_caller]
fn why(outcome: CallOutcome) -> NotDone {
    match outcome {
        CallOutcome::Retry { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_paused(outcome: &CallOutcome) -> bool {
    matches!(outcome, CallOutcome::Paused { .. })
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
struct Standing {
    begun: (Instant, SystemTime),
    moved: Mutex<Duration>,
}

impl Standing {
    fn new() -> Arc<Self> {
        let begun = (Instant::now(), SystemTime::now());
        Arc::new(Self {
            begun,
            moved: Mutex::default(),
        })
    }

    fn advance(&self, by: Duration) {
        *self.moved.lock().unwrap() += by;
    }
}

impl Clock for Standing {
    fn now(&self) -> Instant {
        self.begun.0 + *self.moved.lock().unwrap()
    }

    fn wall(&self) -> SystemTime {
        self.begun.1 + *self.moved.lock().unwrap()
    }
}
