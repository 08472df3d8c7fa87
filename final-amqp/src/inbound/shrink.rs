//! Makes a content header fit into a frame of this connection.
//!
//! Input: the payload of a content header frame that is too large. Output: a payload that fits.
//!
//! RabbitMQ delivers the headers of a message in one frame, also if that frame is larger than the agreed size:
//! the producer's connection may have a larger size, and the broker adds headers of its own. lapin closes the
//! connection at such a frame, and the broker then delivers the message again for ever. So headers are left out.
//! The broker's headers go first, because the message is complete without them. If that is not enough, the
//! largest headers go, and a header of this crate says so. The message then counts as one that cannot be
//! understood, and becomes a dead letter.

use final_core::received::HeaderOwner;

use super::mend::Cursor;
use crate::text::{cut, listed};

/// The header that says what was left out. A name with a control character is not one of a user.
pub(crate) const LEFT_OUT: &str = "\x1aleft-out";

/// Room for the entry of that name.
const FOR_LEFT_OUT: usize = 512;
/// The longest text of that entry. The name, its length, the type and the text's length take the rest.
const MAX_TEXT: usize = FOR_LEFT_OUT - LEFT_OUT.len() - 6;

/// Where the flags are, which say which properties are present. Class, weight and body size come first.
const FLAGS_AT: usize = 12;
const HAS_HEADERS: usize = 0x2000;

struct HeaderEntry {
    name: String,
    bytes: Vec<u8>,
    /// Headers of the broker are left out first, and those of the bus last.
    owner: HeaderOwner,
}

/// The payload of a content header frame, mended before, without what makes it longer than `limit`.
/// `None` if it has no headers, or cannot be read.
pub(super) fn shrink(payload: &mut [u8], limit: usize) -> Option<Vec<u8>> {
    let (from, to, mut entries) = headers(payload)?;
    let length = |entries: &[HeaderEntry]| {
        let headers: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
        payload.len() - (to - from) + headers
    };
    // The headers that are left out first stand last.
    entries.sort_by_key(|entry| (std::cmp::Reverse(entry.owner), entry.bytes.len()));
    while length(&entries) > limit
        && entries
            .pop_if(|one| one.owner == HeaderOwner::Broker)
            .is_some()
    {}
    if length(&entries) > limit {
        let mut left_out = Vec::new();
        while length(&entries) + FOR_LEFT_OUT > limit {
            let entry = entries.pop()?;
            left_out.push((entry.name, entry.bytes.len()));
        }
        entries.push(left_out_entry(limit, &left_out)?);
    }
    let headers: Vec<u8> = entries.into_iter().flat_map(|entry| entry.bytes).collect();
    let counted = u32::try_from(headers.len()).ok()?.to_be_bytes();
    let before = payload.get(..from - counted.len())?;
    Some([before, &counted, &headers, payload.get(to..)?].concat())
}

/// Where the table of headers begins and ends, and its entries.
fn headers(payload: &mut [u8]) -> Option<(usize, usize, Vec<HeaderEntry>)> {
    let mut cursor = Cursor::new(payload);
    cursor.skip(FLAGS_AT)?;
    let flags = cursor.number(2)?;
    if flags & HAS_HEADERS == 0 {
        return None;
    }
    // Content type and content encoding come first.
    for flag in [0x8000, 0x4000] {
        if flags & flag != 0 {
            cursor.text()?;
        }
    }
    let to = cursor.end_of_counted()?;
    let from = cursor.at;
    let mut ranges = Vec::new();
    while cursor.at < to {
        let start = cursor.at;
        cursor.text()?;
        let name_end = cursor.at;
        cursor.value()?;
        ranges.push((start, name_end, cursor.at));
    }
    if cursor.at != to {
        return None;
    }
    let entry = |(start, name_end, end): (usize, usize, usize)| {
        let name = String::from_utf8_lossy(payload.get(start + 1..name_end)?).into_owned();
        Some(HeaderEntry {
            owner: HeaderOwner::of(&name),
            name,
            bytes: payload.get(start..end)?.to_vec(),
        })
    };
    let entries = ranges.into_iter().map(entry).collect::<Option<_>>()?;
    Some((from, to, entries))
}

fn left_out_entry(limit: usize, left_out: &[(String, usize)]) -> Option<HeaderEntry> {
    let text = format!(
        "its headers do not fit into a frame of {limit} bytes, so some were left out: {}",
        listed(left_out)
    );
    let text = cut(&text, MAX_TEXT);
    let name = LEFT_OUT.as_bytes();
    let length = u32::try_from(text.len()).ok()?.to_be_bytes();
    let name_length = u8::try_from(name.len()).ok()?;
    Some(HeaderEntry {
        name: LEFT_OUT.to_owned(),
        bytes: [&[name_length], name, b"S", &length, text.as_bytes()].concat(),
        owner: HeaderOwner::Bus,
    })
}
