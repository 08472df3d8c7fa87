//! Tests of the decoder: each kind of message, and bytes of any kind.

use proptest::prelude::*;

use super::*;

/// Writes messages as the server does.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn with(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.with(text.as_bytes()).with(b"\0")
    }

    fn cell(self, cell: Option<&[u8]>) -> Self {
        match cell {
            None => self.with(b"n"),
            Some(bytes) => {
                let length = u32::try_from(bytes.len()).unwrap();
                self.with(b"t").with(&length.to_be_bytes()).with(bytes)
            }
        }
    }
}

fn message() -> Bytes {
    Bytes::default()
}

fn cells<'a>(tuple: &Tuple<'a>) -> Vec<Cell<'a>> {
    tuple.cells().collect()
}

#[test]
fn a_transaction_begins_and_ends() {
    let bytes = message()
        .with(b"B")
        .with(&7_u64.to_be_bytes())
        .with(&(-5_i64).to_be_bytes())
        .with(&9_u32.to_be_bytes());
    let begin = Message::Begin {
        commit: 7,
        at: -5,
        xid: 9,
    };
    assert_eq!(Message::decode(&bytes.0), Ok(begin));
    let bytes = message()
        .with(b"C\0")
        .with(&7_u64.to_be_bytes())
        .with(&8_u64.to_be_bytes())
        .with(&[0; 8]);
    assert_eq!(
        Message::decode(&bytes.0),
        Ok(Message::Commit { commit: 7, end: 8 })
    );
}

#[test]
fn a_relation_has_its_columns() {
    let bytes = message()
        .with(b"R")
        .with(&16_400_u32.to_be_bytes())
        .text("")
        .text("holes")
        .with(b"d\0\x02\x01")
        .text("id")
        .with(&23_u32.to_be_bytes())
        .with(&(-1_i32).to_be_bytes())
        .with(b"\0")
        .text("größe")
        .with(&1700_u32.to_be_bytes())
        .with(&6_i32.to_be_bytes());
    let column = |is_key, name, kind, modifier| RelationColumn {
        is_key,
        name,
        kind,
        modifier,
    };
    let relation = Relation {
        oid: 16_400,
        schema: "pg_catalog",
        name: "holes",
        is_full: false,
        columns: vec![column(true, "id", 23, -1), column(false, "größe", 1700, 6)],
    };
    assert_eq!(Message::decode(&bytes.0), Ok(Message::Relation(relation)));
}

#[test]
fn rows_have_values_nulls_and_what_was_not_sent() {
    let bytes = message()
        .with(b"U\0\0\0\x05K\0\x02")
        .cell(Some(b"1"))
        .cell(None)
        .with(b"N\0\x03")
        .cell(Some(b"2"))
        .with(b"u")
        .cell(Some(b""));
    let Ok(Message::Update {
        relation: 5,
        old: Some(old),
        new,
    }) = Message::decode(&bytes.0)
    else {
        panic!("{:?}", Message::decode(&bytes.0));
    };
    assert!(old.is_key_only);
    assert_eq!(cells(&old.row), [Cell::Text(b"1"), Cell::Null]);
    assert_eq!(
        cells(&new),
        [Cell::Text(b"2"), Cell::Unchanged, Cell::Text(b"")]
    );
}

#[test]
fn a_truncate_a_message_and_an_origin_are_understood() {
    let bytes = message().with(b"T\0\0\0\x02\x03\0\0\0\x05\0\0\0\x06");
    let Ok(Message::Truncate { relations }) = Message::decode(&bytes.0) else {
        panic!();
    };
    assert_eq!(relations.iter().collect::<Vec<_>>(), [5, 6]);
    let bytes = message()
        .with(b"M\x01")
        .with(&[0; 8])
        .text("final")
        .with(b"\0\0\0\x02hi");
    assert_eq!(Message::decode(&bytes.0), Ok(Message::Emitted));
    let bytes = message().with(b"O").with(&[0; 8]).text("elsewhere");
    assert_eq!(Message::decode(&bytes.0), Ok(Message::Origin));
}

#[test]
fn what_is_not_known_is_an_error_and_not_left_out() {
    for bytes in [
        b"".as_slice(),
        // Parts of open transactions, which nobody asked for.
        b"S\0\0\0\x01\x01",
        b"C\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"I\0\0\0\x01O\0\0",
        b"D\0\0\0\x01N\0\0",
        b"U\0\0\0\x01X\0\0",
        // Binary values, a length beyond the end, a row that is too long, a name without an end.
        b"I\0\0\0\x01N\0\x01b\0\0\0\x011",
        b"I\0\0\0\x01N\0\x01t\xff\xff\xff\xff1",
        b"I\0\0\0\x01N\0\x01n!",
        b"O\0\0\0\0\0\0\0\0elsewhere",
        b"T\xff\xff\xff\xff\0",
        b"M\0\0\0\0\0\0\0\0\0a\0\xff\xff\xff\xff",
        b"R\0\0\0\x01a\0b\0d\xff\xff",
        b"R\0\0\0\x01\xff\0b\0d\0\0",
    ] {
        let error = Message::decode(bytes).unwrap_err();
        assert!(!error.0.is_empty(), "{}", bytes.escape_ascii());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn bytes_that_begin_like_a_message_are_one_or_an_error(
        kind in prop::sample::select(b"BCORYIUDTM".to_vec()),
        bytes in prop::collection::vec(prop::sample::select(b"\0\0\0\x01\x02tnuNKO\xff".to_vec()), 0..60),
    ) {
        let message = [&[kind], bytes.as_slice()].concat();
        if let Ok(Message::Insert { new, .. } | Message::Update { new, .. }) = Message::decode(&message) {
            prop_assert_eq!(new.cells().count(), new.len());
        }
    }

    #[test]
    fn a_row_is_read_as_it_was_written(
        row in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..30)), 0..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let count = u16::try_from(row.len()).unwrap();
        let mut bytes = message().with(b"I\0\0\0\x07N").with(&count.to_be_bytes());
        for cell in &row {
            bytes = bytes.cell(cell.as_deref());
        }
        let Ok(Message::Insert { relation: 7, new }) = Message::decode(&bytes.0) else {
            panic!();
        };
        let written: Vec<_> = row.iter().map(|it| it.as_deref().map_or(Cell::Null, Cell::Text)).collect();
        prop_assert_eq!(cells(&new), written);
        // A message that is cut off anywhere is an error.
        let cut = cut.index(bytes.0.len());
        prop_assert!(Message::decode(&bytes.0[..cut]).is_err());
    }
}
