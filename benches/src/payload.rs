//! What is sent: an order, about a hundred bytes of msgpack.

use serde::{Deserialize, Serialize};

/// The topic of every message.
pub(crate) const TOPIC: &str = "bench.orders";

/// An order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) customer: String,
    pub(crate) total: i64,
    /// When, in nanoseconds since 1970; for latencies.
    pub(crate) at: u64,
}

impl Order {
    pub(crate) fn new(id: u64) -> Self {
        Self {
            id,
            customer: "a customer of the shop, whose name is not short".into(),
            total: 4_200,
            at: now(),
        }
    }

    /// As the bus encodes it.
    pub(crate) fn encode(&self) -> crate::Result<Vec<u8>> {
        Ok(rmp_serde::to_vec_named(self)?)
    }

    pub(crate) fn decode(bytes: &[u8]) -> crate::Result<Self> {
        Ok(rmp_serde::from_slice(bytes)?)
    }

    /// How long ago it was made, in milliseconds.
    pub(crate) fn age_ms(&self) -> f64 {
        now().saturating_sub(self.at) as f64 / 1e6
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}
