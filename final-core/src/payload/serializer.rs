//! A serializer around another one, which refuses what the reader could not read back.

use std::cell::Cell;

use serde::{Serialize, Serializer, ser::Error as _};
use uuid::Uuid;

use super::{
    binary::{Binary, Expected},
    compound::{Elements, Entries, Fields},
    context::Context,
    value::ValueInContext,
};

/// Passes everything on to `inner`, except values that could not be read back.
///
/// Serde's derive keeps the content of `tag`, `untagged` and `flatten` in a buffer, and that buffer is
/// always human-readable ([serde#2172]). So every value is written human-readable, in msgpack too.
///
/// [serde#2172]: https://github.com/serde-rs/serde/issues/2172
pub(super) struct Checked<'a, S> {
    inner: S,
    value: &'a dyn Binary,
    context: Context,
    /// A value asked for its form, so it has two.
    asked: Cell<bool>,
}

impl<T: Serialize + ?Sized> Serialize for ValueInContext<'_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Checked {
            inner,
            value: self,
            context: self.context,
            asked: Cell::new(false),
        })
    }
}

impl<T: Serialize + ?Sized> Binary for ValueInContext<'_, T> {
    fn is_binary(&self, bytes: &[u8]) -> bool {
        self.value.serialize(Expected(bytes)).is_ok()
    }
}

impl<S: Serializer> Checked<'_, S> {
    /// The buffer of serde cannot hold such a number, whatever the format.
    fn check_wide(&self) -> Result<(), S::Error> {
        if self.context.buffered {
            return Err(S::Error::custom(
                "serde cannot read an i128 or u128 inside of `tag` or `flatten`: publish it as text, \
                 with `#[serde(with = …)]`",
            ));
        }
        Ok(())
    }

    /// JSON has text for keys only, and the buffer of serde does not read a number from text.
    fn check_key(&self) -> Result<(), S::Error> {
        if self.context.key && self.context.json && self.context.buffered {
            return Err(S::Error::custom(
                "serde cannot read keys that are no text from JSON inside of `tag` or `flatten`: \
                 publish msgpack, or make the keys text",
            ));
        }
        Ok(())
    }

    /// JSON has no word for them, and `null` is not read as a number.
    fn check_float(&self, is_finite: bool) -> Result<(), S::Error> {
        if self.context.json && !is_finite {
            return Err(S::Error::custom(
                "JSON has no NaN and no infinity: publish msgpack, or an `Option` that is `None`",
            ));
        }
        self.check_key()
    }
}

macro_rules! integers {
    ($($method:ident: $type:ty)*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.check_key()?;
            self.inner.$method(value)
        }
    )*};
}

impl<S: Serializer> Serializer for Checked<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Elements<S::SerializeSeq>;
    type SerializeTuple = Elements<S::SerializeTuple>;
    type SerializeTupleStruct = Elements<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Elements<S::SerializeTupleVariant>;
    type SerializeMap = Entries<S::SerializeMap>;
    type SerializeStruct = Fields<S::SerializeStruct>;
    type SerializeStructVariant = Fields<S::SerializeStructVariant>;

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.asked.set(true);
        true
    }

    integers! {
        serialize_bool: bool
        serialize_i8: i8 serialize_i16: i16 serialize_i32: i32 serialize_i64: i64
        serialize_u8: u8 serialize_u16: u16 serialize_u32: u32 serialize_u64: u64
    }

    fn serialize_i128(self, value: i128) -> Result<S::Ok, S::Error> {
        self.check_wide()?;
        self.inner.serialize_i128(value)
    }

    fn serialize_u128(self, value: u128) -> Result<S::Ok, S::Error> {
        self.check_wide()?;
        self.inner.serialize_u128(value)
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.check_float(value.is_finite())?;
        self.inner.serialize_f32(value)
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.check_float(value.is_finite())?;
        self.inner.serialize_f64(value)
    }

    #[inline]
    fn serialize_char(self, value: char) -> Result<S::Ok, S::Error> {
        self.inner.serialize_char(value)
    }

    /// A `Uuid` stays 16 bytes in msgpack: so do Go and older instances write and read it, and it
    /// comes back from a buffer too. A text never asks for its form, so no text is taken for one.
    #[inline]
    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        // What looks like one and has another binary form is read as text.
        if self.asked.get()
            && !self.context.json
            && let Ok(id) = Uuid::try_parse(value)
            && self.value.is_binary(id.as_bytes())
        {
            return self.inner.serialize_bytes(id.as_bytes());
        }
        self.inner.serialize_str(value)
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        self.inner.serialize_bytes(value)
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let context = Context {
            some: true,
            ..self.context
        };
        self.inner
            .serialize_some(&ValueInContext::new(value, context))
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    /// Msgpack has `[]` for it, which an untagged enum does not read; every reader takes nil. Inside
    /// of `Some` nil would be `None`.
    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        if self.context.some {
            self.inner.serialize_unit_struct(name)
        } else {
            self.inner.serialize_unit()
        }
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = ValueInContext::new(value, self.context);
        self.inner.serialize_newtype_struct(name, &value)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = ValueInContext::new(value, self.context.inside::<S::Error>(1)?);
        let written = self
            .inner
            .serialize_newtype_variant(name, index, variant, &value);
        written.map_err(|error| super::compound::named(variant, &error))
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        let context = self.context.inside_of(len)?;
        Ok(Elements::new(self.inner.serialize_seq(len)?, context))
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        let context = self.context.inside_of(Some(len))?;
        Ok(Elements::new(self.inner.serialize_tuple(len)?, context))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        let context = self.context.inside_of(Some(len))?;
        let inner = self.inner.serialize_tuple_struct(name, len)?;
        Ok(Elements::new(inner, context))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let context = self.context.inside(1)?.inside_of(Some(len))?;
        let inner = self
            .inner
            .serialize_tuple_variant(name, index, variant, len)?;
        Ok(Elements::new(inner, context))
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let context = self.context.inside_of(len)?;
        let inner = self.inner.serialize_map(len)?;
        Ok(Entries::new(inner, context, len.is_none()))
    }

    #[inline]
    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        let context = self.context.inside_of(Some(len))?;
        let inner = self.inner.serialize_struct(name, len)?;
        Ok(Fields::new(inner, context, Some(name)))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let context = self.context.inside(1)?.inside_of(Some(len))?;
        let inner = self
            .inner
            .serialize_struct_variant(name, index, variant, len)?;
        Ok(Fields::new(inner, context, None))
    }
}
