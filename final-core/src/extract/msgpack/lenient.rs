//! Msgpack as libraries of other languages write it, where it can mean one thing only.
//!
//! Input: one msgpack value, checked before, that rmp-serde could not decode as a `T`. Output: a `T`, or the
//! reason why not. What rmp-serde decodes is decoded here as the same.
//!
//! | written | wanted | read as |
//! | --- | --- | --- |
//! | nil | list, map, bytes | empty (a nil slice or map of Go) |
//! | `[]` | map | empty (PHP) |
//! | `{}` | list | empty (Lua) |
//! | 12.0 | whole number | 12, up to 2^53 |
//! | bytes that are UTF-8 | text | text; 16 bytes stay bytes, because they may be a `Uuid` |
//! | text, as a key | whole number | the number, if it is written as Rust writes it |
//! | whole number, as a key | text | the number in decimal |
//! | timestamp (extension -1) | text | RFC 3339 in UTC |
//! | timestamp (extension -1) | `SystemTime` | the time |

mod access;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use serde::{
    Deserializer,
    de::{DeserializeOwned, Error as _, Visitor, value::SeqDeserializer},
    forward_to_deserialize_any,
};

use self::access::{Content, UnitVariant, Variant};
use super::MsgpackBytes;
use crate::timestamp::Timestamp;

/// Whole floats up to here are exact: there is no other float that rounds to the same number.
const EXACT: f64 = (1_u64 << 53) as f64;

const NIL: u8 = 0xc0;

/// Decodes a `T`.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, LenientError> {
    let mut rest = MsgpackBytes(bytes);
    T::deserialize(Lenient::value(&mut rest))
}

/// Why a value was not decoded.
#[derive(Debug)]
pub(super) struct LenientError {
    text: String,
    /// Whether the text is of this module, and so says more than rmp-serde's.
    is_own: bool,
}

impl LenientError {
    fn own(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_own: true,
        }
    }

    /// The text, if it is of this module.
    pub(super) fn into_own(self) -> Option<String> {
        self.is_own.then_some(self.text)
    }
}

impl fmt::Display for LenientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for LenientError {}

impl serde::de::Error for LenientError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self {
            text: text.to_string(),
            is_own: false,
        }
    }
}

impl From<&'static str> for LenientError {
    fn from(text: &'static str) -> Self {
        Self::own(text)
    }
}

/// What a value begins with. Lists and maps go on with their content.
#[derive(Clone, Copy, Debug)]
enum Head<'de> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    F32(f32),
    F64(f64),
    Text(&'de [u8]),
    Bytes(&'de [u8]),
    List(u64),
    Map(u64),
    Extension(i8, &'de [u8]),
}

impl<'de> MsgpackBytes<'de> {
    fn head(&mut self) -> Result<Head<'de>, LenientError> {
        let marker = self.byte()?;
        Ok(match marker {
            0x00..=0x7f => Head::Unsigned(marker.into()),
            0x80..=0x8f => Head::Map((marker & 0x0f).into()),
            0x90..=0x9f => Head::List((marker & 0x0f).into()),
            0xa0..=0xbf => Head::Text(self.take((marker & 0x1f).into())?),
            0xc0 => Head::Nil,
            0xc1 => return Err("it contains the byte 0xc1, which is reserved".into()),
            0xc2 | 0xc3 => Head::Bool(marker == 0xc3),
            0xc4..=0xc6 => Head::Bytes(self.counted(1 << (marker - 0xc4))?),
            0xc7..=0xc9 => {
                let length = self.number(1 << (marker - 0xc7))?;
                self.extension(length)?
            }
            0xca => Head::F32(f32::from_bits(self.number(4)? as u32)),
            0xcb => Head::F64(f64::from_bits(self.number(8)?)),
            0xcc..=0xcf => Head::Unsigned(self.number(1 << (marker - 0xcc))?),
            0xd0..=0xd3 => {
                let width = 1 << (marker - 0xd0);
                // The sign is the first bit of so many bytes.
                let unused = 64 - 8 * width;
                Head::Signed((self.number(width)? << unused).cast_signed() >> unused)
            }
            0xd4..=0xd8 => self.extension(1 << (marker - 0xd4))?,
            0xd9..=0xdb => Head::Text(self.counted(1 << (marker - 0xd9))?),
            0xdc | 0xdd => Head::List(self.number(2 << (marker - 0xdc))?),
            0xde | 0xdf => Head::Map(self.number(2 << (marker - 0xde))?),
            0xe0..=0xff => Head::Signed(marker.cast_signed().into()),
        })
    }

    fn counted(&mut self, width: u64) -> Result<&'de [u8], LenientError> {
        let length = self.number(width)?;
        Ok(self.take(length)?)
    }

    fn extension(&mut self, length: u64) -> Result<Head<'de>, LenientError> {
        let kind = self.byte()?.cast_signed();
        Ok(Head::Extension(kind, self.take(length)?))
    }
}

/// One value that is still to be read.
struct Lenient<'a, 'de> {
    rest: &'a mut MsgpackBytes<'de>,
    is_key: bool,
}

impl<'a, 'de> Lenient<'a, 'de> {
    fn value(rest: &'a mut MsgpackBytes<'de>) -> Self {
        let is_key = false;
        Self { rest, is_key }
    }

    fn key(rest: &'a mut MsgpackBytes<'de>) -> Self {
        let is_key = true;
        Self { rest, is_key }
    }

    /// Visits a value as it is written.
    fn visit<V: Visitor<'de>>(self, head: Head<'de>, visitor: V) -> Result<V::Value, LenientError> {
        match head {
            Head::Nil => visitor.visit_unit(),
            Head::Bool(value) => visitor.visit_bool(value),
            Head::Unsigned(value) => visitor.visit_u64(value),
            Head::Signed(value) => visitor.visit_i64(value),
            Head::F32(value) => visitor.visit_f32(value),
            Head::F64(value) => visitor.visit_f64(value),
            Head::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => visitor.visit_borrowed_str(text),
                Err(_) => visitor.visit_borrowed_bytes(bytes),
            },
            Head::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Head::List(left) => Content::visit_list(self.rest, left, visitor),
            Head::Map(left) => Content::visit_map(self.rest, left, visitor),
            Head::Extension(kind, bytes) => {
                let time = timestamp(kind, bytes)?;
                let text = time.rfc3339();
                let text = text.ok_or("its timestamp is outside of the years 0 to 9999")?;
                visitor.visit_string(text)
            }
        }
    }

    /// Visits a value where a sequence of a known kind is wanted. Bytes are a list of numbers there.
    fn sequence<V: Visitor<'de>>(
        self,
        head: Head<'de>,
        visitor: V,
    ) -> Result<V::Value, LenientError> {
        match head {
            Head::Bytes(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied())),
            head => self.visit(head, visitor),
        }
    }

    /// Visits a value where a whole number is wanted.
    fn integer<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, LenientError> {
        let head = self.rest.head()?;
        let float = match head {
            Head::F32(value) => whole(value.into()),
            Head::F64(value) => whole(value),
            _ => None,
        };
        if let Some(number) = float {
            return visitor.visit_i64(number);
        }
        if let Head::Text(text) = head
            && self.is_key
        {
            if let Some(number) = canonical::<i64>(text) {
                return visitor.visit_i64(number);
            }
            if let Some(number) = canonical::<u64>(text) {
                return visitor.visit_u64(number);
            }
        }
        self.number(head, visitor)
    }

    /// Visits a value where a number is wanted.
    fn number<V: Visitor<'de>>(
        self,
        head: Head<'de>,
        visitor: V,
    ) -> Result<V::Value, LenientError> {
        if let Head::Extension(kind, bytes) = head {
            timestamp(kind, bytes)?;
            return Err(LenientError::own(
                "it has a timestamp where a number is expected, which may count seconds or milliseconds; \
                 read it as text (RFC 3339)",
            ));
        }
        self.visit(head, visitor)
    }

    /// Visits a value where a text is wanted.
    fn text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, LenientError> {
        match self.rest.head()? {
            Head::Bytes(bytes) if bytes.len() != 16 => match std::str::from_utf8(bytes) {
                Ok(text) => visitor.visit_borrowed_str(text),
                Err(_) => visitor.visit_borrowed_bytes(bytes),
            },
            Head::Unsigned(number) if self.is_key => visitor.visit_string(number.to_string()),
            Head::Signed(number) if self.is_key => visitor.visit_string(number.to_string()),
            head => self.visit(head, visitor),
        }
    }

    /// Visits a value where a number with a fraction is wanted.
    fn float<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, LenientError> {
        let head = self.rest.head()?;
        self.number(head, visitor)
    }

    /// Visits a value where bytes are wanted.
    fn bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, LenientError> {
        match self.rest.head()? {
            Head::Nil => visitor.visit_borrowed_bytes(&[]),
            Head::Extension(kind, _) => Err(LenientError::own(format!(
                "it has an extension of type {kind} where bytes are expected"
            ))),
            head => self.visit(head, visitor),
        }
    }

    /// Reads sixteen bytes, if they come next: a number of 128 bits.
    fn sixteen_bytes(&mut self) -> Option<[u8; 16]> {
        let bytes = self.rest.0.strip_prefix(&[0xc4, 16])?;
        let (sixteen, rest) = bytes.split_first_chunk()?;
        self.rest.0 = rest;
        Some(*sixteen)
    }

    fn peek(&self) -> Option<u8> {
        self.rest.0.first().copied()
    }
}

macro_rules! deserialize {
    ($($method:ident => $with:ident;)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, LenientError> {
                self.$with(visitor)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Lenient<'_, 'de> {
    type Error = LenientError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, LenientError> {
        let head = self.rest.head()?;
        self.visit(head, visitor)
    }

    forward_to_deserialize_any! { bool char unit identifier }

    deserialize! {
        deserialize_i8 => integer;
        deserialize_i16 => integer;
        deserialize_i32 => integer;
        deserialize_i64 => integer;
        deserialize_u8 => integer;
        deserialize_u16 => integer;
        deserialize_u32 => integer;
        deserialize_u64 => integer;
        deserialize_f32 => float;
        deserialize_f64 => float;
        deserialize_str => text;
        deserialize_string => text;
        deserialize_bytes => bytes;
        deserialize_byte_buf => bytes;
    }

    fn deserialize_i128<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, LenientError> {
        match self.sixteen_bytes() {
            Some(bytes) => visitor.visit_i128(i128::from_be_bytes(bytes)),
            None => self.integer(visitor),
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, LenientError> {
        match self.sixteen_bytes() {
            Some(bytes) => visitor.visit_u128(u128::from_be_bytes(bytes)),
            None => self.integer(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, LenientError> {
        match self.peek() {
            Some(NIL) => {
                self.rest.byte()?;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, LenientError> {
        match self.rest.head()? {
            Head::List(0) => visitor.visit_unit(),
            head => self.visit(head, visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, LenientError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, LenientError> {
        match self.rest.head()? {
            Head::Nil | Head::Map(0) => Content::visit_list(self.rest, 0, visitor),
            head => self.sequence(head, visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, LenientError> {
        let head = self.rest.head()?;
        self.sequence(head, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, LenientError> {
        let head = self.rest.head()?;
        self.sequence(head, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, LenientError> {
        match self.rest.head()? {
            Head::Nil | Head::List(0) => Content::visit_map(self.rest, 0, visitor),
            head => self.visit(head, visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, LenientError> {
        match self.rest.head()? {
            Head::Extension(kind, bytes) if name == "SystemTime" => {
                let time = timestamp(kind, bytes)?;
                let seconds = u64::try_from(time.seconds).map_err(
                    |_| "its timestamp is before 1970, and a SystemTime cannot be read then",
                )?;
                let parts = [seconds, time.nanos.into()];
                visitor.visit_seq(SeqDeserializer::new(parts.into_iter()))
            }
            head => self.sequence(head, visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, LenientError> {
        match self.peek() {
            Some(0x80..=0x9f | 0xdc..=0xdf) => match self.rest.head()? {
                Head::Map(1) | Head::List(1) => visitor.visit_enum(Variant(self.rest)),
                _ => Err(LenientError::custom("an enum with more than one variant")),
            },
            _ => visitor.visit_enum(UnitVariant(self.rest)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, LenientError> {
        match self.rest.head()? {
            Head::Extension(..) => visitor.visit_unit(),
            head => self.visit(head, visitor),
        }
    }
}

/// A float that is a whole number, and no other number rounds to it.
fn whole(float: f64) -> Option<i64> {
    (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i64)
}

/// A number in the one way in which Rust writes it, so that two keys cannot become one.
fn canonical<N: FromStr + ToString>(text: &[u8]) -> Option<N> {
    let text = std::str::from_utf8(text).ok()?;
    let number: N = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Reads the extension -1, in its three forms.
fn timestamp(kind: i8, bytes: &[u8]) -> Result<Timestamp, LenientError> {
    if kind != -1 {
        let text = format!("it has an extension of type {kind}, which has no meaning here");
        return Err(LenientError::own(text));
    }
    let (seconds, nanos) = match *bytes {
        [a, b, c, d] => (u32::from_be_bytes([a, b, c, d]).into(), 0),
        [a, b, c, d, e, f, g, h] => {
            let both = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            ((both & ((1 << 34) - 1)).cast_signed(), (both >> 34) as u32)
        }
        [a, b, c, d, ref seconds @ ..] => match <[u8; 8]>::try_from(seconds) {
            Ok(seconds) => (
                i64::from_be_bytes(seconds),
                u32::from_be_bytes([a, b, c, d]),
            ),
            Err(_) => return Err(NO_TIMESTAMP.into()),
        },
        _ => return Err(NO_TIMESTAMP.into()),
    };
    if nanos >= 1_000_000_000 {
        return Err(NO_TIMESTAMP.into());
    }
    Ok(Timestamp { seconds, nanos })
}

const NO_TIMESTAMP: &str = "it has an extension of type -1 that is no timestamp";
