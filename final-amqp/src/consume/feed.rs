//! The consumers of one channel: one that the broker sends to, and one that is being replaced.
//!
//! Input: a window. State: the present consumer, the one before it until its last delivery has come, and the
//! requests under way. Output: the deliveries of both.
//!
//! ```text
//!   consuming ── replace ──▶ qos, consume, cancel are sent ── answered ──▶ consuming with the new window
//!                                  └ both consumers' deliveries are taken, until the old one's stream ends
//! ```
//!
//! AMQP has no other way to change a window. Deliveries of the old consumer stay in flight on the channel, and
//! are settled as before. The new consumer is there before the old one is cancelled, because RabbitMQ deletes
//! some queues when their last consumer goes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};

use crate::{
    deadline::{CALL_LIMIT, within},
    names,
};

/// How long the last requests may take. Nothing waits for their result.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// The reason if the broker cancels the consumer.
const ENDED: &str = "the broker ended the consumer; was the queue deleted?";

/// The deliveries of one channel.
pub(crate) struct Feed {
    channel: Channel,
    queue: ShortString,
    service: String,
    consumer: Consumer,
    /// The consumer before, until its stream ends.
    old: Option<Consumer>,
    /// The next consumer, once the broker has answered.
    next: Option<BoxFuture<'static, lapin::Result<Consumer>>>,
    /// Whether the present consumer's stream has ended while the next one is on its way.
    has_ended: bool,
}

impl Feed {
    /// Begins to consume, with that window.
    pub(crate) async fn open(
        channel: &Channel,
        service: &str,
        queue: &str,
        window: u16,
    ) -> lapin::Result<Self> {
        let queue = short(queue)?;
        Ok(Self {
            consumer: consume(channel.clone(), queue.clone(), tag(service)?, window, None).await?,
            channel: channel.clone(),
            queue,
            service: service.to_owned(),
            old: None,
            next: None,
            has_ended: false,
        })
    }

    /// Whether the window can be changed now.
    pub(crate) fn is_settled(&self) -> bool {
        self.next.is_none() && self.old.is_none()
    }

    /// Replaces the consumer by one with that window. The requests are written at once, before any later ack.
    pub(crate) fn replace(&mut self, window: u16) -> lapin::Result<()> {
        let (channel, queue) = (self.channel.clone(), self.queue.clone());
        let (tag, old) = (tag(&self.service)?, self.consumer.tag());
        let mut next = consume(channel, queue, tag, window, Some(old)).boxed();
        self.next = match (&mut next).now_or_never() {
            Some(Err(error)) => return Err(error),
            Some(Ok(next)) => Some(std::future::ready(Ok(next)).boxed()),
            None => Some(next),
        };
        Ok(())
    }

    /// The next delivery.
    ///
    /// # Errors
    ///
    /// The reason why no more will come.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Delivery, String> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// The next delivery, if it is there already.
    pub(crate) fn ready(&mut self) -> Option<Result<Delivery, String>> {
        self.next().now_or_never()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, String>> {
        if let Some(old) = &mut self.old {
            match Pin::new(old).poll_next(cx) {
                Poll::Ready(Some(delivery)) => return Poll::Ready(read(delivery)),
                Poll::Ready(None) => self.old = None,
                Poll::Pending => {}
            }
        }
        if let Some(next) = &mut self.next
            && let Poll::Ready(next) = next.as_mut().poll(cx)
        {
            self.next = None;
            let next = match next {
                Ok(next) => next,
                Err(error) => return Poll::Ready(Err(error.to_string())),
            };
            let old = std::mem::replace(&mut self.consumer, next);
            if !std::mem::take(&mut self.has_ended) {
                self.old = Some(old);
            }
            return self.poll(cx);
        }
        if self.has_ended {
            return Poll::Pending;
        }
        match ready!(self.consumer.poll_next_unpin(cx)) {
            Some(delivery) => Poll::Ready(read(delivery)),
            // The stream ends once. Polled again, it would wait for ever.
            None if self.next.is_some() => {
                self.has_ended = true;
                Poll::Pending
            }
            None => Poll::Ready(Err(ENDED.to_owned())),
        }
    }

    /// Tells the broker to deliver no more, and gives what it had sent.
    pub(crate) async fn end(&mut self) -> Vec<Delivery> {
        // If this fails, the channel has ended, and its task notices that.
        if let Some(next) = self.next.take()
            && let Ok(Ok(next)) = tokio::time::timeout(GOODBYE_LIMIT, next).await
        {
            let before = std::mem::replace(&mut self.consumer, next);
            self.old = Some(before);
        }
        let cancel = self
            .channel
            .basic_cancel(self.consumer.tag(), BasicCancelOptions::default());
        let _ = within(GOODBYE_LIMIT, cancel).await;
        let mut rest = Vec::new();
        for consumer in self.old.iter_mut().chain([&mut self.consumer]) {
            while let Some(Some(Ok(delivery))) = consumer.next().now_or_never() {
                rest.push(delivery);
            }
        }
        rest
    }
}

fn read(delivery: lapin::Result<Delivery>) -> Result<Delivery, String> {
    delivery.map_err(|error| error.to_string())
}

fn short(text: &str) -> lapin::Result<ShortString> {
    names::short(text).map_err(|error| lapin::Error::from(std::io::Error::other(error)))
}

/// A new consumer tag. One made by the server would not name the service.
fn tag(service: &str) -> lapin::Result<ShortString> {
    short(&format!("{service}-{:016x}", fastrand::u64(..)))
}

/// Consumes with that window, in place of the old consumer if there is one. The requests are sent together.
async fn consume(
    channel: Channel,
    queue: ShortString,
    tag: ShortString,
    window: u16,
    old: Option<ShortString>,
) -> lapin::Result<Consumer> {
    let qos = channel.basic_qos(window, BasicQosOptions::default());
    let options = BasicConsumeOptions::default();
    let consume = channel.basic_consume(queue, tag, options, FieldTable::default());
    let cancel = async {
        match old {
            Some(old) => {
                channel
                    .basic_cancel(old, BasicCancelOptions::default())
                    .await
            }
            None => Ok(()),
        }
    };
    // They are polled in order, so they are written in order.
    let all = async { futures::try_join!(qos, consume, cancel) };
    let ((), consumer, ()) = within(CALL_LIMIT, all).await?;
    Ok(consumer)
}
