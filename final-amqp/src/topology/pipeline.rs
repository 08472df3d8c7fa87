//! Many requests on one channel, without a wait between them.
//!
//! Input: requests, in order. State: a channel, kept while nothing is refused. Output: how many were carried
//! out, and why the next one was refused.
//!
//! RabbitMQ carries out the requests of a channel in order, and closes the channel at the first one that it
//! refuses. It ignores those behind that one. So the first request without an answer is the refused one, and
//! the rest is asked again on a new channel.

use futures::{StreamExt, stream::FuturesOrdered};
use lapin::{Channel, Connection, Error, Result};

use super::wanted::{How, Wanted};
use crate::{
    connection::{close_channel, open_channel},
    deadline::{CALL_LIMIT, within},
};

/// How many requests are written before their answers are read.
const AT_ONCE: usize = 512;

/// lapin remembers each binding that a channel makes, also one that it has made before. A channel that makes
/// them again and again is replaced after so many, so that it does not grow without end.
const BINDINGS_OF_A_CHANNEL: usize = 2_000;

/// Requests over one connection.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    channel: Option<Channel>,
    /// How many bindings the channel has made.
    bindings: usize,
}

/// How far a list of requests came.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) done: usize,
    /// Why the next one was refused. `None` if all are done.
    pub(super) refusal: Option<Error>,
}

impl Pipeline {
    /// Asks for these things in order. Fails if the connection is lost or does not answer.
    ///
    /// If this is dropped halfway, its channel is dropped too, since answers are still due on it.
    pub(super) async fn ask(
        &mut self,
        connection: &Connection,
        requests: &[(&Wanted, How)],
    ) -> Result<Answered> {
        let mut done = 0;
        for some in requests.chunks(AT_ONCE) {
            let channel = self.take_channel(connection).await?;
            // They are polled in order, so they are written in order.
            let mut answers: FuturesOrdered<_> = some
                .iter()
                .map(|(wanted, how)| wanted.ask(&channel, *how))
                .collect();
            while !answers.is_empty() {
                let answer = async { answers.next().await.unwrap_or(Ok(())) };
                match within(CALL_LIMIT, answer).await {
                    Ok(()) => done += 1,
                    // The server closed the channel only, and not the connection.
                    Err(error) if error.is_amqp_soft_error() => {
                        let refusal = Some(error);
                        return Ok(Answered { done, refusal });
                    }
                    Err(error) => return Err(error),
                }
            }
            drop(answers);
            self.bindings += some.iter().filter(|(one, _)| one.is_binding()).count();
            self.channel = Some(channel);
        }
        let refusal = None;
        Ok(Answered { done, refusal })
    }

    async fn take_channel(&mut self, connection: &Connection) -> Result<Channel> {
        if let Some(channel) = self.channel.take() {
            if channel.status().connected() && self.bindings < BINDINGS_OF_A_CHANNEL {
                return Ok(channel);
            }
            close_channel(&channel).await;
        }
        self.bindings = 0;
        open_channel(connection).await
    }

    /// Closes the channel.
    pub(crate) async fn end(mut self) {
        if let Some(channel) = self.channel.take() {
            close_channel(&channel).await;
        }
    }
}
