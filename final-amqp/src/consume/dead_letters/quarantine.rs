//! Publishes suspect dead letters: one of them made the broker close a channel or the connection.
//!
//! Input: jobs that may be at fault. State: the jobs that wait, each with the form and the time of its next
//! try. Output: receipts for the dead letters that are stored.
//!
//! Each goes alone, over a connection of its own, so that the fault is its own and holds up nothing else.
//! Which form is tried next, and when:
//!
//! ```text
//! whole ── refused ─▶ bare, at once ── refused ─▶ bare again, after 5 s, 10 s … 5 min
//!   └─ no answer, or not the message's fault ─▶ the same form, after a delay as above
//! ```
//!
//! A delivery whose dead letter is never taken stays in flight, unacked, until its channel ends.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use lapin::{Channel, Connection};
use tokio::{
    select,
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{DeadLetterJob, DeadLetterJobs, PANICKED, not_stored};
use crate::{
    connection::{close, close_channel, connect, open_confirm_channel},
    outage::OutageNotice,
    properties,
    publish::{Way, confirms::ConfirmChannel, pause::Pause, sweep::SweepVerdict},
    retry_delay::RetryDelay,
    role::Role,
    topology::Topology,
};

const FIRST_DELAY: Duration = Duration::from_secs(5);
const LONGEST_DELAY: Duration = Duration::from_secs(300);

/// Publishes the jobs that it is given one at a time.
pub(crate) struct Quarantine {
    way: Arc<Way>,
    topology: Topology,
    jobs: mpsc::UnboundedReceiver<DeadLetterJob>,
    waiting: Vec<Suspect>,
    notice: OutageNotice,
}

#[derive(Debug)]
struct Suspect {
    job: DeadLetterJob,
    due: Instant,
    delay: RetryDelay,
}

impl Suspect {
    fn new(job: DeadLetterJob) -> Self {
        Self {
            job,
            due: Instant::now(),
            delay: RetryDelay::between(FIRST_DELAY, LONGEST_DELAY),
        }
    }
}

impl Quarantine {
    pub(super) fn new(way: Arc<Way>, topology: Topology) -> (Self, DeadLetterJobs) {
        let (sender, jobs) = mpsc::unbounded_channel();
        let service = Arc::clone(&way.service);
        let this = Self {
            way,
            topology,
            jobs,
            waiting: Vec::new(),
            notice: OutageNotice::new(service, "the connection for suspect dead letters"),
        };
        (this, DeadLetterJobs(sender))
    }

    /// Publishes until told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let work = async {
            let mut delay = RetryDelay::new();
            while self.wait().await {
                let served = AssertUnwindSafe(self.serve()).catch_unwind().await;
                match served {
                    Ok(Ok(())) => {
                        self.notice.works();
                        delay.reset();
                    }
                    Ok(Err(why)) => {
                        self.notice.fails(&why);
                        sleep(delay.next()).await;
                    }
                    // The delivery in flight goes back to the queue.
                    Err(_) => {
                        self.notice.fails(PANICKED);
                        sleep(delay.next()).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Waits until a suspect is due. False if no suspect will come any more.
    async fn wait(&mut self) -> bool {
        loop {
            while let Ok(job) = self.jobs.try_recv() {
                self.waiting.push(Suspect::new(job));
            }
            self.waiting.retain(|one| !one.job.receipt.is_void());
            let due = self.waiting.iter().map(|one| one.due).min();
            let job = match due {
                Some(due) if due <= Instant::now() => return true,
                Some(due) => select! {
                    job = self.jobs.recv() => job,
                    () = sleep_until(due) => continue,
                },
                None => self.jobs.recv().await,
            };
            match job {
                Some(job) => self.waiting.push(Suspect::new(job)),
                None => return false,
            }
        }
    }

    fn take_due(&mut self) -> Option<Suspect> {
        let now = Instant::now();
        self.waiting.retain(|one| !one.job.receipt.is_void());
        let at = self.waiting.iter().position(|one| one.due <= now)?;
        Some(self.waiting.remove(at))
    }

    /// Publishes what is due over one connection. The error says why there was none.
    async fn serve(&mut self) -> Result<(), String> {
        let role = Role::DEAD_LETTER_QUARANTINE;
        let connection = connect(&self.way.settings, &self.way.service, role)
            .await
            .map_err(|error| error.to_string())?
            .connection;
        let served = self.serve_on(&connection).await;
        close(&connection).await;
        served
    }

    async fn serve_on(&mut self, connection: &Connection) -> Result<(), String> {
        let declared = self.topology.declare_dead_letters(connection).await;
        declared.map_err(|error| error.to_string())?;
        let mut pause = Pause::new(self.way.blocked.subscribe());
        while connection.status().connected() {
            while pause.is_on() {
                pause.changed().await;
            }
            let channel = open_confirm_channel(connection)
                .await
                .map_err(|error| error.to_string())?;
            let Some(suspect) = self.take_due() else {
                close_channel(&channel).await;
                break;
            };
            let frame_max = connection.configuration().frame_max();
            self.attempt(channel, suspect, frame_max, &mut pause).await;
        }
        Ok(())
    }

    /// Publishes one suspect on a new channel.
    async fn attempt(
        &mut self,
        channel: Channel,
        suspect: Suspect,
        frame_max: u32,
        pause: &mut Pause,
    ) {
        let mut confirms = ConfirmChannel::new(channel, properties::id);
        match suspect.job.wire(&self.topology, frame_max) {
            Ok(wire) => confirms.publish(wire, suspect.job.id().to_owned(), suspect),
            Err(why) => self.retry_later(suspect, &why),
        }
        let mut verdicts = Vec::new();
        while let Some(sent) = confirms.oldest() {
            let deadline = pause.deadline(sent, self.way.settings.confirm_timeout);
            let is_blocked = pause.is_on();
            select! {
                () = confirms.turn(&mut verdicts) => break,
                () = pause.changed() => {}
                () = sleep_until(deadline.into()), if !is_blocked => break,
            }
        }
        let broken = confirms.end(&mut verdicts);
        for (suspect, verdict) in verdicts {
            if verdict == SweepVerdict::Stored {
                self.stored(suspect);
            } else {
                self.retry_later(suspect, not_stored(verdict));
            }
        }
        let unanswered = broken.unanswered.into_iter().map(|(suspect, _)| suspect);
        for suspect in unanswered.chain(broken.innocent) {
            match &broken.fault {
                Some(fault) if fault.blames_a_message() => self.refused(suspect, fault.text()),
                Some(fault) => self.retry_later(suspect, fault.text()),
                None => self.retry_later(suspect, "the broker does not confirm dead letters"),
            }
        }
        close_channel(&broken.channel).await;
    }

    fn stored(&self, suspect: Suspect) {
        if suspect.job.is_bare() {
            tracing::warn!(
                target: "final::amqp",
                service = &*self.way.service,
                message_id = suspect.job.id(),
                "a dead letter was stored without its headers and properties"
            );
        }
        suspect.job.receipt.stored();
    }

    /// The broker closed the channel, or the connection, at this suspect alone.
    fn refused(&mut self, mut suspect: Suspect, text: &str) {
        if suspect.job.refused(text) {
            self.waiting.push(suspect);
        } else {
            self.retry_later(suspect, text);
        }
    }

    fn retry_later(&mut self, mut suspect: Suspect, why: &str) {
        let delay = suspect.delay.next();
        tracing::warn!(
            target: "final::amqp",
            service = &*self.way.service,
            message_id = suspect.job.id(),
            reason = why,
            ?delay,
            "a dead letter is not stored; its delivery stays unacked until the next attempt"
        );
        suspect.due = Instant::now() + delay;
        self.waiting.push(suspect);
    }
}
