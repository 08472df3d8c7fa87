//! The fingerprint of a delivery: what tells whether two deliveries look the same.
//!
//! Input: a delivery. Output: a hash of the producer's bytes, without what the broker changes when it delivers
//! the message again.

use lapin::protocol::basic::gen_properties;
use uuid::Uuid;

use super::{Original, dead_letter::kept};

/// A hash that is the same for two deliveries exactly if the producer's bytes are.
pub(crate) fn fingerprint(original: &Original) -> Uuid {
    let properties = &original.properties;
    let (exchange, routing_key) = (original.exchange.as_str(), original.routing_key.as_str());
    let payload = &original.payload;
    let headers = kept(properties.headers().as_ref());
    let kept = properties.clone().with_headers(headers);
    // Properties that cannot be written count as empty; the payload still tells deliveries apart.
    let written = gen_properties(&kept)(Vec::new().into());
    let written = written.map(|written| written.write).unwrap_or_default();
    let mut looks = Vec::with_capacity(payload.len() + written.len() + 64);
    for part in [exchange.as_bytes(), routing_key.as_bytes(), &written] {
        looks.extend((part.len() as u64).to_be_bytes());
        looks.extend(part);
    }
    looks.extend(payload);
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &looks)
}
