//! The names of groups, and of a group together with a topic.
//!
//! Input: texts of clients. Output: checked names. A [`Pair`] is one group of the broker: each topic of a group has its
//! own progress, so a client that is slow with one topic holds up no other.

use std::{fmt, sync::Arc};

/// Why a name cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {kind} {name:?} cannot be used: {reason}")]
pub struct NameError {
    kind: &'static str,
    name: String,
    reason: &'static str,
}

/// A group and a topic that it consumes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    group: Arc<str>,
    topic: Arc<str>,
}

impl Pair {
    /// Checks both names. A group has 1 to 64 of `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`. A topic is one that a service
    /// could subscribe, of at most 190 bytes and without `/`.
    ///
    /// # Errors
    ///
    /// Says which name cannot be used, and why.
    pub fn new(group: &str, topic: &str) -> Result<Self, NameError> {
        check_group(group)?;
        check_topic(topic)?;
        Ok(Self {
            group: group.into(),
            topic: topic.into(),
        })
    }

    /// The group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The topic, shared.
    pub(crate) fn shared_topic(&self) -> Arc<str> {
        Arc::clone(&self.topic)
    }

    /// The name of the broker's group: `group/topic`. No service of the bus can have it, because of its `/`.
    pub fn broker_group(&self) -> Arc<str> {
        format!("{}/{}", self.group, self.topic).into()
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.topic)
    }
}

/// Checks the name of a group, see [`Pair::new`].
///
/// # Errors
///
/// Says why it cannot be used.
pub fn check_group(group: &str) -> Result<(), NameError> {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let reason = if group.is_empty() {
        "it is empty"
    } else if group.len() > 64 {
        "it is longer than 64 characters"
    } else if !group.bytes().all(is_of_name) {
        "it has a character outside `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`"
    } else {
        return Ok(());
    };
    Err(NameError::new("group", group, reason))
}

/// Checks a topic, see [`Pair::new`].
///
/// # Errors
///
/// Says why it cannot be used.
pub fn check_topic(topic: &str) -> Result<(), NameError> {
    let reason = if topic.trim().is_empty() {
        "it is empty or blank"
    } else if topic.len() > 190 {
        "it is longer than 190 bytes"
    } else if topic.chars().any(char::is_control) {
        "it has a control character"
    } else if topic.contains(['*', '#', '/']) {
        "it has a `*`, `#` or `/`"
    } else if topic.starts_with("amq.") {
        "names that start with `amq.` are RabbitMQ's own"
    } else {
        return Ok(());
    };
    Err(NameError::new("topic", topic, reason))
}

impl NameError {
    pub(crate) fn new(kind: &'static str, name: &str, reason: &'static str) -> Self {
        let name = name.chars().take(64).collect();
        Self { kind, name, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_and_a_topic_become_one_name_that_no_other_pair_has() {
        let pair = Pair::new("billing", "order.placed").unwrap();
        assert_eq!(&*pair.broker_group(), "billing/order.placed");
        for (group, topic) in [
            ("", "t"),
            ("a/b", "t"),
            ("g", "a/b"),
            ("g", " "),
            ("g", "a*"),
            ("ü", "t"),
        ] {
            assert!(Pair::new(group, topic).is_err(), "{group} {topic}");
        }
    }
}
