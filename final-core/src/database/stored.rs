//! A message as a table holds it.
//!
//! Input: the columns of a row. Output: the message, or why the row is not one. The columns are not trusted,
//! because rows can be written by hand.

use crate::{Headers, Message, MessageId, names::check_topic};

/// The columns that make a message.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) topic: String,
    pub(crate) key: Option<String>,
    pub(crate) headers: Option<String>,
    pub(crate) payload: Vec<u8>,
    pub(crate) content_type: String,
    pub(crate) durable: bool,
}

impl Stored {
    /// The message, or why the row is not one. The reason is kept beside the record and logged.
    pub(crate) fn into_message(self, id: MessageId) -> Result<Message, String> {
        check_topic(&self.topic).map_err(|error| error.to_string())?;
        let headers = Headers::from_json(self.headers.as_deref())
            .map_err(|error| format!("its headers cannot be read: {error}"))?;
        let message = Message::identified(id, self.topic, self.payload)
            .with_headers(headers)
            .with_content_type(self.content_type)
            .with_durable(self.durable);
        Ok(match self.key {
            Some(key) => message.with_key(key),
            None => message,
        })
    }
}
