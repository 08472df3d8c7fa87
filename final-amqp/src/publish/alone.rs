//! The quarantine: publishes suspect messages, each on a channel of its own.
//!
//! Input: the queue of messages that may have closed a channel. Output: a confirm for each, which says whether
//! it is faulty.
//!
//! The quarantine has a connection of its own, because some faults close the whole connection, and healthy
//! messages must not suffer. If that happens with several in flight, each is sent once more with nothing else
//! on the connection.

use std::{sync::Arc, time::Duration};

use final_core::broker::{Confirm, Sending};
use lapin::Connection;
use tokio::{
    select,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{channel::PublishChannel, confirms::ConfirmChannel};
use crate::{
    code,
    connection::{close, close_channel, connect, open_confirm_channel},
    error::Fault,
    properties,
    retry_delay::RetryDelay,
    role::Role,
};

/// How many are tried at once.
const AT_ONCE: usize = 8;
/// How long the connection is kept without work.
const IDLE: Duration = Duration::from_secs(30);

/// How one attempt ended.
enum AloneAttempt {
    /// The message is settled.
    Settled,
    /// The connection ended with the server's reason, and it may be this message.
    Hard(Sending, String),
}

/// Publishes from the queue of suspects until told to stop.
pub(crate) async fn run(this: PublishChannel) {
    let mut connection: Option<Arc<Connection>> = None;
    let mut delay = RetryDelay::new();
    let mut blocked = this.way.blocked.subscribe();
    loop {
        let is_blocked = *blocked.borrow_and_update();
        if this.way.is_finishing() && this.way.alone.is_empty() && this.exchanges.is_idle() {
            break;
        }
        select! {
            () = this.stop.cancelled() => break,
            () = this.way.alone.filled(), if !is_blocked => {}
            _ = blocked.changed() => continue,
            () = this.way.tick() => continue,
            () = sleep(IDLE), if connection.is_some() => {
                goodbye(connection.take()).await;
                continue;
            }
        }
        let open = match connection.take().filter(|one| one.status().connected()) {
            Some(open) => open,
            None => match this.quarantine().await {
                Some(open) => open,
                None => {
                    select! {
                        () = sleep(delay.next()) => continue,
                        () = this.stop.cancelled() => break,
                    }
                }
            },
        };
        delay.reset();
        let hard = this.try_all(&open).await;
        connection = Some(open);
        if !hard.is_empty() {
            goodbye(connection.take()).await;
            this.try_one_by_one(hard).await;
        }
    }
    goodbye(connection).await;
}

impl PublishChannel {
    async fn quarantine(&self) -> Option<Arc<Connection>> {
        connect(&self.way.settings, &self.way.service, Role::QUARANTINE)
            .await
            .ok()
            .map(|connected| Arc::new(connected.connection))
    }

    /// Tries what is in the queue, a few at once. Returns the messages that were in flight when the connection
    /// was closed.
    async fn try_all(&self, connection: &Arc<Connection>) -> Vec<(Sending, String)> {
        let mut running = JoinSet::new();
        let mut hard = Vec::new();
        let at_once = AT_ONCE.min(connection.configuration().channel_max().into());
        loop {
            let has_room =
                hard.is_empty() && running.len() < at_once && !*self.way.blocked.borrow();
            if has_room && let Some(message) = self.way.alone.pop() {
                let admitted = self.exchanges.admit(message);
                if let Some(sending) = admitted.and_then(|message| message.into_sending()) {
                    running.spawn(self.clone().attempt(Arc::clone(connection), sending));
                }
                continue;
            }
            select! {
                ended = running.join_next() => match ended {
                    None => return hard,
                    Some(Ok(AloneAttempt::Hard(sending, text))) => hard.push((sending, text)),
                    // A task that was aborted has dropped its message, which counts as lost.
                    Some(Ok(AloneAttempt::Settled) | Err(_)) => {}
                },
                // A message that is not answered holds up no others.
                () = self.way.alone.filled(), if has_room && !running.is_empty() => {}
            }
        }
    }

    /// Tries each with nothing else on the connection, so that a fault is its own.
    async fn try_one_by_one(&self, suspects: Vec<(Sending, String)>) {
        // A single message was alone already.
        let was_alone = suspects.len() == 1;
        for (sending, text) in suspects {
            if was_alone {
                sending.confirm(Confirm::Faulty(text));
                continue;
            }
            // Without a connection the message is dropped, so it counts as lost.
            let Some(connection) = self.quarantine().await else {
                continue;
            };
            match self.clone().attempt(Arc::clone(&connection), sending).await {
                AloneAttempt::Settled => {}
                AloneAttempt::Hard(sending, text) => sending.confirm(Confirm::Faulty(text)),
            }
            goodbye(Some(connection)).await;
        }
    }

    /// Publishes one message on a new channel.
    async fn attempt(self, connection: Arc<Connection>, sending: Sending) -> AloneAttempt {
        let wire = properties::encode(&self.way.wire_options(&connection), &sending, true);
        let wire = match wire {
            Ok(wire) => wire,
            Err(reason) => {
                sending.confirm(Confirm::Faulty(reason));
                return AloneAttempt::Settled;
            }
        };
        // Without a channel the message is lost: it was not written.
        let Ok(channel) = open_confirm_channel(&connection).await else {
            return AloneAttempt::Settled;
        };
        // The message may have waited while others were tried one by one.
        if !sending.is_ours() {
            sending.confirm(Confirm::LeaseOver);
            return AloneAttempt::Settled;
        }
        let mut confirms = ConfirmChannel::new(channel, properties::tag);
        confirms.publish(wire, sending.tag(), sending);
        let mut verdicts = Vec::new();
        let answered = select! {
            answered = timeout(self.way.settings.confirm_timeout, confirms.turn(&mut verdicts)) => answered,
            () = self.stop.cancelled() => Ok(()),
        };
        let broken = confirms.end(&mut verdicts);
        for (sending, verdict) in verdicts {
            sending.confirm(verdict.into());
        }
        for (sending, _) in broken.unanswered {
            match &broken.fault {
                None if answered.is_err() => sending.confirm(Confirm::NoAnswer),
                None | Some(Fault::Lost(_)) => {}
                Some(Fault::Channel(reply, text)) => {
                    if *reply == code::NOT_FOUND {
                        self.exchanges.forget();
                    }
                    sending.confirm(super::channel::sole(*reply, text));
                }
                Some(Fault::Connection(_, text) | Fault::Unwritable(text)) => {
                    return AloneAttempt::Hard(sending, text.clone());
                }
            }
        }
        close_channel(&broken.channel).await;
        AloneAttempt::Settled
    }
}

async fn goodbye(connection: Option<Arc<Connection>>) {
    if let Some(connection) = connection {
        close(&connection).await;
    }
}
