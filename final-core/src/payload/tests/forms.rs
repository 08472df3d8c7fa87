//! The forms that serde's derive has.

use std::{collections::BTreeMap, fmt::Debug};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{from_json, from_msgpack, json, msgpack};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Holder<T> {
    pub(super) of: T,
    pub(super) after: u8,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Tagged<T> {
    Named {
        of: T,
    },
    Newtype(Holder<T>),
    Map(BTreeMap<String, T>),
    Flat {
        #[serde(flatten)]
        of: Holder<T>,
    },
}

/// A struct may have a tag, too.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(super) struct TaggedStruct<T> {
    pub(super) of: T,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "content")]
enum Adjacent<T> {
    Named { of: T },
    Newtype(T),
    Pair(T, T),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum External<T> {
    Named { of: T },
    Newtype(T),
    Pair(T, T),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Untagged<T> {
    Named { in_untagged: T },
    Newtype(T),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Flat<T> {
    pub(super) direct: T,
    #[serde(flatten)]
    pub(super) flattened: Holder<T>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FlatMap<T> {
    id: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, T>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FlatEnum<T> {
    id: u8,
    #[serde(flatten)]
    tagged: Tagged<T>,
}

/// Publishes a value in all of them, as msgpack and as JSON.
#[track_caller]
pub(super) fn in_every_form<T>(value: T)
where
    T: Serialize + DeserializeOwned + Clone + PartialEq + Debug,
{
    let of = || value.clone();
    let holder = || Holder { of: of(), after: 7 };
    let map = || BTreeMap::from([("a".to_owned(), of()), (String::new(), of())]);

    comes_back(&of());
    comes_back(&holder());
    comes_back(&vec![of(), of()]);
    comes_back(&map());
    comes_back(&Tagged::Named { of: of() });
    comes_back(&Tagged::Newtype(holder()));
    comes_back(&Tagged::Map(map()));
    comes_back(&Tagged::Flat { of: holder() });
    comes_back(&Tagged::Named {
        of: Adjacent::Newtype(of()),
    });
    comes_back(&TaggedStruct { of: of() });
    comes_back(&Adjacent::Named { of: of() });
    comes_back(&Adjacent::Newtype(of()));
    comes_back(&Adjacent::Pair(of(), of()));
    comes_back(&External::Named { of: of() });
    comes_back(&External::Newtype(of()));
    comes_back(&External::Pair(of(), of()));
    comes_back(&Untagged::Named { in_untagged: of() });
    comes_back(&Untagged::Newtype(of()));
    comes_back(&Untagged::Newtype(vec![of()]));
    comes_back(&Flat {
        direct: of(),
        flattened: holder(),
    });
    comes_back(&FlatMap { id: 1, rest: map() });
    comes_back(&FlatEnum {
        id: 1,
        tagged: Tagged::Named { of: of() },
    });
    // JSON has one word, `null`, for `None` and what it would hold.
    if json(&value).is_ok_and(|message| *message.payload() != b"null"[..]) {
        comes_back(&Some(of()));
        comes_back(&Tagged::Named { of: Some(of()) });
    }
}

#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let message = msgpack(value).unwrap_or_else(|error| panic!("msgpack, {value:?}: {error}"));
    let came = from_msgpack::<T>(&message);
    assert_eq!(
        came.as_ref(),
        Ok(value),
        "msgpack {:02x?}",
        message.payload()
    );
    let message = json(value).unwrap_or_else(|error| panic!("JSON, {value:?}: {error}"));
    let came = from_json::<T>(&message);
    assert_eq!(came.as_ref(), Ok(value), "JSON {:?}", message.payload());
}
