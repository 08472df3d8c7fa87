//! Patterns of tables.
//!
//! Input: `shop.*`, `shop_*.order_?`, `!shop.tmp_*`. Output: whether a table fits.

use super::SelectError;
use crate::table::TableName;

/// Schemas of the servers themselves. A pattern takes their tables only if it names the schema without a wildcard.
const OF_SERVERS: [&str; 7] = [
    "mysql",
    "sys",
    "information_schema",
    "performance_schema",
    "pg_catalog",
    "pg_toast",
    "pg_temp",
];

/// With which the names of this program's own tables begin. A capture whose log is in the captured schema would
/// otherwise capture its own messages without end.
const OURS: &str = "final_";

/// A pattern of tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: String,
    excludes: bool,
    schema: Glob,
    table: Glob,
}

impl Pattern {
    /// Reads a pattern: a schema and a table, each with `*` and `?`. A backslash takes the character after it
    /// literally. A `!` in front excludes.
    pub(crate) fn new(text: &str) -> Result<Self, SelectError> {
        let wrong = |why| SelectError::Pattern {
            pattern: text.to_owned(),
            why,
        };
        let (excludes, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (schema, table) = split(rest)
            .ok_or_else(|| wrong("it has no point between schema and table; write `shop.holes`"))?;
        if schema.is_empty() || table.is_empty() {
            return Err(wrong("its schema or its table is empty"));
        }
        Ok(Self {
            text: text.to_owned(),
            excludes,
            schema: Glob::new(schema).ok_or_else(|| wrong("it ends with a backslash"))?,
            table: Glob::new(table).ok_or_else(|| wrong("it ends with a backslash"))?,
        })
    }

    /// The pattern as it was given.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it takes tables out.
    pub(crate) fn excludes(&self) -> bool {
        self.excludes
    }

    /// Whether it names one table.
    pub(crate) fn is_literal(&self) -> bool {
        self.schema.is_literal() && self.table.is_literal()
    }

    /// Whether the table fits, without regard to `!`.
    pub(crate) fn fits(&self, name: &TableName) -> bool {
        self.schema.fits(&name.schema)
            && self.table.fits(&name.table)
            && (self.schema.is_literal() || !of_server(&name.schema))
            && (!name.table.starts_with(OURS) || self.table.begins_with(OURS))
    }
}

fn of_server(schema: &str) -> bool {
    OF_SERVERS.iter().any(|of| {
        schema.eq_ignore_ascii_case(of)
            || schema.starts_with(&format!("{of}_")) && of.starts_with("pg_")
    })
}

/// At the first point that no backslash precedes.
fn split(text: &str) -> Option<(&str, &str)> {
    let mut literal = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if literal => literal = false,
            '\\' => literal = true,
            '.' => return Some((text.get(..at)?, text.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(char),
    One,
    Any,
}

/// A text with `*` and `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Glob(Vec<Part>);

impl Glob {
    fn new(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '\\' => Part::Literal(chars.next()?),
                '*' => Part::Any,
                '?' => Part::One,
                c => Part::Literal(c),
            });
        }
        Some(Self(parts))
    }

    fn is_literal(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    fn begins_with(&self, start: &str) -> bool {
        let mut parts = self.0.iter();
        start
            .chars()
            .all(|c| parts.next() == Some(&Part::Literal(c)))
    }

    /// In at most as many steps as both lengths multiplied: of several `*`, only the last one is tried again.
    fn fits(&self, text: &str) -> bool {
        let chars: Vec<char> = text.chars().collect();
        let (mut part, mut at) = (0, 0);
        let mut again: Option<(usize, usize)> = None;
        while let Some(c) = chars.get(at) {
            match self.0.get(part) {
                Some(Part::Any) => {
                    again = Some((part, at));
                    part += 1;
                    continue;
                }
                Some(Part::One) => {
                    (part, at) = (part + 1, at + 1);
                    continue;
                }
                Some(Part::Literal(literal)) if literal == c => {
                    (part, at) = (part + 1, at + 1);
                    continue;
                }
                _ => {}
            }
            let Some((any, from)) = again else {
                return false;
            };
            again = Some((any, from + 1));
            (part, at) = (any + 1, from + 1);
        }
        self.0.iter().skip(part).all(|rest| *rest == Part::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn fits(pattern: &str, name: &str) -> bool {
        let (schema, table) = name.split_once('/').unwrap();
        Pattern::new(pattern).unwrap().fits(&TableName {
            schema: schema.into(),
            table: table.into(),
        })
    }

    #[test]
    fn a_star_is_any_text_and_a_question_mark_one_character() {
        assert!(fits("shop.*", "shop/holes"));
        assert!(fits("shop_*.order_?", "shop_eu/order_é"));
        assert!(!fits("shop_*.order_?", "shop_eu/order_"));
        assert!(fits("shop.*a*b*", "shop/xxaxxbxx"));
        assert!(!fits("shop.*a*b", "shop/xxaxxbxx"));
        assert!(fits("*.*", "shop/holes"));
        assert!(!fits("shop.holes", "shop/Holes"));
    }

    #[test]
    fn a_star_stays_in_its_part() {
        assert!(!fits("s*s.x", "shop/holes"));
        assert!(fits("shop.a.b", "shop/a.b"));
    }

    #[test]
    fn a_backslash_makes_a_character_literal() {
        assert!(fits(r"a\.b.c\*", "a.b/c*"));
        assert!(!fits(r"a\.b.c\*", "a.b/cd"));
        assert!(fits(r"\!a.b", "!a/b"));
    }

    #[test]
    fn tables_of_the_server_must_be_named() {
        for name in [
            "mysql/user",
            "information_schema/tables",
            "pg_catalog/pg_class",
            "pg_toast_temp_3/x",
        ] {
            assert!(!fits("*.*", name), "{name}");
        }
        assert!(fits("mysql.*", "mysql/user"));
        assert!(fits("*.*", "system/user"));
    }

    #[test]
    fn tables_of_this_program_must_be_named() {
        assert!(!fits("shop.*", "shop/final_log"));
        assert!(!fits("shop.f*", "shop/final_log"));
        assert!(fits("shop.final_*", "shop/final_log"));
        assert!(fits("shop.*", "shop/finals"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "holes",
            "shop.",
            ".holes",
            "!",
            "shop.holes\\",
            r"shop\.holes",
        ] {
            assert!(Pattern::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn many_stars_are_quick() {
        let pattern = format!("s.{}", "*a".repeat(200));
        assert!(!fits(&pattern, &format!("s/{}b", "a".repeat(5_000))));
    }
}
