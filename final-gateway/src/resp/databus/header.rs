//! The header of `HSET`, as headers of a message.

use final_core::Headers;

use super::protobuf;

/// Reads the metadata of a protobuf `Header`. `None` if it is none.
pub(crate) fn headers(bytes: &[u8]) -> Option<Headers> {
    let pairs = protobuf::header(bytes).ok()?;
    Some(pairs.into_iter().collect())
}
