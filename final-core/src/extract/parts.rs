//! The parts of a message, and the whole.

use std::sync::Arc;

use crate::{Bytes, FromMessage, HandlerError, Headers, Message, MessageId};

/// Extracts the topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic(pub Arc<str>);

/// Extracts the key, if the message has one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub Option<Arc<str>>);

/// Extracts which attempt of the handler this is, counted from 1.
///
/// Counts attempts within this process; it starts again after a redelivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt(pub u32);

/// Implements extractors that cannot fail and need no state.
macro_rules! impl_part {
    ($($part:ty = |$message:ident| $value:expr;)*) => {
        $(
            impl<S: Sync> FromMessage<S> for $part {
                async fn from_message($message: &Message, _: &S) -> Result<Self, HandlerError> {
                    Ok($value)
                }
            }
        )*
    };
}

impl_part! {
    Topic = |message| Self(message.shared_topic());
    Key = |message| Self(message.shared_key());
    Attempt = |message| Self(message.attempt());
    Headers = |message| message.headers().clone();
    MessageId = |message| message.id();
    Bytes = |message| message.payload().clone();
    Message = |message| message.clone();
}
