//! Msgpack from outside, decoded without trusting it.
//!
//! Input: bytes. Output: a `T`, or the reason why not. The bytes are checked first, then decoded as `publish`
//! writes them, then as it wrote them at first, then as other languages write them.

mod lenient;

use rmp_serde::{Deserializer, decode::Error};
use serde::de::DeserializeOwned;

/// How deep arrays and maps may lie in each other, as in serde_json.
///
/// Each level costs stack while a type is built from it, and a thread of tokio has 2 MiB. The deepest
/// recursive type tried needs less than a third of that in a debug build.
pub(crate) const MAX_DEPTH: usize = 128;

/// Decodes a `T`, or tells why not.
///
/// Some types have two forms, one of them human-readable: an `IpAddr` is text or bytes. The first is
/// what `publish` writes, and the second what it wrote at first: such messages may still be on the way.
/// Only what is neither is read leniently, so that a message of a bus costs nothing more.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    check(bytes)?;
    let mut readable = Deserializer::from_read_ref(bytes).with_human_readable();
    let error = match T::deserialize(&mut readable) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if let Ok(value) = rmp_serde::from_slice(bytes) {
        return Ok(value);
    }
    lenient::decode(bytes).map_err(|own| {
        own.into_own().unwrap_or_else(|| match error {
            Error::TypeMismatch(marker) => format!("unexpected {}", kind(marker)),
            error => error.to_string(),
        })
    })
}

/// `FixStr` of `FixStr(6)`: a short number is its own marker, and no value is told.
fn kind(marker: impl std::fmt::Debug) -> String {
    let marker = format!("{marker:?}");
    marker.split('(').next().unwrap_or_default().to_owned()
}

/// Checks that `bytes` are one msgpack value, whole, with nothing after it, and not nested too deep.
///
/// rmp-serde has a depth limit, but does not count levels that are enums, so that a few kilobytes
/// could overflow the stack and abort the process. It also leaves what follows the value unread, so
/// that most texts would be read as a small number.
fn check(bytes: &[u8]) -> Result<(), &'static str> {
    let mut rest = MsgpackBytes(bytes);
    // How many values are still to come on each level.
    let mut open = [0_u64; MAX_DEPTH + 1];
    open[0] = 1;
    let mut depth = 0;
    loop {
        while open[depth] == 0 {
            if depth == 0 {
                return match rest.0 {
                    [] => Ok(()),
                    _ => Err("there are bytes after its end"),
                };
            }
            depth -= 1;
        }
        open[depth] -= 1;
        let inside = rest.value()?;
        if inside > 0 {
            depth += 1;
            *open.get_mut(depth).ok_or("it is nested too deep")? = inside;
        }
    }
}

const TOO_SHORT: &str = "it ends too early";

/// Steps over values.
struct MsgpackBytes<'a>(&'a [u8]);

impl<'a> MsgpackBytes<'a> {
    /// Steps over a scalar, or into an array or map, and tells how many values lie inside.
    fn value(&mut self) -> Result<u64, &'static str> {
        let marker = self.byte()?;
        match marker {
            0x80..=0x8f => return Ok(2 * u64::from(marker & 0x0f)),
            0x90..=0x9f => return Ok((marker & 0x0f).into()),
            0xdc | 0xdd => return self.number(2 << (marker - 0xdc)),
            0xde | 0xdf => return Ok(2 * self.number(2 << (marker - 0xde))?),
            // Small numbers, nil, false, true.
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => {}
            // Short text.
            0xa0..=0xbf => self.skip((marker & 0x1f).into())?,
            0xc1 => return Err("it contains the byte 0xc1, which is reserved"),
            // Bytes, extensions (with one byte for their type), longer text: a length comes first.
            0xc4..=0xc6 => self.skip_counted(1 << (marker - 0xc4), 0)?,
            0xc7..=0xc9 => self.skip_counted(1 << (marker - 0xc7), 1)?,
            0xd9..=0xdb => self.skip_counted(1 << (marker - 0xd9), 0)?,
            // Floats, unsigned and signed integers.
            0xca | 0xcb => self.skip(4 << (marker - 0xca))?,
            0xcc..=0xcf => self.skip(1 << (marker - 0xcc))?,
            0xd0..=0xd3 => self.skip(1 << (marker - 0xd0))?,
            // Extensions of a fixed length.
            0xd4..=0xd8 => self.skip(1 + (1 << (marker - 0xd4)))?,
        }
        Ok(0)
    }

    /// Steps over a length of `width` bytes, that many bytes, and `more`.
    fn skip_counted(&mut self, width: u64, more: u64) -> Result<(), &'static str> {
        let length = self.number(width)?;
        self.skip(length + more)
    }

    /// Reads a number of `width` bytes, at most 8.
    fn number(&mut self, width: u64) -> Result<u64, &'static str> {
        let digits = self.take(width)?;
        Ok(digits.iter().fold(0, |n, &byte| n << 8 | u64::from(byte)))
    }

    fn skip(&mut self, count: u64) -> Result<(), &'static str> {
        self.take(count).map(drop)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        let (&byte, rest) = self.0.split_first().ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(byte)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], &'static str> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let (taken, rest) = self.0.split_at_checked(count).ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Expression {
        Not(Box<Expression>),
        All(Vec<Expression>),
        Named { of: Box<Expression> },
        Truth,
    }

    /// What a Go or Rust peer may send: `levels` of `open`, then `end`.
    fn nested(levels: usize, open: &[u8], end: &[u8]) -> Vec<u8> {
        [&open.repeat(levels), end].concat()
    }

    /// A thread with the stack of a tokio worker.
    fn on_a_worker_stack(run: impl FnOnce() + Send + 'static) {
        std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(run)
            .unwrap()
            .join()
            .unwrap();
    }

    #[test]
    fn deepest_nesting_that_is_let_through_fits_the_stack_of_a_worker() {
        on_a_worker_stack(|| {
            let not = nested(MAX_DEPTH, b"\x81\xa3Not", b"\xa5Truth");
            decode::<Expression>(&not).unwrap();
            let all = nested(MAX_DEPTH / 2, b"\x81\xa3All\x91", b"\xa5Truth");
            decode::<Expression>(&all).unwrap();
            let named = nested(MAX_DEPTH / 2, b"\x81\xa5Named\x81\xa2of", b"\xa5Truth");
            decode::<Expression>(&named).unwrap();
            let arrays = nested(MAX_DEPTH, b"\x91", b"\xc0");
            decode::<serde_json::Value>(&arrays).unwrap();
            decode::<serde::de::IgnoredAny>(&arrays).unwrap();
        });
    }

    /// A deep value that cannot be read goes through every way of reading.
    #[test]
    fn deepest_nesting_of_what_cannot_be_read_fits_the_stack_of_a_worker() {
        on_a_worker_stack(|| {
            let not = nested(MAX_DEPTH, b"\x81\xa3Not", b"\x01");
            decode::<Expression>(&not).unwrap_err();
            let all = nested(MAX_DEPTH / 2, b"\x81\xa3All\x91", b"\xd4\x05\x00");
            decode::<Expression>(&all).unwrap_err();
            let named = nested(MAX_DEPTH / 2, b"\x81\xa5Named\x81\xa2of", b"\x01");
            decode::<Expression>(&named).unwrap_err();
            let arrays = nested(MAX_DEPTH, b"\x91", b"\xc4\x01\xff");
            decode::<serde_json::Value>(&arrays).unwrap_err();
            let nil = nested(MAX_DEPTH / 2 - 1, b"\x81\xa3All\x91", b"\x81\xa3All\xc0");
            decode::<Expression>(&nil).unwrap();
        });
    }

    #[test]
    fn nesting_without_end_is_refused_whatever_the_type() {
        on_a_worker_stack(|| {
            for open in [&b"\x81\xa3Not"[..], b"\x91", b"\x81\xc0", b"\x81"] {
                let hostile = nested(1 << 20, open, b"\xc0");
                let error = decode::<Expression>(&hostile).unwrap_err();
                assert_eq!(error, "it is nested too deep");
                assert_eq!(decode::<serde_json::Value>(&hostile).unwrap_err(), error);
            }
        });
    }

    #[test]
    fn text_is_not_read_as_a_number() {
        let error = decode::<i64>(b"{\"id\": 1}").unwrap_err();
        assert_eq!(error, "there are bytes after its end");
    }

    #[test]
    fn lengths_that_promise_more_than_there_is_are_refused() {
        for promise in [
            &b"\xdd\xff\xff\xff\xff"[..],
            b"\xdf\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xff",
            b"\xc9\xff\xff\xff\xff",
            b"\xd8",
            b"",
        ] {
            let error = decode::<serde_json::Value>(promise).unwrap_err();
            assert_eq!(error, "it ends too early");
        }
    }

    #[test]
    fn every_kind_of_value_passes() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct All {
            unsigned: (u8, u16, u32, u64),
            signed: (i8, i16, i32, i64),
            floats: (f32, f64),
            text: [String; 4],
            list: Vec<u32>,
            map: std::collections::BTreeMap<u32, bool>,
            none: Option<()>,
            tuple: ((), char),
        }
        let text = |length| "x".repeat(length);
        let all = All {
            unsigned: (u8::MAX, u16::MAX, u32::MAX, u64::MAX),
            signed: (i8::MIN, i16::MIN, i32::MIN, i64::MIN),
            floats: (0.5, 0.25),
            text: [text(1), text(200), text(300), text(70_000)],
            list: (0..70_000).collect(),
            map: (0..300).map(|n| (n, n % 2 == 0)).collect(),
            none: None,
            tuple: ((), 'x'),
        };
        let bytes = rmp_serde::to_vec_named(&all).unwrap();
        assert_eq!(decode::<All>(&bytes).unwrap(), all);
        for cut in [0, 1, 7, bytes.len() / 2, bytes.len() - 1] {
            assert_eq!(check(&bytes[..cut]), Err("it ends too early"));
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_an_answer_and_no_panic(bytes: Vec<u8>) {
            let _ = decode::<Expression>(&bytes);
            let _ = decode::<serde_json::Value>(&bytes);
        }

        #[test]
        fn bytes_and_extensions_of_any_length_pass(length in 0_usize..70_000) {
            for (marker, width) in [(0xc4_u8, 1_usize), (0xc5, 2), (0xc6, 4), (0xc7, 1), (0xc8, 2), (0xc9, 4)] {
                if width < 4 && length >> (8 * width) > 0 {
                    continue;
                }
                let extension = marker >= 0xc7;
                let mut bytes = vec![marker];
                bytes.extend(&(length as u32).to_be_bytes()[4 - width..]);
                bytes.resize(bytes.len() + length + usize::from(extension), 0);
                prop_assert_eq!(check(&bytes), Ok(()));
            }
        }
    }
}
