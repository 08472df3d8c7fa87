//! What is sent for a row that differs.
//!
//! Input: a row of the source. Output: JSON. Values are texts as a database prints them, or null.

use serde_json::{Map, Value, json};

use crate::{
    form::{Row, here::readable},
    job::repair::CallbackBody,
    pair::{Sides, difference::DifferenceKind},
};

/// What is sent for a row. `row` has the columns that are compared, or is none where the source has no such row; `whole`
/// has all columns of the source, for cupid's forms.
pub(super) fn body(
    form: CallbackBody,
    job: &str,
    kind: DifferenceKind,
    sides: &Sides,
    key: &Row,
    (row, columns): (Option<&Row>, &[String]),
    whole: Option<Map<String, Value>>,
) -> Value {
    let of_key = object(sides, key, sides.keys);
    let of_row = row.map(|row| object(sides, row, sides.forms.len()));
    match form {
        CallbackBody::Full => json!({
            "job": job,
            "kind": kind,
            "key": of_key,
            "columns": columns,
            "row": of_row,
        }),
        CallbackBody::Cupid => {
            let number = match kind {
                DifferenceKind::Missing => 1,
                DifferenceKind::Different => 2,
                DifferenceKind::Extra => 3,
            };
            json!({ "type": number, "srcColumn": whole.or(of_row).unwrap_or(of_key) })
        }
        CallbackBody::CupidRow => Value::Object(whole.or(of_row).unwrap_or(of_key)),
    }
}

/// The first columns of a row.
fn object(sides: &Sides, row: &Row, count: usize) -> Map<String, Value> {
    let forms = sides.forms.get(..count).unwrap_or_default();
    let fields = row.fields(forms).unwrap_or_default();
    let named = sides.names.iter().zip(forms).zip(fields);
    named
        .map(|((name, form), field)| {
            let value = field.map(|field| readable(*form, field));
            (name.clone(), value.into())
        })
        .collect()
}
