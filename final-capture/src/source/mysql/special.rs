//! UUIDs and addresses, which MariaDB stores as bytes.
//!
//! Input: the bytes without the zeros at their end. Output: the text that SELECT gives.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{server::Special, wire::CannotRead};
use crate::value::Value;

impl Special {
    /// Reads a value.
    pub(super) fn read(self, stored: &[u8]) -> Result<Value, CannotRead> {
        Ok(Value::Text(match self {
            Self::Uuid => uuid::Uuid::from_bytes(filled(stored)?)
                .hyphenated()
                .to_string()
                .into(),
            Self::Inet4 => Ipv4Addr::from(filled(stored)?).to_string().into(),
            Self::Inet6 => inet6(filled(stored)?).into(),
        }))
    }
}

fn filled<const N: usize>(stored: &[u8]) -> Result<[u8; N], CannotRead> {
    let mut bytes = [0; N];
    match bytes.get_mut(..stored.len()) {
        Some(start) => start.copy_from_slice(stored),
        None => {
            return Err(CannotRead(format!(
                "a value has {} bytes, and its type {N}",
                stored.len()
            )));
        }
    }
    Ok(bytes)
}

/// MariaDB's text differs from that of RFC 5952: `::` stands for a single zero group too, and the last four bytes are
/// those of an IPv4 address also behind zeros alone.
fn inet6(bytes: [u8; 16]) -> String {
    let address = Ipv6Addr::from(bytes);
    let groups = address.segments();
    let (start, length) = zeros(&groups);
    let is_ipv4 = start == 0 && (length == 6 || (length == 5 && groups[5] == 0xffff));
    if is_ipv4 {
        let [.., a, b, c, d] = bytes;
        let mapped = if length == 5 { "ffff:" } else { "" };
        return format!("::{mapped}{}", Ipv4Addr::new(a, b, c, d));
    }
    let text = |groups: &[u16]| {
        let groups: Vec<_> = groups.iter().map(|group| format!("{group:x}")).collect();
        groups.join(":")
    };
    let (before, rest) = groups.split_at(start);
    match length {
        0 => text(&groups),
        _ => format!("{}::{}", text(before), text(rest.split_at(length).1)),
    }
}

/// The longest run of groups that are zero, the first of equals: where it begins, and its length.
fn zeros(groups: &[u16; 8]) -> (usize, usize) {
    let mut longest = (0, 0);
    let mut run = 0;
    for (at, group) in groups.iter().enumerate() {
        run = if *group == 0 { run + 1 } else { 0 };
        if run > longest.1 {
            longest = (at + 1 - run, run);
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zeros_at_the_end_come_back() {
        let text = |special: Special, bytes: &[u8]| special.read(bytes).unwrap();
        let is = |text: &str| Value::Text(text.into());
        assert_eq!(
            text(
                Special::Uuid,
                &[
                    0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x55,
                    0x44
                ]
            ),
            is("123e4567-e89b-12d3-a456-426655440000")
        );
        assert_eq!(text(Special::Inet4, &[10]), is("10.0.0.0"));
        assert_eq!(text(Special::Inet6, &[]), is("::"));
        assert!(Special::Inet4.read(&[0; 5]).is_err());
    }
}
