//! Whole rows of the source, as cupid sends them.
//!
//! Input: a key. Output: all columns of the table by their names, those as well that are not compared. Values are the texts
//! that a client of the server gets, or null.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    error::Reconciled,
    form::{Form, Row},
    plan::SidePlan,
    side::{Reader, Side},
};

/// Reads rows of one table.
pub(crate) struct Printed {
    reader: Arc<dyn Reader>,
    forms: Vec<Form>,
    /// The names of all columns, behind as many of the key as have forms of their own.
    names: Vec<String>,
}

impl Printed {
    pub(crate) fn new(source: &Side, plan: &SidePlan) -> Self {
        let plan = plan.printed();
        let names = plan.columns.iter();
        Self {
            forms: plan.forms.clone(),
            names: names.map(|column| column.name.clone()).collect(),
            reader: source.reader(plan),
        }
    }

    /// The row with this key, if there is one.
    pub(crate) async fn row(&self, key: &Row) -> Reconciled<Option<Map<String, Value>>> {
        let found = self.reader.rows(std::slice::from_ref(key)).await?;
        let row = found.into_iter().next().and_then(|found| found.row);
        Ok(row.and_then(|row| self.named(&row)))
    }

    fn named(&self, row: &Row) -> Option<Map<String, Value>> {
        let fields = row.fields(&self.forms)?;
        let named = self.names.iter().zip(&self.forms).zip(fields);
        let printed = named.filter(|((_, form), _)| **form == Form::Printed);
        Some(
            printed
                .map(|((name, _), field)| (name.clone(), field.map(text).into()))
                .collect(),
        )
    }
}

/// Bytes as a text. A byte that is no UTF-8 is lost, each for itself, as in Go.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_that_is_no_text_is_lost_for_itself() {
        assert_eq!(text("Zoë".as_bytes()), "Zoë");
        assert_eq!(text(b"a\xe2\x82b\xff"), "a\u{fffd}\u{fffd}b\u{fffd}");
    }
}
