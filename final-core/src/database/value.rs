//! What a statement is given: one value, or a column of them.
//!
//! Input: numbers, texts, bytes, ids, or lists of these. Output: [`Value`]s, which each driver binds in its own
//! way.

use std::borrow::Cow;

use uuid::Uuid;

/// A value of a statement, or a whole column of them.
///
/// Times and lengths of time go as whole numbers; the unit is the statement's. The variants in the plural
/// are arrays: PostgreSQL takes them as they are, SQLite takes [`Ints`](Self::Ints) and [`Ids`](Self::Ids)
/// as JSON for `json_each`, and MySQL takes none, because a list is written out there.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// A whole number of 64 bits.
    Int(Option<i64>),
    /// A truth value.
    Bool(Option<bool>),
    /// A text.
    Text(Option<Cow<'a, str>>),
    /// Bytes.
    Bytes(Option<Cow<'a, [u8]>>),
    /// An id: `uuid` on PostgreSQL, 16 bytes elsewhere.
    Id(Option<Uuid>),
    /// Numbers.
    Ints(Vec<Option<i64>>),
    /// Truth values.
    Bools(Vec<Option<bool>>),
    /// Texts.
    Texts(Vec<Option<Cow<'a, str>>>),
    /// Byte strings.
    ByteStrings(Vec<Option<Cow<'a, [u8]>>>),
    /// Ids.
    Ids(Vec<Option<Uuid>>),
}

impl Value<'_> {
    /// How many values there are, if this is a column of them.
    pub(crate) fn len(&self) -> Option<usize> {
        match self {
            Value::Int(_) | Value::Bool(_) | Value::Text(_) | Value::Bytes(_) | Value::Id(_) => {
                None
            }
            Value::Ints(all) => Some(all.len()),
            Value::Bools(all) => Some(all.len()),
            Value::Texts(all) => Some(all.len()),
            Value::ByteStrings(all) => Some(all.len()),
            Value::Ids(all) => Some(all.len()),
        }
    }
}

impl Value<'_> {
    /// At most how many bytes a single value takes in a packet to MySQL, with its type and its length.
    pub(crate) fn packet_bytes(&self) -> usize {
        const FRAME: usize = 11;
        FRAME
            + match self {
                Value::Text(Some(text)) => text.len(),
                Value::Bytes(Some(bytes)) => bytes.len(),
                _ => 16,
            }
    }
}

impl Value<'_> {
    /// Makes a text the bytes that it has in UTF-8, which a server does not read in the charset of a session.
    pub(crate) fn make_bytes(&mut self) {
        if let Value::Text(text) = self {
            let bytes = text.take().map(|text| match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            });
            *self = Value::Bytes(bytes);
        }
    }
}

impl<'a> Value<'a> {
    /// The value at a place of a column; the last one beyond its end.
    pub(crate) fn at(&self, place: usize) -> Value<'a> {
        fn get<T: Clone>(all: &[Option<T>], place: usize) -> Option<T> {
            all.get(place).or(all.last()).cloned().flatten()
        }
        match self {
            Value::Ints(all) => Value::Int(get(all, place)),
            Value::Bools(all) => Value::Bool(get(all, place)),
            Value::Texts(all) => Value::Text(get(all, place)),
            Value::ByteStrings(all) => Value::Bytes(get(all, place)),
            Value::Ids(all) => Value::Id(get(all, place)),
            single => single.clone(),
        }
    }

    /// Makes one column of values of one kind.
    pub(crate) fn column<'v>(values: impl Iterator<Item = &'v Value<'a>>) -> Value<'a>
    where
        'a: 'v,
    {
        let mut values = values.peekable();
        macro_rules! all {
            ($one:ident, $many:ident) => {
                Value::$many(
                    values
                        .map(|value| match value {
                            Value::$one(value) => value.clone(),
                            _ => None,
                        })
                        .collect(),
                )
            };
        }
        match values.peek() {
            Some(Value::Bool(_)) => all!(Bool, Bools),
            Some(Value::Text(_)) => all!(Text, Texts),
            Some(Value::Bytes(_)) => all!(Bytes, ByteStrings),
            Some(Value::Id(_)) => all!(Id, Ids),
            _ => all!(Int, Ints),
        }
    }
}

macro_rules! from {
    ($($type:ty => $value:ident => $variant:expr,)*) => {$(
        impl<'a> From<$type> for Value<'a> {
            fn from($value: $type) -> Self {
                $variant
            }
        }
    )*};
}

from! {
    i64 => value => Value::Int(Some(value)),
    Option<i64> => value => Value::Int(value),
    u32 => value => Value::Int(Some(value.into())),
    bool => value => Value::Bool(Some(value)),
    &'a str => value => Value::Text(Some(value.into())),
    Option<&'a str> => value => Value::Text(value.map(Cow::Borrowed)),
    String => value => Value::Text(Some(value.into())),
    Option<String> => value => Value::Text(value.map(Cow::Owned)),
    &'a [u8] => value => Value::Bytes(Some(value.into())),
    Vec<u8> => value => Value::Bytes(Some(value.into())),
    Uuid => value => Value::Id(Some(value)),
    Option<Uuid> => value => Value::Id(value),
    &[Uuid] => value => Value::Ids(value.iter().copied().map(Some).collect()),
    &[i64] => value => Value::Ints(value.iter().copied().map(Some).collect()),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_every_value_in_its_place() {
        let values = [Value::from("a"), Value::Text(None), Value::from("c")];

        let column = Value::column(values.iter());

        assert_eq!(column.len(), Some(3));
        let again: Vec<_> = (0..3).map(|place| column.at(place)).collect();
        assert_eq!(again, values);
    }

    #[test]
    fn beyond_its_end_a_column_repeats_its_last_value() {
        assert_eq!(Value::from(&[1_i64, 2][..]).at(7), Value::from(2_i64));
    }
}
