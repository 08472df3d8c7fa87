//! Failed logins, counted per address.
//!
//! Input: failed logins. State: a bucket for each address, and for each address together with an app key; bounded.
//! Output: whether the next failure is told as it is, or only that there were too many.
//!
//! A guess of one app's secret fills the bucket of the address and the app, so that others behind the same address are
//! not slowed. A search for app keys fills that of the address alone, which is larger.
//!
//! **A load balancer** has one address for all of its clients. Where it is named, only the buckets of app keys count,
//! each for all of its clients together. Where it is not named, clients that search for keys slow all others behind it
//! that fail too. In both cases a right secret that we made is not looked up here at all: it gets in. One that people
//! chose is, because it can be guessed: else a guesser would hear of each guess at once whether it gets in.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError, RwLock},
    time::Duration,
};

use super::bucket::Bucket;

/// Failures of one app from one address that are told at once, and how long each further one waits.
const OF_APP: (u32, Duration) = (10, Duration::from_secs(3));

/// The same of one address, whatever the app.
const OF_ADDRESS: (u32, Duration) = (100, Duration::from_secs(1));

/// How often slowed failures are told at most.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// So many buckets are kept.
const MOST: usize = 20_000;

/// Whose failures are counted. The key is a hash of the app key, because that may be long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Whose {
    address: Option<IpAddr>,
    key: Option<u64>,
}

/// The failures of all addresses.
#[derive(Debug, Default)]
pub(super) struct Slowing {
    buckets: Mutex<HashMap<Whose, Bucket>>,
    hasher: RandomState,
    /// Addresses of load balancers.
    balancers: RwLock<Vec<IpAddr>>,
    /// When this was told last.
    told: Mutex<Option<Duration>>,
}

impl Slowing {
    /// Names addresses of load balancers.
    pub(super) fn behind(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let addresses = addresses.into_iter().map(|address| address.to_canonical());
        let mut balancers = self
            .balancers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *balancers = addresses.collect();
    }

    /// Whether there were so many failures that the secret is not even looked at.
    pub(super) fn is_slow(&self, from: Option<IpAddr>, key: &str, now: Duration) -> bool {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        self.whose(from, key)
            .into_iter()
            .flatten()
            .any(|(whose, (failures, each))| {
                let bucket = buckets.get(&whose);
                bucket.is_some_and(|bucket| bucket.wait_for(each * failures, each, now).is_some())
            })
    }

    /// Counts a failure. True if the next one will be slowed because of it, and this was not told a moment ago.
    pub(super) fn failed(&self, from: Option<IpAddr>, key: &str, now: Duration) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST {
            make_room(&mut buckets, now);
        }
        let mut is_slow = false;
        for (whose, (failures, each)) in self.whose(from, key).into_iter().flatten() {
            let bucket = buckets.entry(whose).or_default();
            bucket.take_for(each, now);
            is_slow |= bucket.wait_for(each * failures, each, now).is_some();
        }
        drop(buckets);
        is_slow && self.is_to_be_told(now)
    }

    /// A flood of failures must not become a flood of lines in the log.
    fn is_to_be_told(&self, now: Duration) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_none_or(|told| now.saturating_sub(told) >= TOLD_EVERY);
        if is_due {
            *told = Some(now);
        }
        is_due
    }

    fn whose(&self, from: Option<IpAddr>, key: &str) -> [Option<(Whose, (u32, Duration))>; 2] {
        let balancers = self
            .balancers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let address = from
            .map(|from| from.to_canonical())
            .filter(|from| !balancers.contains(from))
            .map(network);
        let of_app = Whose {
            address,
            key: Some(self.hasher.hash_one(key)),
        };
        let of_address = address.map(|_| Whose { address, key: None });
        [
            Some((of_app, OF_APP)),
            of_address.map(|whose| (whose, OF_ADDRESS)),
        ]
    }
}

/// A customer of IPv6 has a whole /64 to choose addresses from.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

/// Forgets what is full again. If that is not enough, it forgets half of the rest: the map stays bounded, and each of
/// those that are left is slowed as before.
fn make_room(buckets: &mut HashMap<Whose, Bucket>, now: Duration) {
    buckets.retain(|_, bucket| !bucket.is_full(now));
    if buckets.len() >= MOST / 2 {
        let mut keep = false;
        buckets.retain(|_, _| {
            keep = !keep;
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    fn fail(slowing: &Slowing, from: Option<IpAddr>, key: &str, times: u32) -> bool {
        for _ in 0..times {
            slowing.failed(from, key, NOW);
        }
        slowing.is_slow(from, key, NOW)
    }

    #[test]
    fn guesses_of_one_app_slow_that_app_from_that_address_alone() {
        let (slowing, bad) = (Slowing::default(), address("10.0.0.1"));
        assert!(!fail(&slowing, bad, "shop", 9));
        assert!(fail(&slowing, bad, "shop", 1));
        assert!(slowing.is_slow(bad, "shop", NOW));
        assert!(!slowing.is_slow(bad, "billing", NOW));
        assert!(!slowing.is_slow(address("10.0.0.2"), "shop", NOW));
        // One more after three seconds.
        assert!(!slowing.is_slow(bad, "shop", NOW + OF_APP.1));
        assert!(slowing.is_slow(address("::ffff:10.0.0.1"), "shop", NOW));
    }

    #[test]
    fn a_search_for_keys_slows_its_address_and_a_whole_network_of_ipv6_is_one() {
        let slowing = Slowing::default();
        for number in 0..100 {
            let from = address(&format!("2001:db8::{number:x}"));
            slowing.failed(from, &format!("key{number}"), NOW);
        }
        assert!(slowing.is_slow(address("2001:db8::ffff:1"), "another", NOW));
        assert!(!slowing.is_slow(address("2001:db8:0:1::1"), "another", NOW));
    }

    #[test]
    fn behind_a_named_balancer_only_the_key_that_is_guessed_is_slowed() {
        let balancer = address("10.0.0.9");
        let slowing = Slowing::default();
        slowing.behind(balancer);
        for number in 0..500 {
            slowing.failed(balancer, &format!("key{number}"), NOW);
        }
        assert!(!slowing.is_slow(balancer, "shop", NOW));
        fail(&slowing, balancer, "shop", 10);
        assert!(slowing.is_slow(balancer, "shop", NOW) && slowing.is_slow(None, "shop", NOW));
    }

    #[test]
    fn the_map_stays_bounded_and_the_guesser_stays_slowed_or_starts_anew() {
        let slowing = Slowing::default();
        for number in 0..100_000_u32 {
            let from = Some(IpAddr::V4(number.into()));
            slowing.failed(from, "shop", NOW);
            let kept = slowing.buckets.lock().unwrap().len();
            assert!(kept <= MOST + 1, "{kept}");
        }
    }
}
