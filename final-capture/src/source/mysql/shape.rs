//! How the values of a column are stored in the binary log, and how they are read.
//!
//! Input: a column's type and its few bytes of detail from the table map, then the bytes of rows. Output: canonical
//! [`Value`]s, or the value passed over where its table is not captured.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    charset::Charset,
    decimal, inflate,
    server::Special,
    temporal,
    wire::{CannotRead, Wire},
};
use crate::value::Value;

/// How the values of a column are stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Int {
        bytes: u8,
        unsigned: bool,
    },
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Year,
    Date,
    Time(u8),
    DateTime(u8),
    Timestamp(u8),
    Bits(u16),
    Enum {
        bytes: u8,
        texts: Arc<[Arc<str>]>,
    },
    Set {
        bytes: u8,
        texts: Arc<[Arc<str>]>,
    },
    /// A text or bytes after a length of so many bytes.
    Text {
        length: u8,
        charset: Charset,
        /// How many bytes a value has at most. 0 if the stream does not tell.
        size: u16,
        /// Whether all values have that size. BINARY(n) has lost its zeros at the end, and gets them back.
        fixed: bool,
        /// Whether each value tells in its first byte if it is compressed.
        compressed: bool,
    },
    Geometry {
        length: u8,
    },
    /// A type that is stored as BINARY(16) or BINARY(4).
    Special(Special),
}

impl Shape {
    /// The catalog says what the bytes are. A column that has no such bytes was another one when its rows were written.
    pub(super) fn specialize(&mut self, special: Special) {
        let bytes = if special == Special::Inet4 { 4 } else { 16 };
        if matches!(self, Self::Text { charset: Charset::Binary, fixed: true, size, .. } if *size == bytes)
        {
            *self = Self::Special(special);
        }
    }

    /// Passes over a value.
    pub(super) fn skip(&self, wire: &mut Wire<'_>) -> Result<(), CannotRead> {
        let size = match self {
            Self::Int { bytes, .. } | Self::Enum { bytes, .. } | Self::Set { bytes, .. } => {
                usize::from(*bytes)
            }
            Self::Float => 4,
            Self::Double => 8,
            Self::Decimal { precision, scale } => decimal::size(*precision, *scale),
            Self::Year => 1,
            Self::Date => 3,
            Self::Time(digits) => temporal::time_size(*digits),
            Self::DateTime(digits) => temporal::datetime_size(*digits),
            Self::Timestamp(digits) => temporal::timestamp_size(*digits),
            Self::Bits(bits) => usize::from(bits.div_ceil(8)),
            Self::Text { length, .. } | Self::Geometry { length } => {
                return piece(wire, *length).map(drop);
            }
            Self::Special(_) => return piece(wire, 1).map(drop),
        };
        wire.take(size).map(drop)
    }

    /// Reads a value. `most` is how large one may become that was compressed.
    pub(super) fn read(&self, wire: &mut Wire<'_>, most: usize) -> Result<Value, CannotRead> {
        Ok(match self {
            Self::Int { bytes, unsigned } => {
                let number = wire.low_first(usize::from(*bytes))?;
                if *unsigned {
                    Value::UInt(number)
                } else {
                    let free = 64 - 8 * u32::from(*bytes);
                    Value::Int((number << free).cast_signed() >> free)
                }
            }
            Self::Float => {
                let bits = u32::try_from(wire.low_first(4)?).unwrap_or_default();
                Value::Float(f32::from_bits(bits))
            }
            Self::Double => Value::Double(f64::from_bits(wire.low_first(8)?)),
            Self::Decimal { precision, scale } => {
                Value::Text(decimal::read(wire, *precision, *scale)?.as_str().into())
            }
            Self::Year => match wire.u8()? {
                0 => Value::Int(0),
                year => Value::Int(1900 + i64::from(year)),
            },
            Self::Date => temporal::date(wire)?,
            Self::Time(digits) => temporal::time(wire, *digits)?,
            Self::DateTime(digits) => temporal::datetime(wire, *digits)?,
            Self::Timestamp(digits) => temporal::timestamp(wire, *digits)?,
            Self::Bits(bits) => Value::Bits(wire.high_first(usize::from(bits.div_ceil(8)))?),
            Self::Enum { bytes, texts } => one_of(wire.low_first(usize::from(*bytes))?, texts)?,
            Self::Set { bytes, texts } => some_of(wire.low_first(usize::from(*bytes))?, texts)?,
            Self::Text {
                length,
                charset,
                size,
                fixed,
                compressed,
            } => {
                let piece = piece(wire, *length)?;
                let fill = if *fixed { usize::from(*size) } else { 0 };
                if *compressed {
                    text(&inflate::value(piece, most)?, charset, fill)?
                } else {
                    text(piece, charset, fill)?
                }
            }
            Self::Geometry { length } => {
                Value::Bytes(Bytes::copy_from_slice(piece(wire, *length)?))
            }
            Self::Special(special) => special.read(piece(wire, 1)?)?,
        })
    }
}

fn piece<'a>(wire: &mut Wire<'a>, length: u8) -> Result<&'a [u8], CannotRead> {
    let size = usize::try_from(wire.low_first(usize::from(length))?)
        .map_err(|_| CannotRead::new("a value is too long"))?;
    wire.take(size)
}

fn text(piece: &[u8], charset: &Charset, fill: usize) -> Result<Value, CannotRead> {
    if *charset != Charset::Binary {
        return charset.value(piece);
    }
    if piece.len() >= fill {
        return Ok(Value::Bytes(Bytes::copy_from_slice(piece)));
    }
    let mut filled = piece.to_vec();
    filled.resize(fill, 0);
    Ok(Value::Bytes(filled.into()))
}

fn one_of(number: u64, texts: &[Arc<str>]) -> Result<Value, CannotRead> {
    let unknown = || CannotRead(format!("an ENUM has no text number {number}"));
    let index = u32::try_from(number).map_err(|_| unknown())?;
    match usize::try_from(number).unwrap_or(usize::MAX).checked_sub(1) {
        None => Ok(Value::Enum(0, "".into())),
        Some(at) => match texts.get(at) {
            Some(text) => Ok(Value::Enum(index, Arc::clone(text))),
            None => Err(unknown()),
        },
    }
}

fn some_of(bits: u64, texts: &[Arc<str>]) -> Result<Value, CannotRead> {
    let known = u32::try_from(texts.len()).unwrap_or(u32::MAX);
    if known < 64 && bits >> known != 0 {
        return Err(CannotRead(format!(
            "a SET of {known} texts has the bits {bits:b}"
        )));
    }
    let chosen = texts
        .iter()
        .enumerate()
        .filter(|(at, _)| bits >> at & 1 == 1)
        .map(|(_, text)| Arc::clone(text))
        .collect();
    Ok(Value::Set(bits, chosen))
}
