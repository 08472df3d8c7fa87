//! Changes as arguments of handlers.

use final_core::{FromMessage, HandlerError, Hold, Message, OnFailure};
use serde::de::DeserializeOwned;

use super::{Change, ChangeInfo, read, wire};

impl<S: Sync, T: DeserializeOwned> FromMessage<S> for Change<T> {
    const ON_FAILURE: Option<OnFailure> = Some(OnFailure::Hold(Hold::Key));

    async fn from_message(message: &Message, state: &S) -> Result<Self, HandlerError> {
        let payload = wire::payload(message, state).await?;
        let change = read::one(payload.bytes(), payload.encoding());
        change
            .and_then(|(_, change)| change.read())
            .map_err(|error| HandlerError::permanent(error.of(message)))
    }
}

impl<S: Sync> FromMessage<S> for ChangeInfo {
    async fn from_message(message: &Message, state: &S) -> Result<Self, HandlerError> {
        let payload = wire::payload(message, state).await?;
        let change = read::one(payload.bytes(), payload.encoding());
        change
            .map(|(info, _)| info)
            .map_err(|error| HandlerError::permanent(error.of(message)))
    }
}
