//! Whether a message is in flight on another channel of this link.
//!
//! Input: deliveries and settlements of all channels. State: how many deliveries of each message are in flight, if
//! there is more than one channel. Output: whether there is one.
//!
//! When RabbitMQ closes a channel, it can deliver the channel's messages to another one before it says so. This holds
//! until their acks are written, so a delivery is in flight until then.

use std::{collections::HashMap, sync::Mutex};

use uuid::Uuid;

use crate::lock::lock;

/// What is in flight on all channels of a link. Without siblings a channel notes nothing.
#[derive(Debug)]
pub(super) struct Siblings(Option<Mutex<HashMap<Uuid, u32>>>);

impl Siblings {
    pub(super) fn new(channels: usize) -> Self {
        Self((channels > 1).then(Mutex::default))
    }

    pub(super) fn delivered(&self, name: Option<Uuid>) {
        if let (Some(names), Some(name)) = (&self.0, name) {
            *lock(names).entry(name).or_default() += 1;
        }
    }

    pub(super) fn settled(&self, name: Option<Uuid>) {
        if let (Some(names), Some(name)) = (&self.0, name) {
            let mut names = lock(names);
            if let Some(count) = names.get_mut(&name) {
                *count -= 1;
                if *count == 0 {
                    names.remove(&name);
                }
            }
        }
    }

    pub(super) fn have(&self, name: Option<Uuid>) -> bool {
        matches!((&self.0, name), (Some(names), Some(name)) if lock(names).contains_key(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_in_flight_until_each_of_its_deliveries_is_settled() {
        let siblings = Siblings::new(2);
        let name = Some(Uuid::from_u128(1));
        siblings.delivered(name);
        siblings.delivered(name);
        siblings.settled(name);
        assert!(siblings.have(name));
        siblings.settled(name);
        siblings.settled(name);
        assert!(!siblings.have(name) && !siblings.have(None));
    }
}
