//! What a delivery looks like, without what the broker changes when it delivers it again.

use lapin::{BasicProperties, protocol::basic::gen_properties};
use uuid::Uuid;

use super::dead_letter::kept;

/// The same for two deliveries that are equal in every byte of the producer's.
pub(crate) fn fingerprint(
    properties: &BasicProperties,
    exchange: &str,
    routing_key: &str,
    payload: &[u8],
) -> Uuid {
    let headers = kept(properties.headers().as_ref());
    let kept = properties.clone().with_headers(headers);
    // What cannot be written is taken as nothing: the payload tells it apart.
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
