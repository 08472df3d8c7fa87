//! Types for columns whose JSON is not what a Rust type reads.

use std::{fmt, marker::PhantomData, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

/// Bytes of a column, which JSON has in base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Base64(pub Vec<u8>);

/// True or false, of a database that has it as number 1 or 0, as MariaDB does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flag(pub bool);

/// A number that JSON has as a number or as a text: a whole number beyond 2⁵³, a float that is `NaN` or `Infinity`, or a
/// decimal for a type of one's own that is read from text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exact<T>(pub T);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Base64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes in base64")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Base64, E> {
                // The text itself is not told: errors are logged.
                let bytes = STANDARD.decode(text).map(Base64);
                bytes.map_err(|_| E::invalid_value(Unexpected::Other("text"), &self))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a whole number")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Flag, E> {
                Ok(Flag(value != 0))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Flag, E> {
                Ok(Flag(value != 0))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de, T: FromStr> Deserialize<'de> for Exact<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<T: FromStr> Reader<T> {
            fn parse<E: Error>(&self, text: &str) -> Result<Exact<T>, E> {
                let number = text.parse().map(Exact);
                number.map_err(|_| E::invalid_value(Unexpected::Other("number"), self))
            }
        }
        impl<T: FromStr> Visitor<'_> for Reader<T> {
            type Value = Exact<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or the text of one")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Exact<T>, E> {
                self.parse(&value.to_string())
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Exact<T>, E> {
                self.parse(&value.to_string())
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Exact<T>, E> {
                self.parse(&value.to_string())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Exact<T>, E> {
                self.parse(text)
            }
        }
        deserializer.deserialize_any(Reader(PhantomData))
    }
}
