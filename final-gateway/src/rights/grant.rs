//! What a right covers, and which right of several holds.
//!
//! Input: the columns of a right, or the words of a caller. Output: whether it covers a group and a topic; which one is
//! the closest.
//!
//! Rights only add up: an operation is allowed if any right allows it, and no right takes away what another one gives.
//! The limits of a message are those of the closest right that allows it: one of its group before one of all groups,
//! then one of the very topic, then that with the longest prefix.

use std::fmt;

use super::Operation;
use crate::names::{NameError, check_group, check_topic};

/// A set of operations, with the numbers that databus has for it: 1 subscribe, 2 publish, 3 both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operations(u8);

impl Operations {
    /// Consume.
    pub const SUBSCRIBE: Self = Self(1);
    /// Publish.
    pub const PUBLISH: Self = Self(2);
    /// Publish and consume.
    pub const BOTH: Self = Self(3);
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// Reads databus's number. None if it has other bits, or none.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        let bits = u8::try_from(number).ok()?;
        (1..=3).contains(&bits).then_some(Self(bits))
    }

    /// The number that databus has for it.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// Whether the operation is one of the set.
    #[must_use]
    pub fn has(self, operation: Operation) -> bool {
        let bit = match operation {
            Operation::Subscribe => Self::SUBSCRIBE,
            Operation::Publish => Self::PUBLISH,
        };
        self.0 & bit.0 != 0
    }

    /// Those of both sets.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Those that are not in the other set.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }
}

impl fmt::Display for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            1 => "subscribe",
            2 => "publish",
            3 => "publish and subscribe",
            _ => "nothing",
        })
    }
}

/// A right: what an app may do with a group and with topics.
///
/// The group is a name, or `*` for all groups. The topic is a name, a prefix with a `*` behind it (`order.*`), or `*` for
/// all topics.
///
/// ```
/// use final_gateway::rights::{Grant, Operations};
///
/// let grant = Grant::new("billing", "order.*", Operations::BOTH)?
///     .batch(100)
///     .publishes_per_second(500);
/// assert!(Grant::new("billing", "order.*.placed", Operations::BOTH).is_err());
/// # Ok::<(), final_gateway::names::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) operations: Operations,
    pub(super) batch: Option<u32>,
    pub(super) publishes_per_second: Option<u32>,
    pub(super) deliveries_per_second: Option<u32>,
}

impl Grant {
    /// A right without limits of its own.
    ///
    /// # Errors
    ///
    /// Says which name cannot be used, and why.
    pub fn new(group: &str, topic: &str, operations: Operations) -> Result<Self, NameError> {
        if group != "*" {
            check_group(group)?;
        }
        // MySQL does not tell texts apart that differ in blanks at their end.
        if topic.trim() != topic {
            let reason = "it begins or ends with a blank";
            return Err(NameError::new("topic", topic, reason));
        }
        match topic.strip_suffix('*') {
            Some("") => {}
            Some(prefix) => check_topic(prefix)?,
            None => check_topic(topic)?,
        }
        Ok(Self {
            group: group.to_owned(),
            topic: topic.to_owned(),
            operations,
            batch: None,
            publishes_per_second: None,
            deliveries_per_second: None,
        })
    }

    /// The most messages of one answer.
    #[must_use]
    pub fn batch(mut self, messages: u32) -> Self {
        self.batch = Some(messages);
        self
    }

    /// The most messages that are published by this right in a second.
    #[must_use]
    pub fn publishes_per_second(mut self, messages: u32) -> Self {
        self.publishes_per_second = Some(messages);
        self
    }

    /// The most messages that are delivered by this right in a second.
    #[must_use]
    pub fn deliveries_per_second(mut self, messages: u32) -> Self {
        self.deliveries_per_second = Some(messages);
        self
    }

    /// The group, or `*`.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The topic, or a prefix and `*`.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// What is allowed.
    #[must_use]
    pub fn operations(&self) -> Operations {
        self.operations
    }

    /// The most messages of one answer.
    #[must_use]
    pub fn most_of_a_batch(&self) -> Option<u32> {
        self.batch
    }

    /// The most messages of an operation in a second.
    #[must_use]
    pub fn per_second(&self, operation: Operation) -> Option<u32> {
        match operation {
            Operation::Publish => self.publishes_per_second,
            Operation::Subscribe => self.deliveries_per_second,
        }
    }

    /// Whether it is about the group. Without a group, any right will do.
    pub(super) fn is_of_group(&self, group: Option<&str>) -> bool {
        self.group == "*" || group.is_none_or(|group| group == self.group)
    }

    /// Whether it is about the topic.
    pub(super) fn is_of_topic(&self, topic: &str) -> bool {
        match self.topic.strip_suffix('*') {
            Some(prefix) => topic.starts_with(prefix),
            None => topic == self.topic,
        }
    }

    /// Whether everything that the other right is about is something that this one is about.
    fn is_about_all_of(&self, other: &Self) -> bool {
        let group = self.group == "*" || self.group == other.group;
        // The other's prefix without its star is the shortest text that it covers.
        let topic = match self.topic.strip_suffix('*') {
            Some(prefix) => other
                .topic
                .strip_suffix('*')
                .unwrap_or(&other.topic)
                .starts_with(prefix),
            None => self.topic == other.topic,
        };
        group && topic
    }

    /// How close it is: the greater, the closer.
    pub(super) fn closeness(&self) -> (bool, bool, usize) {
        let is_exact = !self.topic.ends_with('*');
        (self.group != "*", is_exact, self.topic.len())
    }
}

/// Whether everything that was allowed still is. It looks at each earlier right and at each new one alone: an earlier
/// right that several new ones share out counts as lost, so that nobody keeps what is not sure.
pub(super) fn covers<'g>(
    now: impl Iterator<Item = &'g Grant> + Clone,
    before: impl Iterator<Item = &'g Grant>,
) -> bool {
    let mut kept = before.map(|before| {
        let covering = now.clone().filter(|now| now.is_about_all_of(before));
        let allowed = covering.fold(Operations::NONE, |all, now| all.and(now.operations));
        before.operations.without(allowed) == Operations::NONE
    });
    kept.all(|kept| kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(group: &str, topic: &str, operations: Operations) -> Grant {
        Grant::new(group, topic, operations).expect("a right")
    }

    #[test]
    fn a_topic_is_a_name_or_a_prefix_and_a_star_anywhere_else_is_refused() {
        for topic in ["order.placed", "order.*", "order*", "*", "注文.*"] {
            assert!(Grant::new("g", topic, Operations::BOTH).is_ok(), "{topic}");
        }
        for topic in [
            "",
            " ",
            "a ",
            " a",
            "*.placed",
            "order.*.x",
            "**",
            "a/b",
            "a#",
            "a\0b",
            "amq.*",
        ] {
            assert!(Grant::new("g", topic, Operations::BOTH).is_err(), "{topic}");
        }
        for group in ["", "a b", "a*", "ü"] {
            assert!(Grant::new(group, "t", Operations::BOTH).is_err(), "{group}");
        }
    }

    #[test]
    fn a_prefix_covers_what_begins_with_it_and_nothing_else() {
        let prefix = grant("g", "order.*", Operations::BOTH);
        assert!(prefix.is_of_topic("order.placed") && prefix.is_of_topic("order."));
        assert!(!prefix.is_of_topic("order") && !prefix.is_of_topic("Order.placed"));
        assert!(grant("g", "*", Operations::BOTH).is_of_topic("anything"));
        assert!(!grant("g", "order", Operations::BOTH).is_of_topic("orders"));
    }

    #[test]
    fn rights_shrink_when_a_group_a_topic_or_an_operation_is_gone_and_not_when_others_come() {
        let kept = |now: &[Grant], before: &[Grant]| covers(now.iter(), before.iter());
        let all = grant("*", "*", Operations::BOTH);
        let orders = grant("g", "order.*", Operations::BOTH);
        let placed = grant("g", "order.placed", Operations::PUBLISH);
        let [orders, placed, all] = [[orders], [placed], [all]];
        assert!(kept(&all, &orders) && kept(&orders, &placed) && kept(&orders, &[]));
        assert!(!kept(&placed, &orders) && !kept(&orders, &all) && !kept(&[], &placed));
        let halves = [
            grant("g", "*", Operations::PUBLISH),
            grant("*", "order.*", Operations::SUBSCRIBE),
        ];
        assert!(kept(&halves, &orders));
        assert!(!kept(&halves[..1], &orders));
        assert!(!kept(&[grant("h", "order.*", Operations::BOTH)], &orders));
        // `order.*` also covers `order.x`, which `order.` alone does not.
        assert!(!kept(&[grant("g", "order.", Operations::BOTH)], &orders));
    }
}
