//! Messages of a capture, and of those who say that they are one.

use final_core::fuzzing::check_error;
use serde::Deserialize;
use serde_json::Value;

use crate::change::{Base64, Change, ChangeError, Changes, Exact, Flag};

/// The longest error: two texts of serde that were cut, and the words around them.
const LIMIT: usize = 2_048;

/// Columns of all the types that this crate offers.
#[derive(Deserialize)]
#[expect(dead_code, reason = "reading is all that is tried")]
struct Typed {
    id: Exact<i64>,
    flag: Option<Flag>,
    bytes: Option<Base64>,
}

fn told<T>(read: Result<T, ChangeError>) -> Option<T> {
    read.inspect_err(|error| check_error(&error.to_string(), LIMIT))
        .ok()
}

/// Whatever comes is an answer, whose error repeats nothing. One change is a list of one.
pub fn change(bytes: &[u8]) {
    let one = told(Change::<Value>::from_json(bytes));
    let all = told(Changes::<Value>::from_json(bytes));
    let typed = told(Change::<Typed>::from_json(bytes));
    let typed_later = one.clone().and_then(|one| told(one.read::<Typed>()));
    if let Some(one) = one {
        let list = all.map(|all| all.list).unwrap_or_default();
        let ops: Vec<_> = list
            .iter()
            .map(|(info, change)| (info.op, change.op()))
            .collect();
        assert_eq!(ops, [(one.op(), one.op())], "a change is not a list of one");
    }
    // A part of an old row that is no `Typed` is left out by the first way, and an error by the second.
    if typed_later.is_some() {
        assert!(typed.is_some(), "a row has its type later and not at once");
    }
}
