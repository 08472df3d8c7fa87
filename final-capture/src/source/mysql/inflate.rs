//! What MariaDB compresses inside of events: rows of a whole event, texts of statements, values of COMPRESSED columns.
//!
//! Input: the compressed bytes, and how large they may become. Output: the bytes.
//!
//! ```text
//!   rows, statements:  1aaa ·nnn  length, n bytes, high first   zlib            a = 0: zlib
//!   values:            0000 0000  the value as it is
//!                      1000 wnnn  length, n bytes, high first   zlib, or its deflate alone if w is set
//! ```

use std::{
    borrow::Cow,
    io::{self, Read},
};

use flate2::read::{DeflateDecoder, ZlibDecoder};

use super::wire::{CannotRead, Wire};

/// What an event's compressed part becomes.
pub(super) fn event(bytes: &[u8], most: usize) -> Result<Vec<u8>, CannotRead> {
    let mut wire = Wire(bytes);
    let head = wire.u8()?;
    if head & 0xf0 != 0x80 {
        return Err(CannotRead(format!(
            "an event is compressed in a way ({head:#04x}) that is not known"
        )));
    }
    let length = length(&mut wire, head, most)?;
    exactly(ZlibDecoder::new(wire.0), length)
}

/// What a value of a COMPRESSED column is.
pub(super) fn value(bytes: &[u8], most: usize) -> Result<Cow<'_, [u8]>, CannotRead> {
    let mut wire = Wire(bytes);
    if wire.is_empty() {
        return Ok(Cow::Borrowed(bytes));
    }
    let head = wire.u8()?;
    match head & 0xf8 {
        0x00 if head == 0 => Ok(Cow::Borrowed(wire.0)),
        0x80 => {
            let length = length(&mut wire, head, most)?;
            exactly(ZlibDecoder::new(wire.0), length).map(Cow::Owned)
        }
        0x88 => {
            let length = length(&mut wire, head, most)?;
            exactly(DeflateDecoder::new(wire.0), length).map(Cow::Owned)
        }
        _ => Err(CannotRead(format!(
            "a value is compressed in a way ({head:#04x}) that is not known"
        ))),
    }
}

fn length(wire: &mut Wire<'_>, head: u8, most: usize) -> Result<usize, CannotRead> {
    let bytes = usize::from(head & 7);
    let length = match bytes {
        1..=4 => usize::try_from(wire.high_first(bytes)?).unwrap_or(usize::MAX),
        _ => return Err(CannotRead(format!("a length has {bytes} bytes"))),
    };
    if length > most {
        return Err(CannotRead(format!(
            "{length} bytes were compressed, and the limit is {most}. Raise `max_event` of the source"
        )));
    }
    Ok(length)
}

/// Reads as many bytes as were announced. The space grows with what really comes.
fn exactly(mut from: impl Read, length: usize) -> Result<Vec<u8>, CannotRead> {
    let bad = |why: io::Error| CannotRead(format!("compressed bytes are damaged: {why}"));
    let mut bytes = Vec::with_capacity(length.min(1 << 20));
    let most = u64::try_from(length).unwrap_or(u64::MAX).saturating_add(1);
    from.by_ref()
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(bad)?;
    if bytes.len() == length {
        Ok(bytes)
    } else {
        Err(CannotRead(format!(
            "compressed bytes are damaged: {length} were announced, and there are {}",
            if bytes.len() > length {
                "more".to_owned()
            } else {
                bytes.len().to_string()
            }
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{
        Compression,
        write::{DeflateEncoder, ZlibEncoder},
    };

    use super::*;

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn framed(head: u8, length: u16, body: &[u8]) -> Vec<u8> {
        let mut framed = vec![head];
        framed.extend(length.to_be_bytes());
        framed.extend(body);
        framed
    }

    #[test]
    fn compressed_bytes_become_what_they_were() {
        let rows = b"rows ".repeat(200);
        assert_eq!(
            event(&framed(0x82, 1000, &zlib(&rows)), 1000).unwrap(),
            rows
        );
        assert_eq!(
            value(&framed(0x82, 1000, &zlib(&rows)), 1000).unwrap(),
            rows
        );
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(&rows).unwrap();
        let raw = raw.finish().unwrap();
        assert_eq!(value(&framed(0x8a, 1000, &raw), 1000).unwrap(), rows);
        assert_eq!(*value(b"\0plain", 10).unwrap(), *b"plain");
        assert!(value(b"", 10).unwrap().is_empty());
    }

    #[test]
    fn bytes_beyond_the_limit_or_beside_their_length_are_refused() {
        let body = zlib(&[0; 1000]);
        for (bytes, most) in [
            (framed(0x82, 1000, &body), 999),
            (framed(0x82, 999, &body), 5000),
            (framed(0x82, 1001, &body), 5000),
            (framed(0x92, 1000, &body), 5000),
            (framed(0x80, 1000, &body), 5000),
            (framed(0x82, 1000, body.get(..5).unwrap()), 5000),
            (vec![0x84, 0xff, 0xff, 0xff, 0xff], 5000),
            (vec![], 5000),
        ] {
            assert!(event(&bytes, most).is_err(), "{bytes:?}");
        }
    }
}
