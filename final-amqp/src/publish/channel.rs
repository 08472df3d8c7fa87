//! Publishes shared messages: many in flight on one channel.
//!
//! Input: the shared queue. State: the messages in flight on one confirm channel at a time. Output: a confirm for
//! each message. A channel that ends is replaced, and its messages are settled by the reason for its end.

use std::{sync::Arc, time::Instant};

use final_core::{
    broker::{Confirm, Sending},
    failpoint::{Failpoint, pass},
};
use lapin::{Channel, Connection};
use tokio::{select, time::sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Way,
    confirms::{Broken, ConfirmChannel},
    exchanges::Exchanges,
    pause::Pause,
    refusals::Refusals,
    sweep::SweepVerdict,
};
use crate::{
    code,
    connection::{close_channel, open_confirm_channel},
    error::Fault,
    properties,
};

/// What the publishing channels of one connection share.
#[derive(Clone)]
pub(crate) struct PublishChannel {
    pub(crate) way: Arc<Way>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) exchanges: Arc<Exchanges>,
    /// Tells the channels to stop now.
    pub(crate) stop: CancellationToken,
    /// Set if the broker does not answer on this connection.
    pub(crate) mute: CancellationToken,
    /// How many messages one channel may have in flight.
    pub(crate) room: usize,
}

type Confirms = ConfirmChannel<Uuid, Sending>;

/// Publishes from the shared queue until told to stop or the connection ends; a channel that ends
/// before that is replaced.
pub(crate) async fn run(this: PublishChannel, first: Channel) {
    let mut channel = Some(first);
    let mut refusals = Refusals::new();
    while !this.stop.is_cancelled() && this.connection.status().connected() {
        let Some(open) = channel.take() else {
            match open_confirm_channel(&this.connection).await {
                Ok(open) => channel = Some(open),
                // If a quorum queue without majority has too many messages of a connection, RabbitMQ stops
                // reading that connection.
                Err(_) => return this.mute.cancel(),
            }
            continue;
        };
        if this.serve(open, &mut refusals).await {
            return;
        }
        refusals.new_channel(Instant::now());
    }
}

impl PublishChannel {
    /// Publishes on one channel until it ends. True if there is nothing more to do.
    async fn serve(&self, channel: Channel, refusals: &mut Refusals) -> bool {
        let mut confirms = Confirms::new(channel, properties::tag);
        let mut verdicts = Vec::new();
        let mut pause = Pause::new(self.way.blocked.subscribe());
        let limit = self.way.settings.confirm_timeout;
        loop {
            let is_blocked = pause.is_on();
            let replace_at = refusals.due();
            // It takes no more messages, and is replaced once all are answered.
            let is_leaving = replace_at.is_some_and(|due| due <= Instant::now());
            if is_leaving && confirms.len() == 0 {
                self.end_channel(confirms).await;
                return false;
            }
            let room = !is_blocked && !is_leaving && confirms.len() < self.room;
            if room {
                self.take(&mut confirms);
            }
            let deadline = confirms
                .oldest()
                .filter(|_| !is_blocked)
                .map(|sent| pause.deadline(sent, limit));
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.overdue(confirms, &pause).await;
                return false;
            }
            if self.way.is_finishing()
                && confirms.len() == 0
                && self.way.shared.is_empty()
                && self.exchanges.is_idle()
            {
                self.end_channel(confirms).await;
                return true;
            }
            select! {
                biased;
                () = self.stop.cancelled() => {
                    self.end_channel(confirms).await;
                    return true;
                }
                () = confirms.turn(&mut verdicts) => {
                    note(refusals, &verdicts);
                    self.count(&verdicts);
                    settle(&mut verdicts);
                }
                () = self.way.shared.filled(), if room && confirms.len() < self.room => {}
                () = pause.changed() => {}
                () = until(deadline), if deadline.is_some() => {}
                () = until(replace_at), if replace_at.is_some() && !is_leaving => {}
                () = self.way.tick() => {}
            }
            if !confirms.is_open() {
                self.broken(confirms).await;
                return false;
            }
            // A channel that is always busy must not starve the other tasks of its thread.
            tokio::task::consume_budget().await;
        }
    }

    /// Takes messages from the queue, as far as there is room.
    fn take(&self, confirms: &mut Confirms) {
        while confirms.len() < self.room {
            let Some(message) = self.way.shared.pop() else {
                return;
            };
            let Some(message) = self.exchanges.admit(message) else {
                continue;
            };
            let mandatory = message.wants_confirm();
            let Some(sending) = message.into_sending() else {
                continue;
            };
            match properties::encode(
                &self.way.wire_options(&self.connection),
                &sending,
                mandatory,
            ) {
                Ok(wire) => {
                    confirms.publish(wire, sending.tag(), sending);
                    pass(Failpoint::AfterPublish);
                }
                Err(reason) => sending.confirm(Confirm::Faulty(reason)),
            }
        }
    }

    /// Counts dead letters that were stored after a detour.
    fn count(&self, verdicts: &[(Sending, SweepVerdict)]) {
        for (sending, verdict) in verdicts {
            if *verdict == SweepVerdict::Stored && sending.is_dead_letter() {
                self.way.counts.dead_lettered();
            }
        }
    }

    /// The broker did not answer in time.
    async fn overdue(&self, confirms: Confirms, pause: &Pause) {
        let limit = self.way.settings.confirm_timeout;
        let now = Instant::now();
        let mut verdicts = Vec::new();
        let broken = confirms.end(&mut verdicts);
        settle(&mut verdicts);
        // Messages whose time is not over are dropped, so they count as lost and are sent again at once.
        for (sending, sent) in broken.unanswered {
            if pause.deadline(sent, limit) <= now {
                sending.confirm(Confirm::NoAnswer);
            }
        }
        drop(broken.innocent);
        close_channel(&broken.channel).await;
    }

    /// Ends the channel. Unanswered messages are dropped, so they count as lost.
    async fn end_channel(&self, confirms: Confirms) {
        let mut verdicts = Vec::new();
        let Broken { channel, .. } = confirms.end(&mut verdicts);
        settle(&mut verdicts);
        close_channel(&channel).await;
    }

    /// The channel has ended.
    async fn broken(&self, confirms: Confirms) {
        let mut verdicts = Vec::new();
        let broken = confirms.end(&mut verdicts);
        settle(&mut verdicts);
        if broken
            .fault
            .as_ref()
            .is_some_and(|fault| fault.is_channel_code(code::NOT_FOUND))
        {
            self.exchanges.forget();
        }
        let channel = blame(broken);
        close_channel(&channel).await;
    }
}

/// Settles the messages of a channel that has ended, and returns the channel.
fn blame(broken: Broken<Sending>) -> Channel {
    // Innocent messages are dropped, so they count as lost and are due at once.
    let unanswered: Vec<_> = broken.unanswered.into_iter().map(|(one, _)| one).collect();
    match broken.fault {
        None | Some(Fault::Lost(_) | Fault::Channel(code::NOT_FOUND, _)) => {}
        Some(Fault::Channel(code, text)) if unanswered.len() == 1 => {
            for sending in unanswered {
                sending.confirm(sole(code, &text));
            }
        }
        Some(Fault::Channel(code::ACCESS_REFUSED, text)) if names_one(&text, &unanswered) => {
            for sending in unanswered {
                if names(&text, sending.message().topic()) {
                    sending.confirm(Confirm::Denied(text.clone()));
                }
            }
        }
        Some(Fault::Channel(..) | Fault::Connection(..) | Fault::Unwritable(_)) => {
            for sending in unanswered {
                sending.confirm(Confirm::Suspect);
            }
        }
    }
    broken.channel
}

/// What a code that closed the channel means for the only message it can be about.
pub(crate) fn sole(reply: u16, text: &str) -> Confirm {
    match reply {
        code::NOT_FOUND => Confirm::Lost,
        code::ACCESS_REFUSED => Confirm::Denied(text.to_owned()),
        _ => Confirm::Faulty(text.to_owned()),
    }
}

/// Whether the refusal names the exchange of a message in flight. The other messages are then innocent.
fn names_one(text: &str, messages: &[Sending]) -> bool {
    messages
        .iter()
        .any(|sending| names(text, sending.message().topic()))
}

fn names(text: &str, topic: &str) -> bool {
    text.contains(&format!("exchange '{topic}' in vhost"))
}

fn note(refusals: &mut Refusals, verdicts: &[(Sending, SweepVerdict)]) {
    for (sending, verdict) in verdicts {
        let topic = sending.message().topic();
        match verdict {
            SweepVerdict::Refused => refusals.refused(topic, Instant::now()),
            SweepVerdict::Stored | SweepVerdict::Unroutable => refusals.stored(topic),
        }
    }
}

fn settle(verdicts: &mut Vec<(Sending, SweepVerdict)>) {
    for (sending, verdict) in verdicts.drain(..) {
        sending.confirm(verdict.into());
    }
}

impl From<SweepVerdict> for Confirm {
    fn from(verdict: SweepVerdict) -> Self {
        match verdict {
            SweepVerdict::Stored => Self::Stored,
            SweepVerdict::Unroutable => Self::Unroutable,
            SweepVerdict::Refused => Self::Refused,
        }
    }
}

async fn until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        sleep_until(deadline.into()).await;
    }
}
