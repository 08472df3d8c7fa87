//! What has values inside: sequences, structs and maps.

use std::{any::type_name, collections::HashSet, fmt, panic::Location};

use serde::{
    Serialize,
    ser::{
        Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

use super::{context::Context, value::ValueInContext};

/// The values of a sequence or tuple.
pub(super) struct Elements<C> {
    inner: C,
    context: Context,
}

impl<C> Elements<C> {
    pub(super) fn new(inner: C, context: Context) -> Self {
        Self { inner, context }
    }
}

macro_rules! elements {
    ($($trait:ident::$method:ident)*) => {$(
        impl<C: $trait> $trait for Elements<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                self.inner.$method(&ValueInContext::new(value, self.context))
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

elements! {
    SerializeSeq::serialize_element
    SerializeTuple::serialize_element
    SerializeTupleStruct::serialize_field
    SerializeTupleVariant::serialize_field
}

/// The fields of a struct.
pub(super) struct Fields<C> {
    inner: C,
    context: Context,
    /// The name of the type, until the first field has been seen.
    first: Option<&'static str>,
    /// The name of the field that is the tag.
    tag: Option<&'static str>,
}

impl<C> Fields<C> {
    pub(super) fn new(inner: C, context: Context, first: Option<&'static str>) -> Self {
        Self {
            inner,
            context,
            first,
            tag: None,
        }
    }

    #[inline]
    fn look<T, E>(&mut self, key: &'static str, value: &T) -> Result<(), E>
    where
        T: Serialize + ?Sized,
        E: Error,
    {
        if let Some(name) = self.first.take() {
            if is_tag::<T>() {
                self.tag = Some(key);
                // A struct that writes its own name as a tag is read without a buffer.
                self.context.buffered |= !reads_as(value, name);
            }
        } else if self.tag == Some(key) {
            return Err(twice(key));
        }
        Ok(())
    }
}

macro_rules! fields {
    ($($trait:ident)*) => {$(
        impl<C: $trait> $trait for Fields<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), C::Error> {
                self.look::<T, C::Error>(key, value)?;
                let written = self.inner.serialize_field(key, &ValueInContext::new(value, self.context));
                written.map_err(|error| named(key, &error))
            }

            fn skip_field(&mut self, key: &'static str) -> Result<(), C::Error> {
                self.inner.skip_field(key)
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

fields! { SerializeStruct SerializeStructVariant }

/// The entries of a map, or of a struct with `flatten`.
pub(super) struct Entries<C> {
    inner: C,
    context: Context,
    is_first: bool,
    /// Its keys so far, where several values may give keys to it.
    keys: Option<HashSet<String>>,
}

impl<C> Entries<C> {
    /// `merged` if its length is not known: so does `flatten` begin a map.
    pub(super) fn new(inner: C, context: Context, merged: bool) -> Self {
        Self {
            inner,
            context,
            is_first: true,
            keys: merged.then(HashSet::new),
        }
    }

    fn look<K: Serialize + ?Sized, E: Error>(&mut self, key: &K) -> Result<(), E> {
        self.is_first = false;
        if let (Some(keys), Some(key)) = (&mut self.keys, text(key)) {
            if keys.contains(&key) {
                return Err(twice(&key));
            }
            keys.insert(key);
        }
        Ok(())
    }

    /// The context of a value that is written by code at `caller`.
    fn context(&self, caller: &Location<'_>) -> Context {
        // What is flattened comes by way of serde, and goes into its buffer; a field of the struct
        // itself comes from the derived code, and is read directly.
        let flattened = self.keys.is_some() && {
            let file = caller.file();
            file.contains("serde") && file.ends_with(SERDE_FILE)
        };
        Context {
            buffered: self.context.buffered || flattened,
            ..self.context
        }
    }
}

impl<C: SerializeMap> SerializeMap for Entries<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[track_caller]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.look(key)?;
        let context = self.context(Location::caller()).key();
        self.inner.serialize_key(&ValueInContext::new(key, context))
    }

    #[track_caller]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let context = self.context(Location::caller());
        self.inner
            .serialize_value(&ValueInContext::new(value, context))
    }

    #[track_caller]
    fn serialize_entry<K, V>(&mut self, key: &K, value: &V) -> Result<(), C::Error>
    where
        K: Serialize + ?Sized,
        V: Serialize + ?Sized,
    {
        if self.is_first && is_tag::<K>() && is_tag::<V>() {
            // The content of a tag, which may bring a key of the same name.
            self.context.buffered = true;
            self.keys.get_or_insert_default();
        }
        self.look(key)?;
        let context = self.context(Location::caller());
        let written = self.inner.serialize_entry(
            &ValueInContext::new(key, context.key()),
            &ValueInContext::new(value, context),
        );
        written.map_err(|error| match text(key) {
            Some(key) => named(&key, &error),
            None => error,
        })
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

/// Where the code of serde lies that flattens, as the end of a path.
const SERDE_FILE: &str = if cfg!(windows) {
    r"private\ser.rs"
} else {
    "private/ser.rs"
};

/// The derived code alone writes a `str`, as it is, for the name of a variant: a field that is a text
/// is a `String`, a `&str` or another type that holds one.
#[inline]
fn is_tag<T: ?Sized>() -> bool {
    type_name::<T>() == "str"
}

/// Anything simple, as text.
struct Shown<'a, T: ?Sized>(&'a T);

impl<T: Serialize + ?Sized> fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.serialize(f)
    }
}

/// A key as text, unless it is a tuple or the like, which no field has for its name.
fn text<T: Serialize + ?Sized>(key: &T) -> Option<String> {
    let mut text = String::new();
    fmt::write(&mut text, format_args!("{}", Shown(key))).ok()?;
    Some(text)
}

/// Whether a value is this text, found out without a copy of it.
fn reads_as<T: Serialize + ?Sized>(value: &T, text: &str) -> bool {
    struct Rest<'a>(&'a str);

    impl fmt::Write for Rest<'_> {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(part).ok_or(fmt::Error)?;
            Ok(())
        }
    }

    let mut rest = Rest(text);
    fmt::write(&mut rest, format_args!("{}", Shown(value))).is_ok() && rest.0.is_empty()
}

/// Tells in which field it was.
#[cold]
pub(super) fn named<E: Error>(key: &str, error: &E) -> E {
    let key: String = key.chars().take(64).collect();
    E::custom(format_args!("{key}: {error}"))
}

#[cold]
fn twice<E: Error>(key: &str) -> E {
    let key: String = key.chars().take(64).collect();
    E::custom(format_args!(
        "`tag` or `flatten` brings the field {key:?} twice, which no reader takes: rename one"
    ))
}
