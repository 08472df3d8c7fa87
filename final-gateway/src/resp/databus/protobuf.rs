//! The two messages of databus's protobuf: `Header` of `HSET`, and `MessagePB` of `MGET pb`.
//!
//! Input: bytes of others, at most as many as a request may have; parts of a record. Output: pairs of texts; bytes.
//! Fields that have their default are left out, as version 3 has it.

/// Bytes that are no protobuf, or not of this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// Reads a `Header`: field 1 is a map of texts. Unknown fields are passed over.
pub(super) fn header(mut bytes: &[u8]) -> Result<Vec<(&str, &str)>, Malformed> {
    let mut pairs = Vec::new();
    while !bytes.is_empty() {
        match field(&mut bytes)? {
            (1, Some(mut entry)) => {
                let (mut key, mut value) = ("", "");
                while !entry.is_empty() {
                    match field(&mut entry)? {
                        (1, Some(bytes)) => key = utf8(bytes)?,
                        (2, Some(bytes)) => value = utf8(bytes)?,
                        _ => {}
                    }
                }
                pairs.push((key, value));
            }
            (1, None) => return Err(Malformed),
            _ => {}
        }
    }
    Ok(pairs)
}

/// Reads a field: its number, and its bytes if it has a length.
fn field<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Option<&'a [u8]>), Malformed> {
    let tag = varint(bytes)?;
    let number = tag >> 3;
    if number == 0 {
        return Err(Malformed);
    }
    let value = match tag & 7 {
        VARINT => {
            varint(bytes)?;
            None
        }
        FIXED64 => take(bytes, 8).map(|_| None)?,
        LENGTH => {
            let length = varint(bytes)?;
            Some(take(
                bytes,
                usize::try_from(length).map_err(|_| Malformed)?,
            )?)
        }
        FIXED32 => take(bytes, 4).map(|_| None)?,
        _ => return Err(Malformed),
    };
    Ok((number, value))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(Malformed)?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        // The tenth byte has one bit left.
        if shift == 63 && low > 1 {
            return Err(Malformed);
        }
        number |= low << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// Writes a field that has a length, unless it is empty.
pub(super) fn bytes(number: u64, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        entry(number, value, out);
    }
}

/// Writes a field that has a length, also if it is empty: the parts of a map.
pub(super) fn entry(number: u64, value: &[u8], out: &mut Vec<u8>) {
    put(number << 3 | LENGTH, out);
    put(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Writes a number, unless it is 0. Negative numbers take ten bytes, as in every protobuf.
pub(super) fn integer(number: u64, value: i64, out: &mut Vec<u8>) {
    if value != 0 {
        put(number << 3 | VARINT, out);
        put(value.cast_unsigned(), out);
    }
}

fn put(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_is_a_map_of_texts() {
        let bytes = b"\x0a\x09\x0a\x01a\x12\x04blue\x0a\x00\x10\x07";
        assert_eq!(header(bytes), Ok(vec![("a", "blue"), ("", "")]));
        assert_eq!(header(b""), Ok(vec![]));
    }

    #[test]
    fn bytes_that_are_no_header_are_refused() {
        for bad in [
            &b"hello"[..],
            b"\x0a",
            b"\x0a\x05ab",
            b"\x08\x01",
            b"\x0a\x03\x0a\x01\xff",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x03\x04",
        ] {
            assert_eq!(header(bad), Err(Malformed), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_map_is_the_same_when_it_is_read_again(pairs in proptest::collection::vec(any::<(String, String)>(), 0..5)) {
            let mut out = Vec::new();
            for (key, value) in &pairs {
                let mut both = Vec::new();
                entry(1, key.as_bytes(), &mut both);
                entry(2, value.as_bytes(), &mut both);
                entry(1, &both, &mut out);
            }
            let read = header(&out).unwrap();
            let read: Vec<_> = read.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            prop_assert_eq!(read, pairs);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = header(&bytes);
        }
    }
}
