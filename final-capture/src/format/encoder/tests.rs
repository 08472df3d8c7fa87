//! What the encoder makes of events, read as text and by `Change`.

mod filters;
mod orders;
mod properties;
mod rows;

use std::sync::Arc;

use super::*;
use crate::{
    select::Selection,
    table::{Column, ColumnKind, TableName},
};

pub(super) const INT: ColumnKind = ColumnKind::Integer {
    bytes: 8,
    unsigned: false,
};

pub(super) fn table_of(name: &str, columns: &[(&str, ColumnKind)], key: &[usize]) -> Arc<Table> {
    let column = |(name, kind): &(&str, ColumnKind)| Column {
        name: (*name).into(),
        kind: kind.clone(),
        declared: "x".into(),
    };
    Arc::new(Table {
        name: TableName {
            schema: "shop".into(),
            table: name.into(),
        },
        columns: columns.iter().map(column).collect(),
        key: key.to_vec(),
    })
}

/// `holes (id, content, body)` with the key `id`.
pub(super) fn holes() -> Arc<Table> {
    let columns = [
        ("id", INT),
        ("content", ColumnKind::Text),
        ("body", ColumnKind::Text),
    ];
    table_of("holes", &columns, &[0])
}

pub(super) fn hole(id: i64, content: &str) -> Row {
    vec![Value::Int(id), text_of(content), text_of("b")]
}

pub(super) fn text_of(text: &str) -> Value {
    Value::Text(text.into())
}

pub(super) fn change(
    table: &Arc<Table>,
    before: Option<Row>,
    after: Option<Row>,
    index: u64,
) -> RowChange {
    let op = match (&before, &after) {
        (_, None) => RowOp::Delete,
        (None, Some(_)) => RowOp::Insert,
        (Some(_), Some(_)) => RowOp::Update,
    };
    RowChange {
        table: Arc::clone(table),
        op,
        before,
        after,
        index,
    }
}

pub(super) fn options() -> EncoderOptions {
    EncoderOptions::new(Selection::tables(["shop.*", "!shop.tmp_*"]))
}

pub(super) fn with(set: impl FnOnce(&mut EncoderOptions)) -> EncoderOptions {
    let mut options = options();
    set(&mut options);
    options
}

pub(super) fn encoder(options: EncoderOptions) -> Encoder {
    Encoder::new(options, SourceIdentity("mariadb:1".into()))
}

pub(super) fn transaction() -> Transaction {
    Transaction {
        id: "0-1-345".into(),
        at: 1_709_208_000_123_456,
        after: SourcePoint::Gtid("0-1-344".into()),
    }
}

pub(super) fn point() -> SourcePoint {
    SourcePoint::Gtid("0-1-345".into())
}

/// The messages of one transaction with these changes.
#[track_caller]
pub(super) fn encoded(
    options: EncoderOptions,
    changes: impl IntoIterator<Item = RowChange>,
) -> Vec<Encoded> {
    options.check().unwrap();
    let mut encoder = encoder(options);
    let mut out = Vec::new();
    encoder.begin(transaction());
    for change in changes {
        encoder.row(change, &mut out).unwrap();
    }
    encoder.commit(&point(), &mut out);
    out
}

pub(super) fn json(encoded: &Encoded) -> &str {
    str::from_utf8(encoded.message.payload()).unwrap()
}

pub(super) fn parsed(encoded: &Encoded) -> serde_json::Value {
    serde_json::from_str(json(encoded)).unwrap()
}

pub(super) fn keys(encoded: &[Encoded]) -> Vec<&str> {
    encoded
        .iter()
        .map(|one| one.message.key().unwrap())
        .collect()
}

/// An update of `holes` whose old row was not sent.
pub(super) fn update_of(after: Row, index: u64) -> RowChange {
    RowChange {
        op: RowOp::Update,
        ..change(&holes(), None, Some(after), index)
    }
}
