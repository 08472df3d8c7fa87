//! Which addresses may be called: the public internet, and what was allowed besides.
//!
//! Input: an address that a name resolves to, and what the owner of the endpoint has allowed. Output: whether a
//! connection to it may be made, or what kind of address it is. It keeps no state.
//!
//! An endpoint is often written by another person than the one who runs the caller. Without this check it could make
//! the caller knock at services that trust their own network.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A range of addresses, such as `10.1.0.0/16`, `fd00::/8` or `127.0.0.1`.
///
/// ```
/// use final_webhook::Network;
///
/// let network: Network = "10.1.0.0/16".parse()?;
/// assert!(network.contains("10.1.2.3".parse()?));
/// assert!("10.1.0.0/33".parse::<Network>().is_err());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text that is no range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a network is an address and the length of its prefix, for example 10.1.0.0/16 or fd00::/8"
)]
pub struct NetworkError;

impl Network {
    /// Whether the address lies in the range. An IPv4 address inside an IPv6 one counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differs = ours.to_bits() ^ theirs.to_bits();
                differs.leading_zeros() >= self.prefix.into()
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differs = ours.to_bits() ^ theirs.to_bits();
                differs.leading_zeros() >= self.prefix.into()
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix: u8 = match prefix {
            None => bits,
            // `parse` would take a plus sign.
            Some(digits) if digits.bytes().all(|sign| sign.is_ascii_digit()) => {
                digits.parse().map_err(|_| NetworkError)?
            }
            Some(_) => return Err(NetworkError),
        };
        if prefix > bits {
            return Err(NetworkError);
        }
        // A range of IPv4 addresses that is written as IPv6 is the range of IPv4.
        match (address, address.to_canonical()) {
            (IpAddr::V6(_), canonical @ IpAddr::V4(_)) => Ok(Self {
                address: canonical,
                prefix: prefix.checked_sub(96).ok_or(NetworkError)?,
            }),
            _ => Ok(Self { address, prefix }),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// What an address is, if it is not a public one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressKind {
    /// This machine.
    Loopback,
    /// A private network: RFC 1918, or unique local.
    Private,
    /// The network between a provider and its customers, 100.64.0.0/10.
    Shared,
    /// The machines on the same wire.
    LinkLocal,
    /// The service of a cloud that gives a machine its credentials.
    Metadata,
    /// Many machines at once.
    Multicast,
    /// An address that no machine has, or none that can be named from here.
    Reserved,
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::Shared => "an address of a provider's own network",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "the address of a cloud's metadata service",
            Self::Multicast => "a multicast address",
            Self::Reserved => "a reserved address",
        })
    }
}

/// What may be called besides public addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) private: bool,
    pub(crate) networks: Vec<Network>,
}

impl Allowed {
    /// Whether a connection to the address may be made; if not, what kind of address it is.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), AddressKind> {
        let Some(kind) = kind(address) else {
            return Ok(());
        };
        // Nobody who allows a private network means the service that hands out the machine's credentials.
        let private = matches!(
            kind,
            AddressKind::Loopback | AddressKind::Private | AddressKind::Shared
        );
        let listed = self
            .networks
            .iter()
            .any(|network| network.contains(address));
        if listed || (private && self.private) {
            Ok(())
        } else {
            Err(kind)
        }
    }
}

/// What the address is, if it is not a public one.
fn kind(address: IpAddr) -> Option<AddressKind> {
    match address.to_canonical() {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

fn kind_v4(address: Ipv4Addr) -> Option<AddressKind> {
    let kind = match address.octets() {
        // Alibaba, Oracle, Azure; the others use 169.254.169.254, or 169.254.170.2 for containers.
        [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] => AddressKind::Metadata,
        [169, 254, 169 | 170, _] => AddressKind::Metadata,
        [127, ..] => AddressKind::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => AddressKind::Private,
        [100, 64..=127, ..] => AddressKind::Shared,
        [169, 254, ..] => AddressKind::LinkLocal,
        [224..=239, ..] => AddressKind::Multicast,
        // "This network", protocol assignments, examples, relays of 6to4, benchmarks, and the future.
        [0, ..] | [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] => {
            AddressKind::Reserved
        }
        [198, 18..=19, ..] | [240..=255, ..] => AddressKind::Reserved,
        _ => return None,
    };
    Some(kind)
}

fn kind_v6(address: Ipv6Addr) -> Option<AddressKind> {
    let low = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let kind = match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressKind::Loopback,
        // Amazon and Google.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => {
            AddressKind::Metadata
        }
        // A gateway translates these to the IPv4 address that they carry.
        [0x64, 0xff9b, 0, 0, 0, 0, a, b] | [0x2002, a, b, ..] => return kind_v4(low(a, b)),
        [0xfc00..=0xfdff, ..] => AddressKind::Private,
        [0xfe80..=0xfebf, ..] => AddressKind::LinkLocal,
        [0xff00..=0xffff, ..] => AddressKind::Multicast,
        // Teredo carries an IPv4 address that others choose; protocol assignments; examples.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => {
            AddressKind::Reserved
        }
        // All public addresses begin with these three bits.
        [0x2000..=0x3fff, ..] => return None,
        _ => AddressKind::Reserved,
    };
    Some(kind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(allowed: &Allowed, address: &str) -> Result<(), AddressKind> {
        allowed.check(address.parse().unwrap())
    }

    fn networks(list: &[&str]) -> Allowed {
        Allowed {
            private: false,
            networks: list.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn only_public_addresses_are_called_by_default() {
        use AddressKind::{LinkLocal, Loopback, Metadata, Multicast, Private, Reserved, Shared};
        let none = Allowed::default();
        for (address, kind) in [
            ("127.0.0.1", Loopback),
            ("127.255.255.254", Loopback),
            ("::1", Loopback),
            ("::ffff:127.0.0.1", Loopback),
            ("64:ff9b::7f00:1", Loopback),
            ("2002:7f00:1::", Loopback),
            ("10.0.0.1", Private),
            ("172.16.0.1", Private),
            ("172.31.255.255", Private),
            ("192.168.1.1", Private),
            ("::ffff:10.0.0.1", Private),
            ("64:ff9b::a00:1", Private),
            ("fc00::1", Private),
            ("fdff::1", Private),
            ("100.64.0.1", Shared),
            ("100.127.255.255", Shared),
            ("169.254.1.1", LinkLocal),
            ("fe80::1", LinkLocal),
            ("febf::1", LinkLocal),
            ("169.254.169.254", Metadata),
            ("169.254.170.2", Metadata),
            ("::ffff:169.254.169.254", Metadata),
            ("64:ff9b::a9fe:a9fe", Metadata),
            ("100.100.100.200", Metadata),
            ("168.63.129.16", Metadata),
            ("fd00:ec2::254", Metadata),
            ("fd20:ce::254", Metadata),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("ff02::1", Multicast),
            ("0.0.0.0", Reserved),
            ("0.1.2.3", Reserved),
            ("255.255.255.255", Reserved),
            ("240.0.0.1", Reserved),
            ("192.0.2.1", Reserved),
            ("198.18.0.1", Reserved),
            ("::", Reserved),
            ("::7f00:1", Reserved),
            ("fec0::1", Reserved),
            ("2001::1", Reserved),
            ("2001:db8::1", Reserved),
            ("64:ff9b:1::a00:1", Reserved),
            ("100::1", Reserved),
            ("5f00::1", Reserved),
        ] {
            assert_eq!(check(&none, address), Err(kind), "{address}");
        }
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "126.1.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::101:101",
        ] {
            assert_eq!(check(&none, address), Ok(()), "{address}");
        }
    }

    #[test]
    fn private_addresses_do_not_include_those_that_hand_out_credentials() {
        let private = Allowed {
            private: true,
            ..Allowed::default()
        };
        for address in [
            "127.0.0.1",
            "::1",
            "10.0.0.1",
            "fd00::1",
            "100.64.0.1",
            "::ffff:10.1.1.1",
        ] {
            assert_eq!(check(&private, address), Ok(()), "{address}");
        }
        for address in [
            "169.254.169.254",
            "169.254.1.1",
            "fe80::1",
            "0.0.0.0",
            "224.0.0.1",
            "fd00:ec2::254",
        ] {
            assert!(check(&private, address).is_err(), "{address}");
        }
    }

    #[test]
    fn a_network_allows_its_own_addresses_however_they_are_written() {
        let some = networks(&["10.1.0.0/16", "fd12::/16", "127.0.0.1", "169.254.169.254"]);
        for address in [
            "10.1.2.3",
            "::ffff:10.1.2.3",
            "fd12::1",
            "127.0.0.1",
            "169.254.169.254",
        ] {
            assert_eq!(check(&some, address), Ok(()), "{address}");
        }
        for address in ["10.2.0.1", "fd13::1", "127.0.0.2", "::1", "169.254.169.253"] {
            assert!(check(&some, address).is_err(), "{address}");
        }
        assert_eq!(check(&networks(&["0.0.0.0/0"]), "10.0.0.1"), Ok(()));
        assert_eq!(
            check(&networks(&["::ffff:10.0.0.0/104"]), "10.9.9.9"),
            Ok(())
        );
    }

    #[test]
    fn a_text_that_is_no_network_is_refused() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/+8",
            "10.0.0/8",
            "::ffff:10.0.0.0/8",
            "host",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_standard_librarys_judgement_is_never_milder(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            let special = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_unspecified() || address.is_broadcast()
                || address.is_documentation();
            prop_assert!(!special || kind_v4(address).is_some());
        }

        #[test]
        fn an_address_inside_another_is_judged_by_itself(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(kind(address.into()), kind(address.to_ipv6_mapped().into()));
        }

        #[test]
        fn a_network_reads_what_it_writes(bits: u128, prefix in 0u8..=128) {
            let network = Network { address: IpAddr::V6(Ipv6Addr::from_bits(bits)), prefix };
            prop_assume!(network.address.to_canonical().is_ipv6());
            prop_assert_eq!(network.to_string().parse(), Ok(network));
        }
    }
}
