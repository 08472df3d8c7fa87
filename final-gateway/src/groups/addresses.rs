//! From where the connections of each group come.
//!
//! Input: connections that consume, and their ends. State: for each group the addresses, each with a count. Output: the
//! addresses of a group.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The addresses of all groups.
#[derive(Default)]
pub(super) struct Addresses(Mutex<ByGroup>);

type ByGroup = HashMap<Arc<str>, BTreeMap<SocketAddr, usize>>;

/// A connection of a group, until it is dropped.
pub(super) struct ConnectionAddress {
    all: Arc<Addresses>,
    group: Arc<str>,
    address: SocketAddr,
}

impl Addresses {
    /// A connection consumes in the group.
    pub(super) fn note(self: &Arc<Self>, group: &str, address: SocketAddr) -> ConnectionAddress {
        let group: Arc<str> = group.into();
        let mut groups = self.groups();
        let addresses = groups.entry(Arc::clone(&group)).or_default();
        *addresses.entry(address).or_default() += 1;
        ConnectionAddress {
            all: Arc::clone(self),
            group,
            address,
        }
    }

    /// The addresses of a group, each once, in their order.
    pub(super) fn of(&self, group: &str) -> Vec<SocketAddr> {
        let groups = self.groups();
        let addresses = groups.get(group).map(|addresses| addresses.keys().copied());
        addresses.map(Iterator::collect).unwrap_or_default()
    }

    fn groups(&self) -> MutexGuard<'_, ByGroup> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionAddress {
    fn drop(&mut self) {
        let mut groups = self.all.groups();
        let Some(addresses) = groups.get_mut(&self.group) else {
            return;
        };
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
        if addresses.is_empty() {
            groups.remove(&self.group);
        }
    }
}

impl fmt::Debug for ConnectionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnectionAddress")
            .field(&self.address)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_until_its_last_connection_has_ended() {
        let all = Arc::<Addresses>::default();
        let [one, two] = ["192.0.2.2:1", "192.0.2.1:1"].map(|text| text.parse().unwrap());
        let first = all.note("g", one);
        let again = all.note("g", one);
        let _other = all.note("h", two);
        let _second = all.note("g", two);
        assert_eq!(all.of("g"), [two, one]);

        drop(first);
        assert_eq!(all.of("g"), [two, one]);
        drop(again);
        assert_eq!(all.of("g"), [two]);
        assert_eq!(all.of("none"), []);
        drop((_other, _second));
        assert!(all.groups().is_empty());
    }
}
