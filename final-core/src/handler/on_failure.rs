//! What happens to a message that its handler cannot handle.
//!
//! Input: what a route, `#[subscribe]` or an extractor says. Output: an [`OnFailure`] for each route.

/// What happens to a message whose handler has failed for good: it was rejected, or its quick retries are over.
///
/// [`Router::on_failure`](crate::Router::on_failure) says it for routes. A route for which nothing is said goes by its
/// handler's arguments: see [`FromMessage::ON_FAILURE`](crate::FromMessage::ON_FAILURE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnFailure {
    /// It goes to the dead letters, and what comes after it goes on.
    #[default]
    DeadLetter,
    /// It is held: it stays where it is and is tried again for ever, after pauses that grow from a second to five
    /// minutes. What comes after it waits behind it, until it succeeds or an operator skips it.
    ///
    /// That needs a log ([`SqlBroker`](crate::SqlBroker)). With any other broker the start of the bus fails. A bus with
    /// such a route handles messages of one key one after the other, as
    /// [`key_order`](crate::SqlBroker::key_order) does.
    Hold(Hold),
}

/// What waits behind a message that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hold {
    /// The messages of its key, in all topics of the service. A message without a key holds no other.
    Key,
    /// The messages of its topic that were not given to the handlers yet, and those of its key. Messages of other keys
    /// that only wait for a free handler by then, up to `prefetch` of them, are handled all the same. Other instances
    /// hear of it a moment later, and give none to their handlers from then on either.
    Topic,
}

impl OnFailure {
    /// What waits behind a message that has failed. `None` if it is not held.
    pub(crate) fn hold(self) -> Option<Hold> {
        match self {
            Self::DeadLetter => None,
            Self::Hold(hold) => Some(hold),
        }
    }

    /// What the first of several says that says anything.
    pub(crate) const fn first(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match one {
            Some(_) => one,
            None => other,
        }
    }
}
