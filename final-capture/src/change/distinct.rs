//! An object of JSON whose names are columns, each at most once.
//!
//! RFC 8259 §4 leaves it to the reader which of two members with one name counts: a map takes the last, and a struct
//! refuses both. So one handler would see a row that another refuses. No table has a column twice, and no capture writes
//! such an object.

use std::{
    borrow::Cow,
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    marker::PhantomData,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};

/// What each column has.
pub(super) struct Distinct<'a, V>(pub(super) BTreeMap<Cow<'a, str>, V>);

impl<V> Distinct<'_, V> {
    /// The same, as another map.
    pub(super) fn into_map<M: FromIterator<(String, V)>>(self) -> M {
        let own = |(name, value): (Cow<'_, str>, V)| (name.into_owned(), value);
        self.0.into_iter().map(own).collect()
    }
}

impl<V> Default for Distinct<'_, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// A name that is borrowed where JSON has it without escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a, V: Deserialize<'de>> Deserialize<'de> for Distinct<'a, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Reader<V> {
            type Value = Distinct<'de, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with columns")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut columns = BTreeMap::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    match columns.entry(name) {
                        Entry::Vacant(place) => place.insert(value),
                        // The name is not told: it comes from outside, and errors are logged.
                        Entry::Occupied(_) => return Err(A::Error::custom(TWICE)),
                    };
                }
                Ok(Distinct(columns))
            }
        }
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

/// Why an object is refused that names a column twice.
pub(super) const TWICE: &str = "a column stands twice in one row";

/// Checks that a row, as JSON, names no column twice. What is no object is left to the handler's type.
pub(super) fn check(row: &str) -> Result<(), serde_json::Error> {
    if row.trim_start().starts_with('{') {
        serde_json::from_str::<Distinct<'_, IgnoredAny>>(row)?;
    }
    Ok(())
}
