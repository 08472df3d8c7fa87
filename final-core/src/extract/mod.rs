//! Extractors: what a handler can take from a message.

mod encoding;
mod json;
pub(crate) mod msgpack;
mod parts;
mod payload;
mod rejection;
mod state;

pub(crate) use self::msgpack::MAX_DEPTH;
pub use self::{
    json::Json,
    parts::{Attempt, Key, Topic},
    payload::Payload,
    state::{FromRef, State},
};

use crate::{HandlerError, Message, handler::OnFailure};

/// Something a handler can take as an argument.
///
/// | Argument | is |
/// | --- | --- |
/// | [`Payload<T>`](crate::Payload) | the payload, decoded from msgpack |
/// | [`Json<T>`](crate::Json) | the payload, decoded from JSON |
/// | [`Bytes`](crate::Bytes) | the payload as it was sent, compressed if it was |
/// | [`State<T>`](crate::State) | something of the service: a pool, a client, … |
/// | [`Topic`](crate::Topic), [`Key`](crate::Key), [`Headers`](crate::Headers) | what was said about the payload |
/// | [`MessageId`](crate::MessageId) | the id, the same for every repeat of the message |
/// | [`Attempt`](crate::Attempt) | which attempt this is |
/// | [`Received`](crate::received::Received) | what else came with the delivery |
/// | [`Message`] | all of it |
///
/// An argument that cannot be extracted ends the attempt with its [`HandlerError`]. A payload that
/// cannot be decoded is a [permanent](HandlerError::permanent) one, as it will not get better.
///
/// # An extractor of one's own
///
/// ```
/// use final_core::{FromMessage, HandlerError, Message};
///
/// /// The tenant a message belongs to.
/// struct Tenant(String);
///
/// impl<S: Sync> FromMessage<S> for Tenant {
///     async fn from_message(message: &Message, _: &S) -> Result<Self, HandlerError> {
///         match message.headers().get("tenant") {
///             Some(tenant) => Ok(Self(tenant.to_owned())),
///             None => Err(HandlerError::permanent("the header `tenant` is missing")),
///         }
///     }
/// }
///
/// async fn count(Tenant(tenant): Tenant) {
///     println!("one more for {tenant}");
/// }
/// # let _: final_core::Router = final_core::Router::new().route("count", count);
/// ```
///
/// An extractor that needs the service's state asks for it: `impl<S: Sync> FromMessage<S> for Customer where
/// Database: FromRef<S>`, and takes it with [`FromRef`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from a message",
    label = "not an extractor for a router with state `{S}`",
    note = "a handler's arguments are extractors: `Payload<T>`, `Json<T>`, `Bytes`, `State<T>`, `Topic`, `Key`, \
            `Headers`, `MessageId`, `Attempt`, `Received`, `Message`, or a type that implements `FromMessage`"
)]
pub trait FromMessage<S>: Sized {
    /// What happens to messages that a handler with this argument cannot handle, where its route says nothing. `None`,
    /// as by default, leaves it to the other arguments.
    ///
    /// For an argument that makes no sense out of order: a change of a row, for example, must not be passed over.
    const ON_FAILURE: Option<OnFailure> = None;

    /// Takes it from a message, or from the router's state.
    fn from_message(
        message: &Message,
        state: &S,
    ) -> impl Future<Output = Result<Self, HandlerError>> + Send;
}
