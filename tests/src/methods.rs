//! Counts what a RabbitMQ answers.
//!
//! Input: the bytes of connections, from the server. State: for each connection the frame that is not yet whole;
//! how often each method came. Output: those numbers.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

const HEAD: usize = 7;
const METHOD: u8 = 1;

/// A method of AMQP by class and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method(pub u16, pub u16);

impl Method {
    /// The server opened a channel.
    pub const CHANNEL_OPEN_OK: Self = Self(20, 11);
    /// The server closed a channel, because of an error.
    pub const CHANNEL_CLOSE: Self = Self(20, 40);
}

/// How often each method came.
#[derive(Debug, Default)]
pub(crate) struct Methods(Mutex<HashMap<Method, usize>>);

impl Methods {
    pub(crate) fn count(&self, method: Method) -> usize {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&method).copied().unwrap_or_default()
    }

    /// Reads what a connection has received, behind what is left of before.
    pub(crate) fn read(&self, left: &mut Vec<u8>, bytes: &[u8]) {
        left.extend_from_slice(bytes);
        while let Some(&[kind, _, _, a, b, c, d]) = left.first_chunk::<HEAD>() {
            let whole = HEAD + u32::from_be_bytes([a, b, c, d]) as usize + 1;
            if left.len() < whole {
                return;
            }
            if kind == METHOD
                && let Some(&[a, b, c, d]) = left[HEAD..].first_chunk::<4>()
            {
                let method = Method(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                *counts.entry(method).or_default() += 1;
            }
            left.drain(..whole);
        }
    }
}
