//! How much may be in hand, and whose turn it is to take less.
//!
//! Input: messages that are given out and come back. State: how much is in hand, of all clients and of each. Output:
//! whether a client may take another message.
//!
//! A connection may have in hand as much as is still free for all: alone it has half, a second one a quarter. So a
//! connection that takes and never commits leaves something to each that comes later.

/// A number of messages and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Amount {
    /// One message more.
    pub(super) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    /// One message less.
    pub(super) fn remove(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// What is in hand of a group and topic on this node.
#[derive(Debug)]
pub(super) struct HandBudget {
    most: Amount,
    pub(super) out: Amount,
}

impl HandBudget {
    pub(super) fn new(messages: usize, bytes: usize) -> Self {
        Self {
            most: Amount {
                messages: messages.max(1),
                bytes: bytes.max(1),
            },
            out: Amount::default(),
        }
    }

    /// Whether another message may be given to a client. `own` is what it has in hand, if it is a connection; messages
    /// with a deadline come back by themselves, so they need no share.
    ///
    /// The size of the message does not count, so that a large one can be taken at all.
    pub(super) fn allows(&self, own: Option<Amount>) -> bool {
        let free = Amount {
            messages: self.most.messages.saturating_sub(self.out.messages),
            bytes: self.most.bytes.saturating_sub(self.out.bytes),
        };
        let own = own.unwrap_or_default();
        own.messages < free.messages && free.bytes > 0 && own.bytes <= free.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(budget: &mut HandBudget, bytes: usize) -> Amount {
        let mut own = Amount::default();
        while budget.allows(Some(own)) {
            own.add(bytes);
            budget.out.add(bytes);
        }
        own
    }

    #[test]
    fn a_connection_that_takes_all_it_can_leaves_something_to_the_next_one() {
        let mut budget = HandBudget::new(1_000, usize::MAX);

        let shares: Vec<usize> = (0..5).map(|_| take_all(&mut budget, 1).messages).collect();

        assert_eq!(shares, [500, 250, 125, 63, 31]);
    }

    #[test]
    fn the_bytes_in_hand_exceed_the_limit_by_one_message_at_most() {
        let mut budget = HandBudget::new(1_000, 100);

        while budget.allows(None) {
            budget.out.add(30);
        }

        assert_eq!(
            budget.out,
            Amount {
                messages: 4,
                bytes: 120
            }
        );
    }

    #[test]
    fn a_limit_of_one_message_lets_one_through() {
        let mut budget = HandBudget::new(1, 1);

        assert_eq!(take_all(&mut budget, 1_000_000).messages, 1);
        assert!(!budget.allows(None));
    }
}
