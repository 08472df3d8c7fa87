//! Templates of SQL: texts with words and placeholders that each dialect fills in.
//!
//! Input: a template, and what the names of tables stand for. State: the texts that were rendered. Output: the
//! text for one dialect.
//!
//! | in a template | becomes |
//! | --- | --- |
//! | `{name}` | a table, or a word of the dialect |
//! | `?` | the placeholder of the next value |
//! | `:name` | the placeholder of the value with this name |
//! | `:*name` | that of a list: an array on PostgreSQL, JSON on SQLite, as many placeholders as it has entries on MySQL |
//! | `:#name` | how many entries the list has (on MySQL) |
//! | `:+name` | a list of ids as rows of one column, `id` (on MySQL) |
//!
//! Quoted texts and names stay as they are.

use std::{
    collections::HashMap,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::Dialect;

/// How many rendered texts are kept. A template that has values of its own in it would otherwise fill the
/// memory.
const MOST_RENDERED: usize = 256;

/// A part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TemplatePart<'t> {
    Text(&'t str),
    Word(&'t str),
    Next,
    Named(&'t str),
    List(&'t str),
    ListLength(&'t str),
    IdRows(&'t str),
}

/// Takes a template apart.
pub(crate) fn parts(template: &str) -> Vec<TemplatePart<'_>> {
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    let bytes = template.as_bytes();
    while at < bytes.len() {
        let Some(rest) = template.get(at..) else {
            // In the middle of a letter.
            at += 1;
            continue;
        };
        let (part, length) = match bytes[at] {
            quote @ (b'\'' | b'"' | b'`') => {
                // A doubled quote ends one quotation and begins the next, which is all the same here.
                let end = bytes[at + 1..].iter().position(|byte| *byte == quote);
                at += end.map_or(rest.len(), |end| end + 2);
                continue;
            }
            b'?' => (TemplatePart::Next, 1),
            b'{' => match rest.find('}') {
                Some(end) => (TemplatePart::Word(&rest[1..end]), end + 1),
                None => (TemplatePart::Text(""), 1),
            },
            // A cast.
            b':' if rest.starts_with("::") => {
                at += 2;
                continue;
            }
            b':' => {
                let sign = usize::from(rest[1..].starts_with(['*', '#', '+']));
                let name = &rest[1 + sign..];
                let is_of_name = |letter: char| letter.is_ascii_lowercase() || letter == '_';
                let end = name
                    .find(|letter| !is_of_name(letter))
                    .unwrap_or(name.len());
                let name = &name[..end];
                let part = match &rest[1..=sign] {
                    "" => TemplatePart::Named(name),
                    "*" => TemplatePart::List(name),
                    "+" => TemplatePart::IdRows(name),
                    _ => TemplatePart::ListLength(name),
                };
                (part, 1 + sign + end)
            }
            _ => {
                at += 1;
                continue;
            }
        };
        if let TemplatePart::Named("")
        | TemplatePart::List("")
        | TemplatePart::ListLength("")
        | TemplatePart::IdRows("")
        | TemplatePart::Text(_) = part
        {
            at += length;
            continue;
        }
        if from < at {
            parts.push(TemplatePart::Text(&template[from..at]));
        }
        parts.push(part);
        at += length;
        from = at;
    }
    if from < template.len() {
        parts.push(TemplatePart::Text(&template[from..]));
    }
    parts
}

/// Templates with the names of some tables: fills them in, and keeps what it has made.
///
/// ```
/// use final_core::database::{Dialect, Templates};
///
/// let shop = Templates::new(Dialect::Postgres, [("orders", r#""app".orders"#.to_owned())]);
/// let text = shop.sql("SELECT id FROM {orders} WHERE placed_at < {now} - ? {lock}");
/// assert!(text.as_str().starts_with(r#"SELECT id FROM "app".orders WHERE placed_at < "#));
/// assert!(text.as_str().ends_with(" - $1 FOR UPDATE"));
/// ```
#[derive(Debug)]
pub struct Templates {
    dialect: Dialect,
    names: HashMap<&'static str, String>,
    rendered: Mutex<HashMap<Box<str>, SqlStr>>,
}

impl Templates {
    /// Templates of a dialect, and what names in braces stand for besides the dialect's [words](super::Words): `now`,
    /// `read_only`, `int`, `position`, `share`, `lock`, `skip_locked`, `limited`, `insert` and `nothing`.
    pub fn new(dialect: Dialect, names: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let words = dialect.words();
        let mut all = HashMap::from([
            ("now", words.now.to_owned()),
            ("read_only", words.read_only.to_owned()),
            ("int", words.int.to_owned()),
            ("position", words.position.to_owned()),
            ("share", words.share.to_owned()),
            ("lock", words.lock.to_owned()),
            ("skip_locked", words.skip_locked.to_owned()),
            ("limited", words.limited.to_owned()),
            ("insert", words.insert.to_owned()),
            ("nothing", words.nothing.to_owned()),
        ]);
        all.extend(names);
        Self {
            dialect,
            names: all,
            rendered: Mutex::default(),
        }
    }

    /// The text of a template. A name in braces that is unknown stays as it is, so that the database's error
    /// tells it.
    #[must_use]
    pub fn sql(&self, template: &str) -> SqlStr {
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sql) = rendered.get(template) {
            return sql.clone();
        }
        let sql = self.render(template);
        if rendered.len() < MOST_RENDERED {
            rendered.insert(template.into(), sql.clone());
        }
        sql
    }

    fn render(&self, template: &str) -> SqlStr {
        let mut text = String::with_capacity(template.len() * 2);
        let mut number = 0;
        for part in parts(template) {
            match part {
                TemplatePart::Text(same) => text.push_str(same),
                TemplatePart::Word(word) => match self.names.get(word) {
                    Some(name) => text.push_str(name),
                    None => {
                        let _ = write!(text, "{{{word}}}");
                    }
                },
                TemplatePart::Next
                | TemplatePart::Named(_)
                | TemplatePart::List(_)
                | TemplatePart::IdRows(_) => {
                    number += 1;
                    text.push_str(&self.dialect.placeholder(number));
                }
                TemplatePart::ListLength(_) => {}
            }
        }
        AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_template_is_taken_apart_at_words_and_placeholders() {
        let template =
            "SELECT a::bigint FROM {t} WHERE b = ? AND c = :c AND d IN (:*ids) LIMIT :#ids";

        let parts = parts(template);

        let special: Vec<_> = parts
            .iter()
            .filter(|part| !matches!(part, TemplatePart::Text(_)))
            .collect();
        use TemplatePart::*;
        assert_eq!(
            special,
            [
                &Word("t"),
                &Next,
                &Named("c"),
                &List("ids"),
                &ListLength("ids")
            ]
        );
        assert_eq!(parts[0], Text("SELECT a::bigint FROM "));
    }

    #[test]
    fn what_stands_in_quotes_stays_as_it_is() {
        for quoted in [
            "'00:00:ab ? {t}'",
            "\"my:schema\".t",
            "`it''s :x`",
            "'it''s :x'",
        ] {
            assert_eq!(parts(quoted), [TemplatePart::Text(quoted)]);
        }
    }

    #[test]
    fn numbered_placeholders_count_up() {
        let templates = |dialect| Templates::new(dialect, []);

        assert_eq!(
            templates(Dialect::Postgres).sql("? + ?").as_str(),
            "$1 + $2"
        );
        assert_eq!(templates(Dialect::MySql).sql("? + ?").as_str(), "? + ?");
        assert_eq!(templates(Dialect::Sqlite).sql("? + ?").as_str(), "?1 + ?2");
    }

    #[test]
    fn a_text_is_made_once_and_only_so_many_are_kept() {
        let templates = Templates::new(Dialect::MySql, []);

        for number in 0..2 * MOST_RENDERED {
            assert_eq!(
                templates.sql(&format!("SELECT {number}")).as_str(),
                format!("SELECT {number}")
            );
        }

        assert_eq!(templates.rendered.lock().unwrap().len(), MOST_RENDERED);
    }

    proptest! {
        #[test]
        fn whatever_a_template_is_its_parts_are_all_of_it(template in r#"[a:?*#+{}'"` é]{0,30}"#) {
            let parts = parts(&template);

            let length = |part: &TemplatePart<'_>| match part {
                TemplatePart::Text(text) => text.len(),
                TemplatePart::Word(word) => word.len() + 2,
                TemplatePart::Next => 1,
                TemplatePart::Named(name) => name.len() + 1,
                TemplatePart::List(name)
                | TemplatePart::ListLength(name)
                | TemplatePart::IdRows(name) => name.len() + 2,
            };
            let all: usize = parts.iter().map(length).sum();
            prop_assert!(all <= template.len());
        }
    }
}
