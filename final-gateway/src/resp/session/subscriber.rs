//! `MGET [pb] [id]` and `SET partition offset` of a subscriber.
//!
//! Input: a request. State: what the connection has in hand. Output: messages, or the end of a partition that is done.

use bytes::Bytes;
use tokio::{
    io::AsyncRead,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Ending, STOPPING, Session, SessionLimits,
    answers::{Answer, Answers},
    backend::{Backend, Client, Hand},
    commands::Verb,
    input::Input,
    login::{Login, Work, refusal},
};
use crate::{
    groups::{GroupError, Lot, Taken},
    resp::{
        databus::{Form, Record},
        wire::{Protocol, Writer},
    },
    rights::{Denied, Operation},
};

/// What came of waiting for messages.
enum Waited {
    Taken(Vec<Taken>),
    /// Nothing now, with this text. What is in hand stays.
    Failed(String),
    /// The connection ends with this text.
    Refused(String),
}

impl<B: Backend> Session<B> {
    pub(super) async fn subscriber<R: AsyncRead + Unpin>(
        &mut self,
        verb: Verb,
        words: &[Bytes],
        input: &mut Input<R>,
        answers: &Answers,
    ) -> Option<Ending> {
        match verb {
            Verb::Mget => return self.mget(words, input, answers).await,
            Verb::Set => {
                let answer = match self.commit(words) {
                    Ok(()) => Answer::Fixed(b"+OK\r\n"),
                    Err(text) => {
                        self.push(answers, |writer| writer.error(&text)).await;
                        return None;
                    }
                };
                answers.push(answer).await;
            }
            _ => {
                let text = "ERR this connection consumes; HSET needs a login with role=pub";
                self.push(answers, |writer| writer.error(text)).await;
            }
        }
        None
    }

    /// Everything of the partition up to the offset is done.
    fn commit(&mut self, words: &[Bytes]) -> Result<(), String> {
        const WRONG: &str = "commit offset params error";
        let [partition, offset] = words else {
            return Err(WRONG.to_owned());
        };
        let number = |word: &Bytes| std::str::from_utf8(word).ok()?.parse::<i64>().ok();
        let partition = number(partition).filter(|number| i32::try_from(*number).is_ok());
        let (Some(partition), Some(offset)) = (partition, number(offset)) else {
            return Err(WRONG.to_owned());
        };
        let Some(Login {
            work: Work::Consume(holder),
            ..
        }) = &mut self.login
        else {
            return Err(WRONG.to_owned());
        };
        let committed = holder.commit(partition, offset);
        committed.map_err(|error| format!("{WRONG}: {error}"))
    }

    async fn mget<R: AsyncRead + Unpin>(
        &mut self,
        words: &[Bytes],
        input: &mut Input<R>,
        answers: &Answers,
    ) -> Option<Ending> {
        let form = Form::of(words.iter().map(|word| &word[..]));
        let login = self.login.as_mut()?;
        // A client that does not read gets no second lot into its hand.
        let turn = answers.turn().await;
        let mut writer = Writer::new(Protocol::Resp2);
        let ending = match login.wait(&self.limits, &self.stop, input).await {
            Waited::Taken(taken) => {
                writer.array(taken.len());
                for taken in &taken {
                    writer.bulk(&Record::new(taken).encode(form));
                }
                None
            }
            Waited::Failed(text) => {
                writer.error(&text);
                None
            }
            Waited::Refused(text) => {
                writer.error(&text);
                Some(Ending::Refused)
            }
        };
        turn.push(writer.into_bytes());
        ending
    }
}

impl<B: Backend> Login<B> {
    /// Waits for messages, as long as the client is there and may have them. A client that is gone gets none: they
    /// would count as given out.
    async fn wait<R: AsyncRead + Unpin>(
        &mut self,
        limits: &SessionLimits,
        stop: &CancellationToken,
        input: &mut Input<R>,
    ) -> Waited {
        let until = Instant::now() + limits.wait;
        loop {
            // First the token: the next revocation may come just after the answer.
            let revoked = self.app.revoked().child_token();
            self.revoked = revoked.clone();
            if let Err(denied) = self.may() {
                return Waited::Refused(refusal(&denied, Operation::Subscribe));
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    return Waited::Refused(STOPPING.to_owned());
                }
                // Asks whether it still may.
                () = revoked.cancelled() => {}
                () = input.gone() => return Waited::Taken(Vec::new()),
                taken = self.take(limits, until) => return taken,
            }
        }
    }

    async fn take(&mut self, limits: &SessionLimits, until: Instant) -> Waited {
        let topic = self.pair.topic();
        // Deliveries are counted after they went out, so a debt is waited for before the next ones.
        while let Err(Denied::Rate(wait)) =
            self.app.spend(Operation::Subscribe, &self.group, topic, 0)
        {
            let again = Instant::now() + wait;
            sleep_until(again.min(until)).await;
            if again >= until {
                return Waited::Taken(Vec::new());
            }
        }
        let of_right = self.app.batch(&self.group, topic);
        let messages = of_right.map_or(limits.batch, |batch| batch.max(1) as usize);
        let Work::Consume(holder) = &mut self.work else {
            return Waited::Taken(Vec::new());
        };
        loop {
            let lot = Lot {
                messages,
                bytes: limits.batch_bytes,
                wait: until.saturating_duration_since(Instant::now()),
                gather: limits.gather,
            };
            let mut taken = match holder.take(lot).await {
                Ok(taken) => taken,
                Err(GroupError::Stopping) => return Waited::Refused(STOPPING.to_owned()),
                Err(error) => return Waited::Failed(format!("ERR {error}")),
            };
            let is_over = taken.is_empty() || until <= Instant::now();
            taken.retain(|taken| {
                let is_wanted = Record::new(taken).is_for(&self.color);
                if !is_wanted {
                    holder.skip(taken);
                }
                is_wanted
            });
            if taken.is_empty() && !is_over {
                continue;
            }
            let count = u32::try_from(taken.len()).unwrap_or(u32::MAX);
            // It cannot fail the messages that are in hand already.
            let _ = self
                .app
                .spend(Operation::Subscribe, &self.group, topic, count);
            return Waited::Taken(taken);
        }
    }
}
