//! Publishes dead letters, and gives none up.
//!
//! They go over the publishing connection, because a connection that publishes can be blocked by the
//! broker, and acks must not be. Until a dead letter is proven stored its delivery stays in hand; one
//! that gets lost on its way, by a panic, gives its delivery back to the queue.

use std::{
    any::Any,
    collections::{HashSet, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use final_core::{MessageId, broker::DeadLetter};
use futures::FutureExt;
use lapin::Connection;
use tokio::{
    select,
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::order::DeadLetterReceipt;
use crate::{
    connection::{close_channel, open_confirm_channel},
    error::Fault,
    outage::OutageNotice,
    properties::{Original, dead_letter},
    publish::{Way, confirms::ConfirmChannel, pause::Pause, sweep::SweepVerdict},
    retry_delay::RetryDelay,
    topology::Topology,
};

/// How many are in flight at once.
const WINDOW: usize = 500;

/// A delivery on its way to the dead letters.
#[derive(Debug)]
pub(crate) struct DeadLetterJob {
    original: Original,
    letter: DeadLetter,
    /// The message id: the original's where it has one, else the one it has here.
    id: String,
    /// The one it has here, also without what it brought along.
    own_id: MessageId,
    receipt: DeadLetterReceipt,
    /// Whether the channel was closed on it, and it must go alone.
    suspect: bool,
    /// Whether it was refused alone, and must go without what it brought along.
    bare: bool,
}

impl DeadLetterJob {
    /// `id` is the message's id, `None` of one that cannot be understood; `identified` says whether its
    /// producer gave it.
    pub(crate) fn new(
        original: Original,
        id: Option<(MessageId, bool)>,
        letter: DeadLetter,
        receipt: DeadLetterReceipt,
    ) -> Self {
        let written = original.properties.message_id().as_ref();
        let (own_id, identified) = id.unwrap_or_else(|| (MessageId::new(), written.is_some()));
        let id = match written.filter(|_| identified) {
            Some(id) => id.to_string(),
            None => own_id.to_string(),
        };
        Self {
            original,
            letter,
            id,
            own_id,
            receipt,
            suspect: false,
            bare: false,
        }
    }
}

/// Where channels leave their dead letters.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterJobs(mpsc::UnboundedSender<DeadLetterJob>);

impl DeadLetterJobs {
    pub(crate) fn put(&self, job: DeadLetterJob) {
        // Without a receiver the link is closed, and the delivery goes back.
        let _ = self.0.send(job);
    }
}

/// Publishes what is put into the [`DeadLetterJobs`].
pub(crate) struct DeadLetters {
    way: Arc<Way>,
    topology: Topology,
    jobs: mpsc::UnboundedReceiver<DeadLetterJob>,
    waiting: VecDeque<DeadLetterJob>,
    notice: OutageNotice,
}

/// A channel's end, or what keeps it from going on.
type Trouble = String;

impl DeadLetters {
    pub(crate) fn new(way: Arc<Way>, topology: Topology) -> (Self, DeadLetterJobs) {
        let (sender, jobs) = mpsc::unbounded_channel();
        let this = Self {
            notice: OutageNotice::new(
                Arc::clone(&way.service),
                "putting messages to the dead letters",
            ),
            way,
            topology,
            jobs,
            waiting: VecDeque::new(),
        };
        (this, DeadLetterJobs(sender))
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
                let Some(open) = current(&mut connection).await else {
                    return;
                };
                let served = AssertUnwindSafe(self.serve(&open)).catch_unwind().await;
                let why = match served {
                    Ok(Ok(())) => {
                        self.notice.well();
                        delay = RetryDelay::new();
                        continue;
                    }
                    Ok(Err(why)) => why,
                    // What was in flight goes back to the queue; what waits is left.
                    Err(panic) => format!("it panicked, which is a bug: {}", text(&*panic)),
                };
                self.notice.trouble(&why);
                sleep(delay.next()).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Publishes on one channel until nothing is left for a while, or trouble.
    async fn serve(&mut self, connection: &Connection) -> Result<(), Trouble> {
        // Before every channel, as a missing queue is the likeliest reason for the last one's end.
        let declared = self.topology.declare_dead_letters(connection).await;
        declared.map_err(|error| error.to_string())?;
        let channel = open_confirm_channel(connection)
            .await
            .map_err(|error| error.to_string())?;
        let mut confirms = ConfirmChannel::new(channel, str::to_owned);
        let mut in_flight = HashSet::new();
        let mut pause = Pause::new(self.way.blocked.subscribe());
        let limit = self.way.settings.confirm_timeout;
        let mut verdicts = Vec::new();
        let frame_max = connection.configuration().frame_max();
        let trouble = loop {
            let is_blocked = pause.is_on();
            if !is_blocked && let Some(why) = self.fill(&mut confirms, &mut in_flight, frame_max) {
                break Some(why);
            }
            let late = confirms
                .oldest()
                .is_some_and(|sent| pause.deadline(sent, limit) <= Instant::now());
            if late && !is_blocked {
                break Some("the broker does not confirm dead letters".to_owned());
            }
            let room = confirms.len() < self.window();
            let idle = confirms.len() == 0 && self.waiting.is_empty();
            select! {
                biased;
                () = confirms.turn(&mut verdicts) => {}
                () = pause.changed() => {}
                job = self.jobs.recv(), if room => match job {
                    Some(job) => self.waiting.push_back(job),
                    None => break None,
                },
                () = sleep(Duration::from_secs(1)) => if idle { break None },
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
        let broken = confirms.end(&mut verdicts).await;
        // What is undecided goes again in any case.
        let refused = self.judge(&mut verdicts, &mut in_flight);
        let blamed = matches!(
            broken.fault,
            Some(Fault::Channel(..) | Fault::Connection(..) | Fault::Unwritable(_))
        );
        let alone = broken.unanswered.len() == 1;
        for (mut job, _) in broken.unanswered {
            job.bare |= blamed && alone;
            if job.bare {
                // What the id was read with does not travel along.
                job.id = job.own_id.to_string();
            }
            job.suspect |= blamed;
            self.waiting.push_front(job);
        }
        self.waiting.extend(broken.innocent);
        close_channel(&broken.channel).await;
        match broken
            .fault
            .map(|fault| fault.text().to_owned())
            .or(trouble)
            .or(refused)
        {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    /// How many may be in flight: one, while the first in line is suspect.
    fn window(&self) -> usize {
        match self.waiting.front() {
            Some(job) if job.suspect => 1,
            _ => WINDOW,
        }
    }

    /// Queues what there is room for. Two of one id are never in flight together, as returns are told
    /// apart by it. Says why if one cannot be made.
    fn fill(
        &mut self,
        confirms: &mut ConfirmChannel<String, DeadLetterJob>,
        in_flight: &mut HashSet<String>,
        frame_max: u32,
    ) -> Option<Trouble> {
        while confirms.len() < self.window() {
            let job = self.waiting.pop_front()?;
            if job.receipt.is_void() {
                continue;
            }
            if in_flight.contains(&job.id) {
                self.waiting.push_front(job);
                return None;
            }
            let names = (&*self.topology.service, &*self.topology.queue);
            let bare = job.bare;
            match dead_letter(&job.original, &job.id, &job.letter, names, frame_max, bare) {
                Ok(wire) => {
                    let suspect = job.suspect;
                    in_flight.insert(job.id.clone());
                    confirms.publish(wire, job.id.clone(), job);
                    if suspect {
                        return None;
                    }
                }
                // Cannot be: every part came over the wire. The delivery stays in hand.
                Err(why) => {
                    self.waiting.push_back(job);
                    return Some(why);
                }
            }
        }
        None
    }

    /// Reports what is stored, and keeps the rest. Says why if something was not taken.
    fn judge(
        &mut self,
        verdicts: &mut Vec<(DeadLetterJob, SweepVerdict)>,
        in_flight: &mut HashSet<String>,
    ) -> Option<Trouble> {
        let mut trouble = None;
        for (job, verdict) in verdicts.drain(..) {
            in_flight.remove(&job.id);
            let why = match verdict {
                SweepVerdict::Stored => {
                    job.receipt.stored();
                    continue;
                }
                SweepVerdict::Unroutable => "no queue takes them; the topology is declared again",
                SweepVerdict::Refused => "the broker refuses them; is the dead-letter queue full?",
            };
            trouble = Some(why.to_owned());
            self.waiting.push_back(job);
        }
        trouble
    }
}

/// What a panic said.
fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref().copied())
        .unwrap_or("without a text")
}

/// The publishing connection, as soon as there is one. `None` when there will be none any more.
async fn current(
    connection: &mut watch::Receiver<Option<Arc<Connection>>>,
) -> Option<Arc<Connection>> {
    let open = connection.wait_for(Option::is_some).await.ok()?;
    open.clone()
}
