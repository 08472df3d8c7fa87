//! dbsync's JSON, read into what ours would say.
//!
//! Input: `{"Table", "Column", "Action", "BeforeData", "AfterData"}`. Output: the same rows as objects, with values as
//! this crate writes them: texts of ENUM and SET, ISO times, TEXT as text. So one handler takes both.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    ChangeError, ChangeInfo, ChangeOp, ChangedColumns,
    distinct::TWICE,
    rows::{WireRows, WithInfo},
    wire::Encoding,
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DbsyncMessage {
    table: String,
    #[serde(default)]
    column: Option<Vec<DbsyncColumn>>,
    action: ChangeOp,
    #[serde(default)]
    before_data: Option<Vec<Value>>,
    #[serde(default)]
    after_data: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DbsyncColumn {
    name: String,
    #[serde(rename = "Type")]
    kind: u8,
    #[serde(default)]
    raw_type: String,
    #[serde(default)]
    enum_values: Option<Vec<String>>,
    #[serde(default)]
    set_values: Option<Vec<String>>,
}

/// Reads a message.
pub(super) fn read(payload: &[u8], encoding: Encoding) -> Result<WithInfo<'_>, ChangeError> {
    let message: DbsyncMessage =
        serde_json::from_slice(payload).map_err(|error| ChangeError::payload(&error))?;
    let columns = message.column.unwrap_or_default();
    let row = |values: Option<Vec<Value>>| {
        values
            .map(|values| object(&columns, values, encoding))
            .transpose()
    };
    let (before, after) = (row(message.before_data)?, row(message.after_data)?);
    let changed = match (&before, &after) {
        (Some(before), Some(after)) => {
            let differs = |(name, value): (&String, &Value)| {
                (before.get(name) != Some(value)).then(|| name.clone())
            };
            Some(after.iter().filter_map(differs).collect())
        }
        _ => None,
    };
    let text =
        |row: Option<Map<String, Value>>| row.map(|row| Cow::Owned(Value::Object(row).to_string()));
    let rows = WireRows {
        op: message.action,
        before: text(before),
        after: text(after),
        changed: ChangedColumns::new(changed, Vec::new()),
        partial: false,
    };
    let info = ChangeInfo {
        op: message.action,
        schema: None,
        table: message.table,
        key: None,
        at: None,
        position: None,
        transaction: None,
        unchanged: Vec::new(),
        invalid: std::collections::BTreeMap::new(),
        moved: None,
    };
    Ok((info, rows))
}

fn object(
    columns: &[DbsyncColumn],
    values: Vec<Value>,
    encoding: Encoding,
) -> Result<Map<String, Value>, ChangeError> {
    // dbsync took the columns of today and the values of the time of the change.
    if columns.len() != values.len() {
        return Err(ChangeError::new(format!(
            "it has {} columns and {} values, so the table was altered meanwhile",
            columns.len(),
            values.len()
        )));
    }
    let mut row = Map::with_capacity(values.len());
    for (column, value) in columns.iter().zip(values) {
        let value = column.ours(value, encoding);
        if row.insert(column.name.clone(), value).is_some() {
            return Err(ChangeError::new(TWICE));
        }
    }
    Ok(row)
}

impl DbsyncColumn {
    /// The value as this crate writes it. A value that is not what the column says stays as it is.
    fn ours(&self, value: Value, encoding: Encoding) -> Value {
        match (self.kind, value) {
            (3, Value::Number(index)) => {
                let text = |texts: &Vec<String>| {
                    let place = usize::try_from(index.as_u64()?.checked_sub(1)?).ok()?;
                    texts.get(place).cloned()
                };
                // Number 0 is a value that the server has refused.
                Value::String(self.enum_values.as_ref().and_then(text).unwrap_or_default())
            }
            (4, Value::Number(bits)) => {
                let bits = bits.as_u64().unwrap_or_default();
                let texts = self.set_values.iter().flatten().enumerate();
                let is_set = |at: &usize| {
                    u32::try_from(*at).is_ok_and(|at| bits.checked_shr(at).unwrap_or(0) & 1 == 1)
                };
                let texts: Vec<&str> = texts
                    .filter(|(at, _)| is_set(at))
                    .map(|(_, text)| text.as_str())
                    .collect();
                Value::String(texts.join(","))
            }
            (6..=8, Value::String(text)) if text.starts_with("0000-00-00") => Value::Null,
            (6, Value::String(text)) => Value::String(text.replacen(' ', "T", 1)),
            (7, Value::String(text)) => Value::String(text.replacen(' ', "T", 1) + "Z"),
            (5, Value::String(text)) if self.raw_type.contains("text") && !encoding.readable => {
                Value::String(decoded(&text).unwrap_or(text))
            }
            (11, Value::String(text)) => {
                let text = if encoding.readable {
                    text
                } else {
                    decoded(&text).unwrap_or(text)
                };
                serde_json::from_str(&text).unwrap_or(Value::String(text))
            }
            (14, Value::String(text)) if !encoding.readable => Value::String(STANDARD.encode(text)),
            (_, value) => value,
        }
    }
}

fn decoded(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}
