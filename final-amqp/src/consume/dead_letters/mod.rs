//! Publishes dead letters, and loses none.
//!
//! Input: a [`DeadLetterJob`] for each delivery that is dead-lettered. Output: its receipt, which the
//! delivery's channel waits for before it acks. Until a dead letter is proven stored its delivery stays in
//! flight; a dead letter that gets lost on its way, by a panic, gives its delivery back to the queue.
//!
//! Dead letters go over the publishing connection: the broker can block a connection that publishes, and
//! acks must not be blocked.
//!
//! ```text
//! DeadLetterJobs ─▶ DeadLetterTask, many in flight ── stored ─▶ receipt
//!                        ├ refused, or waits for long ─▶ the bus's detour ── stored there ─▶ receipt
//!                        │ the broker closed the channel or connection, perhaps because of one of them
//!                        ▼
//!                   Quarantine, one at a time ─── stored ─▶ receipt
//! ```

mod job;
mod quarantine;

use std::{
    collections::{HashSet, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use lapin::Connection;
use tokio::{
    select,
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::job::DeadLetterJob;
use self::quarantine::Quarantine;
use crate::{
    connection::{close_channel, open_confirm_channel},
    error::Fault,
    outage::OutageNotice,
    properties,
    publish::{Way, confirms::ConfirmChannel, pause::Pause, sweep::SweepVerdict},
    retry_delay::RetryDelay,
    topology::Topology,
};

/// How long a dead letter waits to be published. Then it takes the detour, so that it does not hold a place of the
/// prefetch.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many are in flight at once.
const WINDOW: usize = 500;

pub(crate) const PANICKED: &str =
    "the task panicked, which is a bug; the panic's message went to stderr";

/// Where channels leave their dead letters.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterJobs(mpsc::UnboundedSender<DeadLetterJob>);

impl DeadLetterJobs {
    pub(crate) fn put(&self, job: DeadLetterJob) {
        // Without a receiver the link is closed, and the delivery goes back to the queue.
        let _ = self.0.send(job);
    }
}

/// Publishes what is put into the [`DeadLetterJobs`].
pub(crate) struct DeadLetterTask {
    way: Arc<Way>,
    topology: Topology,
    jobs: mpsc::UnboundedReceiver<DeadLetterJob>,
    waiting: VecDeque<DeadLetterJob>,
    suspects: DeadLetterJobs,
    /// Where jobs come back to that the detour does not take.
    back: DeadLetterJobs,
    /// Whether the last dead letter was refused, and took the detour.
    is_full: bool,
    notice: OutageNotice,
}

impl DeadLetterTask {
    /// The two tasks that publish, and where they get their jobs from.
    pub(crate) fn new(way: Arc<Way>, topology: Topology) -> (Self, Quarantine, DeadLetterJobs) {
        let (sender, jobs) = mpsc::unbounded_channel();
        let back = DeadLetterJobs(sender);
        let (quarantine, suspects) = Quarantine::new(Arc::clone(&way), topology.clone());
        let this = Self {
            notice: OutageNotice::new(Arc::clone(&way.service), "publishing dead letters"),
            way,
            topology,
            jobs,
            waiting: VecDeque::new(),
            suspects,
            back: back.clone(),
            is_full: false,
        };
        (this, quarantine, back)
    }

    /// Publishes until told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut connection = self.way.connection.subscribe();
        let work = async {
            let mut delay = RetryDelay::new();
            loop {
                if self.waiting.is_empty() {
                    let Some(job) = self.jobs.recv().await else {
                        return;
                    };
                    self.waiting.push_back(job);
                }
                let open = select! {
                    open = current(&mut connection) => open,
                    () = sleep(PATIENCE) => {
                        self.move_old();
                        continue;
                    }
                };
                let Some(open) = open else {
                    return;
                };
                let served = AssertUnwindSafe(self.serve(&open)).catch_unwind().await;
                let why = match served {
                    Ok(Ok(())) => {
                        if !self.is_full {
                            self.notice.works();
                        }
                        delay.reset();
                        continue;
                    }
                    Ok(Err(why)) => why,
                    // The deliveries in flight go back to the queue. The waiting ones are still here.
                    Err(_) => PANICKED.to_owned(),
                };
                self.notice.fails(&why);
                self.move_old();
                sleep(delay.next()).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Publishes on one channel until nothing is left for a while. The error says why the channel ended.
    async fn serve(&mut self, connection: &Connection) -> Result<(), String> {
        // Before every channel: a missing queue is the likeliest reason for the last channel's end.
        let declared = self.topology.declare_dead_letters(connection).await;
        declared.map_err(|error| error.to_string())?;
        let channel = open_confirm_channel(connection)
            .await
            .map_err(|error| error.to_string())?;
        let mut confirms = ConfirmChannel::new(channel, properties::id);
        let mut in_flight = HashSet::new();
        let mut pause = Pause::new(self.way.blocked.subscribe());
        let limit = self.way.settings.confirm_timeout;
        let mut verdicts = Vec::new();
        let frame_max = connection.configuration().frame_max();
        let trouble = loop {
            let is_blocked = pause.is_on();
            if !is_blocked {
                self.fill(&mut confirms, &mut in_flight, frame_max);
            }
            let late = confirms
                .oldest()
                .is_some_and(|sent| pause.deadline(sent, limit) <= Instant::now());
            if late && !is_blocked {
                break Some("the broker does not confirm dead letters".to_owned());
            }
            let room = confirms.len() < WINDOW;
            let idle = confirms.len() == 0 && self.waiting.is_empty();
            select! {
                biased;
                () = confirms.turn(&mut verdicts) => {}
                () = pause.changed() => {}
                job = self.jobs.recv(), if room => match job {
                    Some(job) => self.waiting.push_back(job),
                    None => break None,
                },
                () = sleep(Duration::from_secs(1)) => {
                    if idle {
                        break None;
                    }
                    self.move_old();
                }
            }
            let refused = self.judge(&mut verdicts, &mut in_flight);
            if !confirms.is_open() {
                break Some("the channel was closed".to_owned());
            }
            if refused.is_some() {
                break refused;
            }
            tokio::task::consume_budget().await;
        };
        let broken = confirms.end(&mut verdicts);
        // What is undecided goes again in any case.
        let refused = self.judge(&mut verdicts, &mut in_flight);
        let blamed = broken.fault.as_ref().is_some_and(Fault::blames_a_message);
        for (job, _) in broken.unanswered.into_iter().rev() {
            if blamed {
                self.suspects.put(job);
            } else {
                self.waiting.push_front(job);
            }
        }
        self.waiting.extend(broken.innocent);
        close_channel(&broken.channel).await;
        let fault = broken.fault.map(|fault| fault.text().to_owned());
        match fault.or(trouble).or(refused) {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    /// Lets a dead letter take the detour. Returns it if there is none for it.
    fn take_detour(&self, job: DeadLetterJob) -> Option<DeadLetterJob> {
        let Some((detour, detoured)) = self.way.detour.get().zip(job.detoured()) else {
            return Some(job);
        };
        let back = self.back.clone();
        let answer = move |is_stored: bool| {
            if is_stored {
                job.receipt.moved();
            } else {
                back.put(job.again());
            }
        };
        detour.put(detoured, Box::new(answer));
        None
    }

    /// Lets every dead letter take the detour that has waited for long.
    fn move_old(&mut self) {
        while let Ok(job) = self.jobs.try_recv() {
            self.waiting.push_back(job);
        }
        for job in std::mem::take(&mut self.waiting) {
            if job.receipt.is_void() {
                continue;
            }
            let job = match job.since.elapsed() >= PATIENCE {
                true => self.take_detour(job),
                false => Some(job),
            };
            self.waiting.extend(job);
        }
    }

    /// Queues what there is room for. Two of one id are never in flight together, as returns are told
    /// apart by it.
    fn fill(
        &mut self,
        confirms: &mut ConfirmChannel<String, DeadLetterJob>,
        in_flight: &mut HashSet<String>,
        frame_max: u32,
    ) {
        while confirms.len() < WINDOW {
            let Some(job) = self.waiting.pop_front() else {
                return;
            };
            if job.receipt.is_void() {
                continue;
            }
            if in_flight.contains(job.id()) {
                self.waiting.push_front(job);
                return;
            }
            match job.wire(&self.topology, frame_max) {
                Ok(wire) => {
                    let id = job.id().to_owned();
                    in_flight.insert(id.clone());
                    confirms.publish(wire, id, job);
                }
                // Every part came over the wire, so this is rare. It must not hold up the others.
                Err(_) => self.suspects.put(job),
            }
        }
    }

    /// Reports what is stored. What is refused takes the detour, and the rest is kept. Says why if something was not
    /// taken.
    fn judge(
        &mut self,
        verdicts: &mut Vec<(DeadLetterJob, SweepVerdict)>,
        in_flight: &mut HashSet<String>,
    ) -> Option<String> {
        let mut trouble = None;
        for (job, verdict) in verdicts.drain(..) {
            in_flight.remove(job.id());
            let job = match verdict {
                SweepVerdict::Stored => {
                    self.is_full = false;
                    job.receipt.stored();
                    continue;
                }
                SweepVerdict::Refused => self.take_detour(job),
                // The topology is declared again, and then it is stored.
                SweepVerdict::Unroutable => Some(job),
            };
            match job {
                Some(job) => {
                    trouble = Some(not_stored(verdict).to_owned());
                    self.waiting.push_back(job);
                }
                None => {
                    self.is_full = true;
                    self.notice.fails(not_stored(verdict));
                }
            }
        }
        trouble
    }
}

/// Why a dead letter is published again.
fn not_stored(verdict: SweepVerdict) -> &'static str {
    match verdict {
        SweepVerdict::Unroutable => "no queue takes dead letters; the topology is declared again",
        SweepVerdict::Refused | SweepVerdict::Stored => {
            "the broker refuses dead letters; is the dead-letter queue full?"
        }
    }
}

/// The publishing connection, as soon as there is one. `None` once the publisher has ended.
async fn current(
    connection: &mut watch::Receiver<Option<Arc<Connection>>>,
) -> Option<Arc<Connection>> {
    let open = connection.wait_for(Option::is_some).await.ok()?;
    open.clone()
}
