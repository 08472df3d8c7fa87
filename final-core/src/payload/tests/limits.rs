//! What no handler could read is refused where it is published.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Answer,
    forms::{Flat, Holder, Tagged, TaggedStruct},
    from_json, from_msgpack, json, msgpack,
};

#[track_caller]
fn refused(published: Answer<crate::Message>, words: &[&str]) {
    let error = published.expect_err("it would not come back");
    for word in words {
        assert!(error.contains(word), "{error}");
    }
}

#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    assert_eq!(
        from_msgpack::<T>(&msgpack(value).unwrap()).as_ref(),
        Ok(value)
    );
    assert_eq!(from_json::<T>(&json(value).unwrap()).as_ref(), Ok(value));
}

#[test]
fn wide_numbers_come_back_where_serde_reads_them_directly() {
    for number in [i128::MIN, -1, 0, i128::MAX] {
        comes_back(&number);
        comes_back(&vec![Some(number)]);
        comes_back(&TaggedStruct { of: number });
    }
    comes_back(&Holder {
        of: u128::MAX,
        after: 1,
    });
    comes_back(&HashMap::from([(u128::MAX, 1)]));
}

#[test]
fn wide_numbers_inside_of_a_tag_are_refused_with_the_name_of_the_field() {
    let words = ["of: ", "i128", "as text"];
    let named = Tagged::Named { of: 1_i128 };
    refused(msgpack(&named), &words);
    refused(json(&named), &words);
    let newtype = Tagged::Newtype(Holder {
        of: vec![1_u128],
        after: 1,
    });
    refused(msgpack(&newtype), &words);
    let map = Tagged::Map(BTreeMap::from([("of".to_owned(), 1_u128)]));
    refused(msgpack(&map), &words);
}

#[test]
fn wide_numbers_beside_a_flattened_field_come_back_and_inside_of_it_are_refused() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Beside {
        wide: u128,
        keyed: BTreeMap<u32, u8>,
        #[serde(flatten)]
        flattened: Holder<u8>,
    }

    comes_back(&Beside {
        wide: u128::MAX,
        keyed: BTreeMap::from([(1, 2)]),
        flattened: Holder { of: 1, after: 2 },
    });
    let inside = Flat {
        direct: 1_u128,
        flattened: Holder { of: 1, after: 1 },
    };
    refused(msgpack(&inside), &["of: ", "u128"]);
    refused(json(&inside), &["of: ", "u128"]);
}

#[test]
fn numbers_that_json_does_not_have_are_refused_and_msgpack_has_them() {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused(json(&number), &["NaN", "msgpack"]);
        refused(json(&Tagged::Named { of: Some(number) }), &["of: ", "NaN"]);
        refused(json(&(number as f32)), &["NaN"]);
        let came = from_msgpack::<f64>(&msgpack(&number).unwrap()).unwrap();
        assert_eq!(came.to_bits(), number.to_bits());
    }
}

#[test]
fn keys_that_are_no_text_come_back_except_from_a_buffer_of_json() {
    let keyed = BTreeMap::from([(1_u32, true), (u32::MAX, false)]);
    comes_back(&keyed);
    comes_back(&BTreeMap::from([(true, 1), (false, 2)]));
    let tagged = Tagged::Named { of: keyed.clone() };
    assert_eq!(from_msgpack(&msgpack(&tagged).unwrap()), Ok(tagged));
    refused(json(&Tagged::Named { of: keyed }), &["of: ", "keys"]);
    let tuples = BTreeMap::from([((1, 2), 3)]);
    assert_eq!(from_msgpack(&msgpack(&tuples).unwrap()), Ok(tuples.clone()));
    refused(json(&tuples), &["key must be a string"]);
}

#[test]
fn a_field_that_would_be_there_twice_is_refused() {
    #[derive(Serialize)]
    struct Outer {
        after: u8,
        #[serde(flatten)]
        holder: Holder<u8>,
    }

    #[derive(Serialize)]
    #[serde(tag = "of")]
    enum Clash {
        Holder(Holder<u8>),
        Map(BTreeMap<String, u8>),
    }

    let holder = Holder { of: 1, after: 1 };
    let outer = Outer {
        after: 1,
        holder: holder.clone(),
    };
    refused(msgpack(&outer), &["\"after\"", "twice"]);
    refused(json(&outer), &["\"after\"", "twice"]);
    refused(msgpack(&Clash::Holder(holder)), &["\"of\"", "twice"]);
    let map = BTreeMap::from([("of".to_owned(), 1)]);
    refused(json(&Clash::Map(map)), &["\"of\"", "twice"]);
}

#[test]
fn what_is_nested_deeper_than_a_handler_reads_is_refused() {
    fn nested(levels: usize) -> serde_json::Value {
        (0..levels).fold(serde_json::Value::Null, |inner, _| {
            serde_json::Value::Array(vec![inner])
        })
    }

    let deepest = nested(128);
    assert_eq!(from_msgpack(&msgpack(&deepest).unwrap()), Ok(deepest));
    refused(msgpack(&nested(129)), &["nested deeper"]);
    let deepest = nested(127);
    assert_eq!(from_json(&json(&deepest).unwrap()), Ok(deepest));
    refused(json(&nested(128)), &["nested deeper"]);
}
