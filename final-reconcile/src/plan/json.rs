//! A key as a change has it, in canonical form.
//!
//! Input: the columns of a key as JSON. Output: the key as the source's database would give it.

use final_capture::change::Base64;
use serde_json::{Map, Value};

use super::SidePlan;
use crate::{
    error::{ReconcileError, Reconciled},
    form::{
        Form, Row,
        here::{Cell, strict},
    },
    sql::key_column::KeyColumn,
    table::ColumnClass,
};

/// The key of a row of the source.
///
/// # Errors
///
/// Fails if a column is missing, or if its value is none that the column can have.
pub(crate) fn key(plan: &SidePlan, text: &str) -> Reconciled<Row> {
    let wrong = |problem: String| ReconcileError::Row {
        side: plan.table.shown.clone(),
        problem,
    };
    let fields: Map<String, Value> = serde_json::from_str(text)
        .map_err(|_| wrong("the key of a change is no object of JSON".into()))?;
    let mut row = Row::default();
    for key in &plan.keys {
        let column = &key.column.name;
        let value = fields.get(column).ok_or_else(|| {
            wrong(format!(
                "the key of a change has no `{column}`; name the columns of the key in the mapping"
            ))
        })?;
        let made = canonical(key, value).ok_or_else(|| {
            wrong(format!(
                "`{column}` of a change has a value that the key of the table cannot have"
            ))
        })?;
        row.push(key.form, Some(&made));
    }
    Ok(row)
}

fn canonical(key: &KeyColumn, value: &Value) -> Option<Vec<u8>> {
    let cell = match value {
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
        Value::Bool(value) => Cell::Integer((*value).into()),
        // A whole number is as exact as its digits.
        Value::Number(number) if key.form == Form::Integer => return whole(&number.to_string()),
        Value::String(text) if key.form == Form::Integer => return whole(text),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Cell::Integer(number),
            None => Cell::Text(number.to_string().into_bytes()),
        },
        Value::String(_) if matches!(key.column.class, ColumnClass::Bytes { .. }) => {
            let Base64(bytes) = serde_json::from_value(value.clone()).ok()?;
            Cell::Blob(bytes)
        }
        // A change has the spaces that PostgreSQL fills a CHAR up with. Where a text is asked for, no server gives them.
        Value::String(text) if key.column.class == (ColumnClass::Text { padded: true }) => {
            Cell::Text(text.trim_end_matches(' ').as_bytes().to_vec())
        }
        Value::String(text) => Cell::Text(text.clone().into_bytes()),
    };
    strict(&cell, key.form)
}

fn whole(text: &str) -> Option<Vec<u8>> {
    let number: i128 = text.parse().ok()?;
    Some(number.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::table::{KeyOrder, SideColumn};

    fn canonical_text(form: Form, class: ColumnClass, value: Value) -> Option<String> {
        let column = SideColumn {
            name: "id".into(),
            declared: String::new(),
            cast: String::new(),
            class,
            nullable: false,
            is_generated: false,
            is_invisible: false,
            is_utf8: false,
            order: KeyOrder::Bytes,
        };
        let key = KeyColumn {
            name: "id".into(),
            column,
            form,
            digits: None,
        };
        canonical(&key, &value).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn values_of_json_are_brought_to_the_form_of_the_key() {
        let number = ColumnClass::Integer {
            unsigned: true,
            zerofill: false,
        };
        let is = |form, class, value, expected: &str| {
            let made = canonical_text(form, class, value);
            assert_eq!(made.as_deref(), Some(expected));
        };
        is(
            Form::Integer,
            number,
            json!(u64::MAX),
            "18446744073709551615",
        );
        is(
            Form::Integer,
            number,
            json!("9007199254740993"),
            "9007199254740993",
        );
        is(Form::Integer, ColumnClass::Bool, json!(true), "1");
        let bytes = ColumnClass::Bytes { length: None };
        is(Form::Bytes, bytes, json!("3q2+7w=="), "deadbeef");
        let uuid = json!("00112233-4455-6677-8899-AABBCCDDEEFF");
        is(
            Form::Uuid,
            ColumnClass::Uuid,
            uuid,
            "00112233445566778899aabbccddeeff",
        );
        let text = ColumnClass::Text { padded: false };
        is(Form::Text { trim: false }, text, json!("a ;~"), "a ;~");
        let filled_up = ColumnClass::Text { padded: true };
        is(Form::Text { trim: false }, filled_up, json!(" a  "), " a");
        is(Form::Text { trim: false }, text, json!(" a  "), " a  ");
        let decimal = ColumnClass::Decimal { scale: Some(2) };
        is(Form::Decimal { scale: 2 }, decimal, json!("1.50"), "1.50");
    }

    #[test]
    fn a_value_that_a_key_cannot_have_is_refused() {
        let number = ColumnClass::Integer {
            unsigned: false,
            zerofill: false,
        };
        for value in [json!(null), json!([1]), json!("x"), json!(1.5)] {
            assert_eq!(canonical_text(Form::Integer, number, value), None);
        }
        let bytes = ColumnClass::Bytes { length: None };
        assert_eq!(
            canonical_text(Form::Bytes, bytes, json!("no base64!")),
            None
        );
    }
}
