//! What lies inside of a list, a map or an enum.
//!
//! Input: how much of it is left. Output: its parts, each read leniently. Parts that nobody takes are an error,
//! as in rmp-serde.

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};

use super::{Head, Lenient, LenientError, MsgpackBytes};

/// The elements of a list, or the entries of a map.
pub(super) struct Content<'a, 'de> {
    rest: &'a mut MsgpackBytes<'de>,
    left: u64,
}

impl<'de> Content<'_, 'de> {
    pub(super) fn visit_list<V: Visitor<'de>>(
        rest: &mut MsgpackBytes<'de>,
        left: u64,
        visitor: V,
    ) -> Result<V::Value, LenientError> {
        let mut elements = Content { rest, left };
        let value = visitor.visit_seq(&mut elements)?;
        elements.end(value)
    }

    pub(super) fn visit_map<V: Visitor<'de>>(
        rest: &mut MsgpackBytes<'de>,
        left: u64,
        visitor: V,
    ) -> Result<V::Value, LenientError> {
        let mut entries = Content { rest, left };
        let value = visitor.visit_map(&mut entries)?;
        entries.end(value)
    }

    /// Counts one element or entry as taken. False at the end.
    fn take(&mut self) -> bool {
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    fn left(&self) -> Option<usize> {
        self.left.try_into().ok()
    }

    /// The value that was made of it, if nothing is left.
    fn end<T>(self, value: T) -> Result<T, LenientError> {
        match self.left {
            0 => Ok(value),
            _ => Err(LenientError::custom(
                "a list or map is longer than expected",
            )),
        }
    }
}

impl<'de> SeqAccess<'de> for Content<'_, 'de> {
    type Error = LenientError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, LenientError> {
        match self.take() {
            true => seed.deserialize(Lenient::value(self.rest)).map(Some),
            false => Ok(None),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        self.left()
    }
}

impl<'de> MapAccess<'de> for Content<'_, 'de> {
    type Error = LenientError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, LenientError> {
        match self.take() {
            true => seed.deserialize(Lenient::key(self.rest)).map(Some),
            false => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, LenientError> {
        seed.deserialize(Lenient::value(self.rest))
    }

    fn size_hint(&self) -> Option<usize> {
        self.left()
    }
}

/// A variant that is a map: its name, and then its content.
pub(super) struct Variant<'a, 'de>(pub(super) &'a mut MsgpackBytes<'de>);

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = LenientError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), LenientError> {
        let name = seed.deserialize(Lenient::value(self.0))?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = LenientError;

    fn unit_variant(self) -> Result<(), LenientError> {
        match self.0.head()? {
            Head::Nil => Ok(()),
            _ => Err(LenientError::custom(
                "invalid type: content, expected a unit variant",
            )),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, LenientError> {
        seed.deserialize(Lenient::value(self.0))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, LenientError> {
        Lenient::value(self.0).deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, LenientError> {
        Lenient::value(self.0).deserialize_tuple(fields.len(), visitor)
    }
}

/// A variant that is a name alone.
pub(super) struct UnitVariant<'a, 'de>(pub(super) &'a mut MsgpackBytes<'de>);

impl<'de> EnumAccess<'de> for UnitVariant<'_, 'de> {
    type Error = LenientError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), LenientError> {
        let name = seed.deserialize(Lenient::value(self.0))?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for UnitVariant<'_, 'de> {
    type Error = LenientError;

    fn unit_variant(self) -> Result<(), LenientError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, LenientError> {
        Err(has_content("newtype variant"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, LenientError> {
        Err(has_content("tuple variant"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, LenientError> {
        Err(has_content("struct variant"))
    }
}

fn has_content(expected: &str) -> LenientError {
    LenientError::invalid_type(Unexpected::UnitVariant, &expected)
}
