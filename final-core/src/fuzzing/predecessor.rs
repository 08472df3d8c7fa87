//! A row of the Go predecessor's table.

use crate::{
    names::{check_header, check_topic},
    outbox::predecessor::message::decode,
};

/// The bytes are what stands in the column `message`.
pub fn predecessor(bytes: &[u8]) {
    let Some(message) = decode(bytes) else {
        return;
    };
    check_topic(message.topic()).expect("a topic that can be published to");
    let headers = message.headers();
    assert!(headers.bytes() <= 64 * 1024);
    for (name, _) in headers.iter() {
        check_header(name, headers.bytes()).expect("a header that can be sent");
    }
    assert!(message.payload().len() <= bytes.len());
    let again = decode(bytes).expect("reads it twice");
    assert_eq!(again.id(), message.id(), "a repeat has the same id");
    assert_eq!(again.headers(), message.headers());
}
