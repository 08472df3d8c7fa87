//! From entries to routes.
//!
//! Input: topics with their handlers, as they were added. Output: the routes by topic, or one text with all
//! problems: topics that cannot be subscribed, and topics with several handlers.

use std::{collections::BTreeMap, sync::Arc};

use super::{RouteEntry, Routes};
use crate::names;

/// Builds the routes, or returns all problems together.
pub(super) fn routes(entries: &[RouteEntry<()>]) -> Result<Routes, String> {
    let problems: Vec<String> = unusable(entries).chain(taken_twice(entries)).collect();
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    let state = Arc::new(());
    Ok(entries
        .iter()
        .map(|entry| {
            let said = entry.on_failure.or(entry.asked).unwrap_or_default();
            let route = (entry.build)(&state).on_failure(said);
            (entry.topic.as_str().into(), route)
        })
        .collect())
}

fn unusable(entries: &[RouteEntry<()>]) -> impl Iterator<Item = String> {
    entries.iter().filter_map(|entry| {
        let error = names::check_subscription(&entry.topic).err()?;
        Some(format!("{error} (handler {})", entry.handler))
    })
}

fn taken_twice(entries: &[RouteEntry<()>]) -> impl Iterator<Item = String> {
    let mut handlers = BTreeMap::<&str, Vec<&str>>::new();
    for entry in entries {
        handlers
            .entry(&entry.topic)
            .or_default()
            .push(entry.handler);
    }
    handlers
        .into_iter()
        .filter(|(_, handlers)| handlers.len() > 1)
        .map(|(topic, handlers)| {
            let (count, handlers) = (handlers.len(), handlers.join(", "));
            format!(
                "topic {topic:?} has {count} handlers: {handlers}; a topic has one handler in a service, which \
                 may call the others"
            )
        })
}

#[cfg(test)]
mod tests {
    use crate::{
        FromMessage, HandlerError, Message, Router,
        handler::{Hold, OnFailure},
    };

    /// An argument that makes no sense out of order.
    struct Change;

    impl<S: Sync> FromMessage<S> for Change {
        const ON_FAILURE: Option<OnFailure> = Some(OnFailure::Hold(Hold::Key));

        async fn from_message(_: &Message, _: &S) -> Result<Self, HandlerError> {
            Ok(Self)
        }
    }

    #[crate::subscribe("said", crate = crate, on_failure = dead_letter)]
    async fn said(_change: Change) {}

    #[crate::subscribe("whole", crate = crate, on_failure = hold_topic)]
    async fn whole() {}

    /// What is said of a route goes first, then what is said of all, then what its arguments ask for.
    #[test]
    fn a_route_holds_what_fails_if_it_is_said_or_asked_for() {
        async fn plain() {}
        async fn changes(_message: Message, _change: Change) {}

        let inner = Router::new()
            .route("inner", plain)
            .on_failure(OnFailure::Hold(Hold::Topic));
        let router = Router::new()
            .merge(inner)
            .subscribe(said)
            .subscribe(whole)
            .route("all", changes)
            .on_failure(OnFailure::DeadLetter)
            .route("asked", changes)
            .route("plain", plain)
            .layer(tower::layer::util::Identity::new());
        let routes = router.into_routes().unwrap();

        let hold = |topic: &str| routes[topic].hold();
        assert_eq!(hold("inner"), Some(Hold::Topic));
        assert_eq!(hold("said"), None);
        assert_eq!(hold("whole"), Some(Hold::Topic));
        assert_eq!(hold("all"), None);
        assert_eq!(hold("asked"), Some(Hold::Key));
        assert_eq!(hold("plain"), None);
    }
}
