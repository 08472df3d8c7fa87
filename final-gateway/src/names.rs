//! The names of groups, and of a group together with a topic.
//!
//! Input: texts of clients. Output: checked names. A [`Pair`] is one group of the broker: each topic of a group has its
//! own progress, so a client that is slow with one topic holds up no other.

use std::{fmt, sync::Arc};

/// The longest name of a group, with its colour.
const LONGEST_GROUP: usize = 64;

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

    /// The part of a group that gets the messages of one colour: it is named `group~color`. The name belongs to the group,
    /// because no client can say a group with a `~`.
    ///
    /// # Errors
    ///
    /// Says which name cannot be used, and why.
    pub(crate) fn colored(group: &str, color: &str, topic: &str) -> Result<Self, NameError> {
        check_group(group)?;
        check_color(color)?;
        check_topic(topic)?;
        let colored = format!("{group}~{color}");
        if colored.len() > LONGEST_GROUP {
            let reason = "it and its group together are longer than 63 characters";
            return Err(NameError::new("colour", color, reason));
        }
        Ok(Self {
            group: colored.into(),
            topic: topic.into(),
        })
    }

    /// The group, with the colour if it has one.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The group without the colour.
    pub(crate) fn plain_group(&self) -> &str {
        let end = self.group.find('~').unwrap_or(self.group.len());
        self.group.get(..end).unwrap_or_default()
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
    check_plain("group", group)
}

/// Checks a colour. It has the characters of a group, so that a subscriber can log in for each colour that is published.
pub(crate) fn check_color(color: &str) -> Result<(), NameError> {
    check_plain("colour", color)
}

fn check_plain(kind: &'static str, name: &str) -> Result<(), NameError> {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > LONGEST_GROUP {
        "it is longer than 64 characters"
    } else if !name.bytes().all(is_of_name) {
        "it has a character outside `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`"
    } else {
        return Ok(());
    };
    Err(NameError::new(kind, name, reason))
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

    #[test]
    fn the_group_of_a_colour_has_a_name_that_no_client_can_say() {
        let pair = Pair::colored("billing", "eu", "order.placed").unwrap();
        assert_eq!(pair.group(), "billing~eu");
        assert_eq!(&*pair.broker_group(), "billing~eu/order.placed");
        assert!(Pair::new(pair.group(), pair.topic()).is_err());
        // Two pairs of a group and a colour would share a name if one of them could have a `~`.
        for (group, color) in [("a~b", "c"), ("a", "b~c"), ("a", ""), ("", "c"), ("a", "ü")] {
            assert!(Pair::colored(group, color, "t").is_err(), "{group} {color}");
        }
        let long = "x".repeat(62);
        assert!(Pair::colored("a", &long, "t").is_ok());
        assert!(Pair::colored("ab", &long, "t").is_err());
    }
}
