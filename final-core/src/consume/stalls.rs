//! Notices that handlers block the service's runtime.
//!
//! Input: a beat from a task of the runtime, and which handlers its threads poll now. State: the last beat. Output: a
//! warning with the topics of these handlers when no beat has come for [`LIMIT`], and a line when the runtime runs
//! again.
//!
//! ```text
//! running ── no beat for LIMIT: WARN ──▶ standing still ── a beat: INFO ──▶ running
//! ```
//!
//! The watch is a thread of its own, because nothing that runs on a blocked runtime can tell of it. While the runtime
//! stands still, leases of the outbox and of the log are not renewed.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::Builder,
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{lock::lock, runtime::inside::BusNumber};

/// How long the runtime may stand still without a warning. The leases of the outbox last 5 s by default.
const LIMIT: Duration = Duration::from_secs(3);
/// How often the runtime beats, and the watch looks.
const BEAT: Duration = Duration::from_millis(500);

/// The handler that a thread polls now: its bus and its topic.
type Polled = Mutex<Option<(BusNumber, Arc<str>)>>;

/// One entry for each thread that has polled a handler and has not ended.
static THREADS: Mutex<Vec<Weak<Polled>>> = Mutex::new(Vec::new());

thread_local! {
    static HERE: Arc<Polled> = {
        let here = Arc::default();
        let mut threads = lock(&THREADS);
        threads.retain(|thread| thread.strong_count() > 0);
        threads.push(Arc::downgrade(&here));
        here
    };
}

/// Runs the handler of a topic, so that the watch can name it.
pub(super) async fn watched<F: Future>(bus: BusNumber, topic: Arc<str>, handler: F) -> F::Output {
    let mut handler = pin!(handler);
    poll_fn(|cx| {
        note(Some((bus, Arc::clone(&topic))));
        let _end = Polling;
        handler.as_mut().poll(cx)
    })
    .await
}

/// Clears the note at the end of a poll, also of one that panics.
struct Polling;

impl Drop for Polling {
    fn drop(&mut self) {
        note(None);
    }
}

fn note(polled: Option<(BusNumber, Arc<str>)>) {
    // It fails only while the thread ends.
    let _ = HERE.try_with(|here| *lock(here) = polled);
}

/// The topics whose handlers are polled now.
fn polled_by(bus: BusNumber) -> Vec<Arc<str>> {
    let threads: Vec<_> = lock(&THREADS).iter().filter_map(Weak::upgrade).collect();
    let polled = threads.iter().filter_map(|thread| lock(thread).clone());
    let mut topics: Vec<_> = polled
        .filter_map(|(of, topic)| (of == bus).then_some(topic))
        .collect();
    topics.sort();
    topics.dedup();
    topics
}

/// Beats until `stop`, and is watched meanwhile. The thread that watches ends with this future.
pub(crate) async fn watch(bus: BusNumber, service: Arc<str>, stop: CancellationToken) {
    let beats = Arc::new(AtomicU64::new(0));
    let (alive, ended) = mpsc::channel::<Infallible>();
    let seen = Arc::clone(&beats);
    let watching = Builder::new()
        .name("final-watch".into())
        .spawn(move || Watch::new(bus, service).run(&seen, &ended));
    let watching = match watching {
        Ok(watching) => watching,
        Err(error) => {
            tracing::debug!(target: "final::consume", %error, "nothing watches for handlers that block");
            return;
        }
    };
    let beating = async {
        loop {
            beats.fetch_add(1, Ordering::Relaxed);
            sleep(BEAT).await;
        }
    };
    stop.run_until_cancelled(beating).await;
    drop(alive);
    // It waits for nothing else.
    let _ = watching.join();
}

/// What the thread knows.
struct Watch {
    bus: BusNumber,
    service: Arc<str>,
    beat: u64,
    /// For how long this beat has been the last one. Looks are counted and no clock is read, so that a process that
    /// was stopped does not count.
    since: Duration,
}

impl Watch {
    fn new(bus: BusNumber, service: Arc<str>) -> Self {
        Self {
            bus,
            service,
            beat: 0,
            since: Duration::ZERO,
        }
    }

    fn run(mut self, beats: &AtomicU64, ended: &mpsc::Receiver<Infallible>) {
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(BEAT) {
            self.look(beats.load(Ordering::Relaxed));
        }
    }

    fn look(&mut self, beat: u64) {
        let service = &*self.service;
        if beat != self.beat {
            if self.since >= LIMIT {
                tracing::info!(
                    target: "final::consume", service, stood_still = ?self.since,
                    "the runtime runs again"
                );
            }
            (self.beat, self.since) = (beat, Duration::ZERO);
            return;
        }
        let before = self.since;
        self.since += BEAT;
        if before < LIMIT && self.since >= LIMIT {
            let topics = polled_by(self.bus);
            tracing::warn!(
                target: "final::consume", service, ?topics, stands_still = ?self.since,
                "handlers block the runtime, and leases are not renewed; move blocking work into tokio::task::spawn_blocking"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn handlers_are_named_while_a_thread_polls_them() {
        let (bus, other) = (BusNumber::new(), BusNumber::new());
        let seen = watched(bus, "placed".into(), async {
            tokio::task::yield_now().await;
            (polled_by(bus), polled_by(other))
        })
        .await;
        assert_eq!(seen, (vec![Arc::from("placed")], Vec::new()));

        let mut waiting = pin!(watched(bus, "placed".into(), std::future::pending::<()>()));
        assert!(futures::poll!(&mut waiting).is_pending());
        assert_eq!(polled_by(bus), Vec::<Arc<str>>::new());
    }

    #[test]
    fn a_stall_is_noticed_after_its_limit_and_ends_with_a_beat() {
        let mut watch = Watch::new(BusNumber::new(), "shop".into());
        watch.look(1);
        for _ in 0..5 {
            watch.look(1);
            assert!(watch.since < LIMIT);
        }
        watch.look(1);
        assert_eq!(watch.since, LIMIT);

        watch.look(2);
        assert_eq!(watch.since, Duration::ZERO);
    }
}
