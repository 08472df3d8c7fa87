//! The words of the log in SQLite. Input: none, they are constants. Output: [`LogWords`].

use super::{LogWords, Types};

pub(super) const WORDS: LogWords = LogWords {
    gapless: true,
    session: &[],
    types: TYPES,
    durable: None,
    notify: None,
    no_wait: None,
    only: None,
    strict: None,
    impatient: None,
    last_number,
    raise_number: None,
};

/// With AUTOINCREMENT a sequence number is not allocated again once its row is removed.
const TYPES: Types = Types {
    serial: "INTEGER PRIMARY KEY AUTOINCREMENT",
    small: "INTEGER",
    moving: "",
    still: "",
    busy: "",
    inline_index: false,
    schema: "main.",
};

fn last_number(table: &str) -> String {
    let name = table.rsplit('.').next().unwrap_or(table);
    format!("COALESCE((SELECT seq FROM main.sqlite_sequence WHERE name = '{name}'), 0)")
}
