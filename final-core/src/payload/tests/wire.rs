//! Messages that were written before, or by others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Id, Unit, forms::Tagged, from_msgpack, msgpack};
use crate::Message;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Login {
    from: IpAddr,
    to: SocketAddr,
    gate: Ipv4Addr,
    id: Id,
    total: i128,
    unit: Unit,
}

fn login() -> Login {
    Login {
        from: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 200)),
        to: "10.0.0.1:5672".parse().unwrap(),
        gate: Ipv4Addr::new(10, 0, 0, 1),
        id: Id([7; 16]),
        total: -1,
        unit: Unit,
    }
}

/// As `publish` wrote it when it was not human-readable.
const FIRST: &[u8] = b"\x86\
    \xa4from\x81\xa2V4\x94\x0a\x00\x00\xcc\xc8\
    \xa2to\x81\xa2V4\x92\x94\x0a\x00\x00\x01\xcd\x16\x28\
    \xa4gate\x94\x0a\x00\x00\x01\
    \xa2id\xc4\x10\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\
    \xa5total\xc4\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
    \xa4unit\x90";

/// As it writes it now.
const NOW: &[u8] = b"\x86\
    \xa4from\xaa10.0.0.200\
    \xa2to\xad10.0.0.1:5672\
    \xa4gate\xa810.0.0.1\
    \xa2id\xc4\x10\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\
    \xa5total\xc4\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
    \xa4unit\xc0";

#[test]
fn both_forms_that_publish_ever_wrote_are_read() {
    assert_eq!(rmp_serde::to_vec_named(&login()).unwrap(), FIRST);
    assert_eq!(msgpack(&login()).unwrap().payload(), NOW);
    for bytes in [FIRST, NOW] {
        let message = Message::new("login", bytes.to_vec());
        assert_eq!(from_msgpack(&message), Ok(login()));
    }
}

#[test]
fn what_has_one_form_is_written_as_ever_so_that_older_instances_read_it() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Order {
        id: Id,
        number: (u64, i8, f32, f64),
        text: Option<String>,
        bytes: [u8; 32],
        unit: Unit,
    }

    let order = Order {
        id: Id([0xee; 16]),
        number: (u64::MAX, -100, 0.5, 0.1),
        text: Some("x".repeat(300)),
        bytes: [200; 32],
        unit: Unit,
    };
    let message = msgpack(&order).unwrap();
    let older: Order = rmp_serde::from_slice(message.payload()).unwrap();
    assert_eq!(older, order);
    let order = Tagged::Named {
        of: (Id([0xee; 16]), [200_u8; 32], Some(-1_i64), 'x'),
    };
    let message = msgpack(&order).unwrap();
    assert_eq!(message.payload(), &rmp_serde::to_vec_named(&order).unwrap());
}

#[test]
fn a_uuid_is_read_as_text_too_because_other_languages_write_text() {
    let text = b"\xd9\x2407070707-0707-0707-0707-070707070707";
    let message = Message::new("id", text.to_vec());
    assert_eq!(from_msgpack(&message), Ok(Id([7; 16])));
}
