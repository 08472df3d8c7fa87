//! MariaDB's global transaction ids.
//!
//! Input: the ids of transactions as they pass. State: the last one of each domain. Output: the text by which a server
//! is asked to go on, such as `0-1-345,7-2-12`.

use std::{collections::BTreeMap, fmt, str::FromStr};

/// The id of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gtid {
    /// Its domain: transactions of one domain have an order.
    pub(super) domain: u32,
    /// The server that ran it first.
    pub(super) server: u32,
    /// Its number in the domain.
    pub(super) number: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.number)
    }
}

impl FromStr for Gtid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.trim().splitn(3, '-');
        let mut next = || parts.next().unwrap_or_default();
        let (domain, server, number) = (next(), next(), next());
        match (domain.parse(), server.parse(), number.parse()) {
            (Ok(domain), Ok(server), Ok(number)) => Ok(Self {
                domain,
                server,
                number,
            }),
            _ => Err(format!(
                "`{text}` is no GTID of MariaDB: write domain, server and number as in `0-1-345`"
            )),
        }
    }
}

/// The last transaction of each domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GtidPosition(BTreeMap<u32, (u32, u64)>);

impl GtidPosition {
    /// A domain that is here and in none of the ids of a server's state. A server says nothing about such a domain.
    pub(super) fn unknown_domain(&self, state: &str) -> Option<u32> {
        let known: Vec<u32> = state
            .split(',')
            .filter_map(|gtid| Some(gtid.parse::<Gtid>().ok()?.domain))
            .collect();
        self.0
            .keys()
            .copied()
            .find(|domain| !known.contains(domain))
    }

    /// That transaction has passed.
    pub(super) fn pass(&mut self, gtid: Gtid) {
        self.0.insert(gtid.domain, (gtid.server, gtid.number));
    }
}

impl fmt::Display for GtidPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (&domain, &(server, number))) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{domain}-{server}-{number}")?;
        }
        Ok(())
    }
}

impl FromStr for GtidPosition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut position = Self::default();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let gtid: Gtid = part.parse()?;
            if position.0.contains_key(&gtid.domain) {
                return Err(format!("`{text}` has domain {} twice", gtid.domain));
            }
            position.pass(gtid);
        }
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_has_one_id_for_each_domain_in_their_order() {
        let mut position: GtidPosition = "7-2-12, 0-1-345".parse().unwrap();
        assert_eq!(position.to_string(), "0-1-345,7-2-12");
        position.pass("0-9-346".parse().unwrap());
        assert_eq!(position.to_string(), "0-9-346,7-2-12");
        assert_eq!("".parse::<GtidPosition>().unwrap().to_string(), "");
    }

    #[test]
    fn a_text_that_is_no_position_is_refused() {
        for text in [
            "0-1",
            "0-1-x",
            "0-1-2-3",
            "a",
            "0-1-2,0-2-3",
            "3E11FA47-71CA-11E1-9E33-C80AA9429562:23",
        ] {
            assert!(text.parse::<GtidPosition>().is_err(), "{text}");
        }
    }
}
