//! Ids of messages, the same each time a change is read.
//!
//! Input: the source's identity, the transaction's id, the place of the change in it. Output: a UUID of version 5. Each
//! step hashes the one before it, so that only a few bytes are hashed for each message.

use final_core::MessageId;
use uuid::Uuid;

/// The ids of one source.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceIds(Uuid);

/// The ids of one transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct TransactionIds(Uuid);

impl SourceIds {
    pub(super) fn new(identity: &str) -> Self {
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, identity.as_bytes()))
    }

    pub(super) fn of(self, transaction: &str) -> TransactionIds {
        TransactionIds(Uuid::new_v5(&self.0, transaction.as_bytes()))
    }
}

impl TransactionIds {
    /// The id of a message that begins with that change. A change that comes as several messages numbers them.
    pub(super) fn id(self, index: u64, part: u32) -> MessageId {
        let mut place = [0; 12];
        let (first, second) = place.split_at_mut(8);
        first.copy_from_slice(&index.to_be_bytes());
        second.copy_from_slice(&part.to_be_bytes());
        MessageId::derived(self.0, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A release that made other ids would hand over everything that repeats as new.
    #[test]
    fn ids_stay_the_same_over_releases() {
        let id = SourceIds::new("mariadb:7f3a:1").of("0-1-345").id(17, 1);
        assert_eq!(id.to_string(), "a480d665-d422-5299-8164-eccee7e21089");
    }

    #[test]
    fn each_part_of_the_place_makes_another_id() {
        let id = |source, transaction, index, part| {
            SourceIds::new(source).of(transaction).id(index, part)
        };
        let all = [
            id("a", "1", 0, 0),
            id("b", "1", 0, 0),
            id("a", "2", 0, 0),
            id("a", "1", 1, 0),
            id("a", "1", 0, 1),
        ];
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }
}
