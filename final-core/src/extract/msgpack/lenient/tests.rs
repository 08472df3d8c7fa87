//! What other languages write, byte for byte, and that nothing else is read otherwise than before.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;

use super::super::decode;

/// What a handler gets.
#[track_caller]
fn reads<T: DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8], expected: T) {
    assert_eq!(decode::<T>(bytes), Ok(expected));
}

/// Why a handler gets nothing.
#[track_caller]
fn refuses<T: DeserializeOwned + std::fmt::Debug>(bytes: &[u8], reason: &str) {
    let error = decode::<T>(bytes).unwrap_err();
    assert!(error.contains(reason), "{error}");
}

/// A struct of one field.
#[derive(Debug, PartialEq, Deserialize)]
struct Of<T> {
    a: T,
}

/// The same, as it is written.
fn of(value: &[u8]) -> Vec<u8> {
    [b"\x81\xa1a", value].concat()
}

const NIL: &[u8] = b"\xc0";
/// 2024-02-29T12:30:45Z, in the three forms; the last two with 500 ms.
const TIME_32: &[u8] = b"\xd6\xff\x65\xe0\x78\xf5";
const TIME_64: &[u8] = b"\xd7\xff\x77\x35\x94\x00\x65\xe0\x78\xf5";
const TIME_96: &[u8] = b"\xc7\x0c\xff\x1d\xcd\x65\x00\x00\x00\x00\x00\x65\xe0\x78\xf5";
const SECONDS: u64 = 0x65e0_78f5;

#[test]
fn nil_is_an_empty_list_map_or_bytes_unless_the_field_is_optional() {
    reads(
        &of(NIL),
        Of {
            a: Vec::<i64>::new(),
        },
    );
    reads(
        &of(NIL),
        Of {
            a: BTreeMap::<String, i64>::new(),
        },
    );
    reads(&of(NIL), Of { a: ByteBuf::new() });
    reads(
        &of(NIL),
        Of {
            a: None::<Vec<i64>>,
        },
    );
    reads(b"\x92\xc0\x91\x01", vec![vec![], vec![1_i64]]);
    reads(NIL, Vec::<String>::new());
    // There is no empty text, number or struct.
    refuses::<Of<String>>(&of(NIL), "unit");
    refuses::<Of<i64>>(&of(NIL), "unit");
    refuses::<Of<Of<Vec<i64>>>>(&of(NIL), "unit");
    refuses::<Of<(i64, i64)>>(&of(NIL), "unit");
}

#[test]
fn an_empty_list_and_an_empty_map_are_the_same() {
    reads(
        &of(b"\x90"),
        Of {
            a: BTreeMap::<String, i64>::new(),
        },
    );
    reads(
        &of(b"\x80"),
        Of {
            a: Vec::<i64>::new(),
        },
    );
    refuses::<Of<BTreeMap<String, i64>>>(&of(b"\x91\x01"), "");
    refuses::<Of<Vec<i64>>>(&of(b"\x81\x01\x01"), "");
}

#[test]
fn a_whole_float_is_a_number_and_a_number_is_a_float() {
    reads(
        &of(b"\xcb\x40\x28\x00\x00\x00\x00\x00\x00"),
        Of { a: 12_u8 },
    );
    reads(&of(b"\xca\xc1\x40\x00\x00"), Of { a: -12_i64 });
    reads(&of(b"\x0c"), Of { a: 12.0_f64 });
    let float = |float: f64| of(&[&[0xcb][..], &float.to_be_bytes()].concat());
    reads(&float(9_007_199_254_740_992.0), Of { a: 1_i64 << 53 });
    reads(&float(-0.0), Of { a: 0_u64 });
    for other in [0.5, 9_007_199_254_740_994.0, 1e300, f64::NAN, f64::INFINITY] {
        refuses::<Of<i64>>(&float(other), "float");
    }
    refuses::<Of<u8>>(&float(256.0), "");
    refuses::<Of<u8>>(&float(-1.0), "");
}

#[test]
fn bytes_and_text_are_read_as_each_other_where_one_is_wanted() {
    reads(
        &of(b"\xc4\x04acme"),
        Of {
            a: "acme".to_owned(),
        },
    );
    reads(
        &of(b"\xa4acme"),
        Of {
            a: ByteBuf::from(b"acme"),
        },
    );
    reads(&of(b"\xc4\x02\x01\x02"), Of { a: vec![1_u8, 2] });
    refuses::<Of<String>>(&of(b"\xc4\x01\xff"), "");
    let address = "127.0.0.1".parse::<std::net::IpAddr>().unwrap();
    reads(&of(b"\xc4\x09127.0.0.1"), Of { a: address });
}

#[test]
fn a_uuid_is_read_as_text_as_bytes_and_as_text_in_bytes() {
    let id = Id(*b"sixteen letters!");
    let text = uuid::Uuid::from_bytes(id.0).to_string();
    let as_text = [&[0xd9, 36][..], text.as_bytes()].concat();
    let as_bytes = [&[0xc4, 16][..], &id.0[..]].concat();
    let text_in_bytes = [&[0xc4, 36][..], text.as_bytes()].concat();
    for written in [as_text, as_bytes, text_in_bytes] {
        // The other field makes the whole message be read leniently.
        let both = [b"\x92", &*written, NIL].concat();
        reads(&both, (id.clone(), Vec::<u8>::new()));
        reads(&written, id.clone());
    }
}

#[test]
fn a_key_is_a_number_or_a_text_as_the_map_wants() {
    reads(
        b"\x82\xa217\x01\xa2-3\x02",
        BTreeMap::from([(17_i64, 1), (-3, 2)]),
    );
    reads(
        b"\x81\xb418446744073709551615\x01",
        BTreeMap::from([(u64::MAX, 1)]),
    );
    reads(b"\x81\x11\x01", BTreeMap::from([("17".to_owned(), 1)]));
    for other in [
        &b"\x81\xa207\x01"[..],
        b"\x81\xa2+7\x01",
        b"\x81\xa1x\x01",
        b"\x81\xa0\x01",
    ] {
        refuses::<BTreeMap<i64, i64>>(other, "");
    }
    // Only keys: a text that is a value stays one.
    refuses::<Vec<i64>>(b"\x91\xa217", "");
    refuses::<Vec<String>>(b"\x91\x11", "");
}

#[test]
fn a_timestamp_is_a_time_wherever_that_is_text() {
    let half = "2024-02-29T12:30:45.500000000Z";
    reads(
        &of(TIME_32),
        Of {
            a: "2024-02-29T12:30:45Z".to_owned(),
        },
    );
    reads(&of(TIME_64), Of { a: half.to_owned() });
    reads(
        &of(TIME_96),
        Of {
            a: serde_json::Value::from(half),
        },
    );
    let at = UNIX_EPOCH + Duration::from_secs(SECONDS);
    reads(&of(TIME_32), Of { a: at });
    reads(
        &of(TIME_96),
        Of {
            a: at + Duration::from_millis(500),
        },
    );
    reads(
        &of(TIME_96),
        Of {
            a: Some(at + Duration::from_millis(500)),
        },
    );
    // Before 1970.
    let before = b"\xc7\x0c\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff";
    reads(before, "1969-12-31T23:59:59Z".to_owned());
    refuses::<SystemTime>(before, "before 1970");
}

#[test]
fn a_timestamp_is_a_time_of_chrono_and_of_time() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Rfc3339(#[serde(with = "time::serde::rfc3339")] time::OffsetDateTime);

    #[derive(Debug, PartialEq, Deserialize)]
    struct Seconds(#[serde(with = "chrono::serde::ts_seconds")] chrono::DateTime<chrono::Utc>);

    #[derive(Debug, PartialEq, Deserialize)]
    struct Unix(#[serde(with = "time::serde::timestamp")] time::OffsetDateTime);

    let nanos = 500_000_000;
    let seconds = i64::try_from(SECONDS).unwrap();
    let at = chrono::DateTime::from_timestamp(seconds, nanos).unwrap();
    let millis = i128::from(seconds) * 1_000 + 500;
    let same = time::OffsetDateTime::from_unix_timestamp_nanos(millis * 1_000_000).unwrap();
    for written in [TIME_64, TIME_96] {
        reads(&of(written), Of { a: at });
        reads(
            &of(written),
            Of {
                a: at.fixed_offset(),
            },
        );
        reads(&of(written), Of { a: Rfc3339(same) });
        // A number of seconds and a number of milliseconds look the same.
        refuses::<Of<Seconds>>(&of(written), "seconds or milliseconds");
        refuses::<Of<Unix>>(&of(written), "seconds or milliseconds");
        refuses::<Of<i64>>(&of(written), "seconds or milliseconds");
        refuses::<Of<f64>>(&of(written), "seconds or milliseconds");
        // Its own form is neither RFC 3339 nor a list that others write.
        refuses::<Of<time::OffsetDateTime>>(&of(written), "");
    }
}

#[test]
fn an_extension_without_a_meaning_is_named() {
    refuses::<Of<String>>(&of(b"\xd4\x05\x00"), "extension of type 5");
    refuses::<Of<i64>>(&of(b"\xd4\x05\x00"), "extension of type 5");
    refuses::<Of<ByteBuf>>(&of(b"\xd4\x05\x00"), "extension of type 5");
    refuses::<Of<String>>(&of(b"\xd4\xff\x00"), "no timestamp");
    refuses::<Of<String>>(
        &of(b"\xd7\xff\xff\xff\xff\xff\x00\x00\x00\x00"),
        "no timestamp",
    );
    let far = b"\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff";
    refuses::<String>(far, "years");
    // A field that the handler does not take may be anything.
    reads(
        b"\x82\xa1b\xd4\x05\x00\xa1a\xc0",
        Of {
            a: Vec::<u8>::new(),
        },
    );
}

#[test]
fn what_is_behind_an_enum_is_read_as_well() {
    #[derive(Debug, PartialEq, Deserialize)]
    enum Shape {
        Unit,
        New(Vec<i64>),
        Pair(i64, Vec<i64>),
        Named { a: Vec<i64> },
    }

    let lenient = |shape: &[u8]| [b"\x92", shape, NIL].concat();
    reads(&lenient(b"\xa4Unit"), (Shape::Unit, Vec::<u8>::new()));
    reads(
        &lenient(b"\x81\xa4Unit\xc0"),
        (Shape::Unit, Vec::<u8>::new()),
    );
    reads(b"\x81\xa3New\xc0", Shape::New(vec![]));
    reads(b"\x81\xa4Pair\x92\x01\xc0", Shape::Pair(1, vec![]));
    reads(b"\x81\xa5Named\x81\xa1a\xc0", Shape::Named { a: vec![] });
    refuses::<Shape>(b"\xa3New", "newtype variant");
    refuses::<Shape>(b"\x82\xa3New\xc0\xa3Old\xc0", "");
}

#[test]
fn what_no_other_way_of_reading_explains_is_told_as_before() {
    refuses::<i64>(b"\xa3abc", "unexpected FixStr");
    refuses::<Of<i64>>(b"\x80", "missing field `a`");
    refuses::<Vec<i64>>(b"\x92\x01", "it ends too early");
}

/// As the `Uuid` of the crate of that name, whose own needs a feature that we do not ask for.
#[derive(Clone, Debug, PartialEq)]
struct Id([u8; 16]);

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&uuid::Uuid::from_bytes(self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl serde::de::Visitor<'_> for Either {
            type Value = Id;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a UUID")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Id, E> {
                let id = uuid::Uuid::parse_str(text).map_err(E::custom)?;
                Ok(Id(id.into_bytes()))
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Id, E> {
                bytes.try_into().map(Id).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Either)
    }
}

/// Of every kind that is read otherwise here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    bool: bool,
    small: i8,
    signed: i64,
    unsigned: u64,
    wide: (i128, u128),
    float: f32,
    double: f64,
    text: String,
    char: char,
    bytes: ByteBuf,
    id: Id,
    list: Vec<Option<i16>>,
    pair: (u8, String),
    texts: BTreeMap<String, i64>,
    numbers: BTreeMap<i32, String>,
    variants: Vec<Kind>,
    unit: (),
    marker: Marker,
    time: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Marker;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Unit,
    New(i64),
    Pair(String, f64),
    Named { a: u8 },
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Unit),
        any::<i64>().prop_map(Kind::New),
        (".{0,5}", -1e9..1e9).prop_map(|(text, float)| Kind::Pair(text, float)),
        any::<u8>().prop_map(|a| Kind::Named { a }),
    ]
}

fn everything() -> impl Strategy<Value = Everything> {
    let numbers = (
        any::<(bool, i8, i64, u64, i128, u128)>(),
        (-1e9_f32..1e9, -1e300..1e300_f64),
        any::<(char, [u8; 16], Vec<u8>, u8, u32)>(),
    );
    let others = (
        ".{0,40}",
        any::<Vec<Option<i16>>>(),
        proptest::collection::btree_map(".{0,5}", any::<i64>(), 0..4),
        proptest::collection::btree_map(any::<i32>(), ".{0,5}", 0..4),
        proptest::collection::vec(kind(), 0..4),
    );
    (numbers, others).prop_map(|(numbers, (text, list, texts, names, variants))| {
        let ((bool, small, signed, unsigned, wide, wider), (float, double), rest) = numbers;
        let (char, id, bytes, byte, seconds) = rest;
        Everything {
            bool,
            small,
            signed,
            unsigned,
            wide: (wide, wider),
            float,
            double,
            text: text.clone(),
            char,
            bytes: ByteBuf::from(bytes),
            id: Id(id),
            list,
            pair: (byte, text),
            texts,
            numbers: names,
            variants,
            unit: (),
            marker: Marker,
            time: UNIX_EPOCH + Duration::from_secs(seconds.into()),
        }
    })
}

proptest! {
    #[test]
    fn what_a_bus_publishes_is_read_here_as_the_same(value in everything()) {
        let named = rmp_serde::to_vec_named(&value).unwrap();
        prop_assert_eq!(&super::decode::<Everything>(&named).unwrap(), &value);
        let bus = crate::payload::IntoPayload::into_payload(&value).unwrap();
        prop_assert_eq!(&super::decode::<Everything>(&bus.bytes).unwrap(), &value);
    }

    #[test]
    fn whatever_comes_is_an_answer_and_no_panic(bytes: Vec<u8>) {
        let _ = super::decode::<Everything>(&bytes);
        let _ = super::decode::<serde_json::Value>(&bytes);
        let _ = super::decode::<BTreeMap<i8, Vec<SystemTime>>>(&bytes);
    }
}
