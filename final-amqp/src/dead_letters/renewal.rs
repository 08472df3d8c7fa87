//! A letter that cannot be stored, and that RabbitMQ has taken back often.
//!
//! Input: the letter as it came. Output: a copy of it at the end of the same queue. A queue drops a message that was
//! taken back more often than its delivery limit, and the copy begins with a count of zero.
//!
//! The copy has the same payload, properties and headers, without the counts, and without what would route it elsewhere
//! or let it expire. Two headers more tell by which exchange and with which routing key the letter had come: the copy
//! comes straight into the queue.

use bytes::Bytes;
use lapin::{
    BasicProperties, Confirmation, Connection,
    options::BasicPublishOptions,
    types::{AMQPValue, ShortString},
};

use super::letter::{COUNTS, RawLetter, without};
use crate::{
    connection::{close_channel, open_confirm_channel},
    deadline::{CALL_LIMIT, within},
    error::told,
    names,
};

/// How often RabbitMQ takes a letter back before a copy takes its place. The limit of RabbitMQ 4 is 20 by default.
pub(super) const OFTEN: u64 = 5;

/// A letter that was taken back often.
#[derive(Debug)]
pub(super) struct WornLetter {
    properties: BasicProperties,
    payload: Bytes,
}

impl WornLetter {
    /// Notes a letter for a copy.
    pub(super) fn new(letter: &RawLetter) -> Self {
        let properties = &letter.properties;
        let headers = properties.headers().clone().unwrap_or_default();
        let mut headers = without(headers, &[COUNTS[0], COUNTS[1], "CC", "BCC"]);
        for (name, value) in [
            (names::CAME_BY, &letter.exchange),
            (names::CAME_WITH, &letter.routing_key),
        ] {
            headers.insert(name.into(), AMQPValue::LongString(value.as_str().into()));
        }
        let mut copied = BasicProperties::default().with_headers(headers);
        macro_rules! copy {
            ($($property:ident => $with:ident,)*) => {$(
                if let Some(value) = properties.$property() {
                    copied = copied.$with(value.clone());
                }
            )*};
        }
        copy! {
            content_type => with_content_type,
            content_encoding => with_content_encoding,
            delivery_mode => with_delivery_mode,
            priority => with_priority,
            correlation_id => with_correlation_id,
            reply_to => with_reply_to,
            message_id => with_message_id,
            timestamp => with_timestamp,
            kind => with_type,
            app_id => with_app_id,
            cluster_id => with_cluster_id,
        }
        Self {
            properties: copied,
            payload: letter.payload.clone(),
        }
    }

    /// The copy, as it comes out of the queue again.
    #[cfg(test)]
    pub(super) fn come(&self, letters: &str) -> RawLetter {
        RawLetter {
            properties: self.properties.clone(),
            exchange: "".into(),
            routing_key: letters.into(),
            payload: self.payload.clone(),
        }
    }

    /// Puts the copy into the queue.
    ///
    /// # Errors
    ///
    /// Fails with the reason if it is not proven that the copy is there.
    pub(super) async fn renew(
        &self,
        connection: &Connection,
        queue: ShortString,
    ) -> Result<(), String> {
        let channel = open_confirm_channel(connection)
            .await
            .map_err(|error| told(&error))?;
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let properties = self.properties.clone();
        let written = channel.basic_publish("".into(), queue, options, &self.payload, properties);
        let confirmed = within(CALL_LIMIT, async { written.await?.await }).await;
        close_channel(&channel).await;
        match confirmed {
            // Alone on its channel, so a returned message is this one.
            Ok(Confirmation::Ack(None)) => Ok(()),
            Ok(_) => Err("RabbitMQ does not take a copy of it".to_owned()),
            Err(error) => Err(told(&error)),
        }
    }
}
