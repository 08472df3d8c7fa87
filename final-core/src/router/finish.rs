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
