//! The types of PostgreSQL: which kind of values a column has, and how its text is read.
//!
//! Input: the number and the modifier of a type, as the stream has them, and for types that are not built in what the
//! catalog says. Output: a [`ColumnKind`], the type as SQL text, and a [`Reading`].

use std::collections::HashMap;

use crate::table::ColumnKind;

/// How the text of a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Bool,
    Int,
    UInt,
    Float,
    Double,
    /// The text as it is.
    Text,
    Bytes,
    Json,
    DateTime,
    Timestamp,
}

/// What the catalog says of types that are not built in, and of a table's key.
#[derive(Clone, Debug, Default)]
pub(super) struct Described {
    /// By number and modifier of the type: its text, and the number of the type below it if it is a domain.
    pub(super) types: HashMap<(u32, i32), (String, u32)>,
    /// The columns of the primary key.
    pub(super) primary_key: Vec<String>,
}

/// A type of a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Type {
    pub(super) kind: ColumnKind,
    pub(super) declared: String,
    pub(super) reading: Reading,
}

/// Whether the type has a rule of its own, so that the catalog need not be asked.
pub(super) fn is_built_in(oid: u32) -> bool {
    built_in(oid).is_some()
}

impl Type {
    /// The type of this number. `named` is what the stream called it, if it did.
    pub(super) fn of(oid: u32, modifier: i32, known: &Described, named: Option<&str>) -> Self {
        if let Some((name, kind, reading)) = built_in(oid) {
            return Self {
                kind,
                declared: declared(oid, name, modifier),
                reading,
            };
        }
        let described = known.types.get(&(oid, modifier));
        let below = described.and_then(|&(_, base)| built_in(base));
        // The type may have been dropped since. The stream's name of it is then all there is.
        let name = described.map(|(name, _)| name.as_str()).or(named);
        let (kind, reading) = match below {
            Some((_, kind, reading)) => (kind, reading),
            None => (ColumnKind::Other, Reading::Text),
        };
        Self {
            kind,
            declared: name.map_or_else(|| format!("type {oid}"), str::to_owned),
            reading,
        }
    }
}

/// The types with a rule: their numbers are the same in all databases.
fn built_in(oid: u32) -> Option<(&'static str, ColumnKind, Reading)> {
    let integer = |bytes, unsigned| ColumnKind::Integer { bytes, unsigned };
    Some(match oid {
        16 => ("boolean", ColumnKind::Bool, Reading::Bool),
        17 => ("bytea", ColumnKind::Bytes, Reading::Bytes),
        18 => ("\"char\"", ColumnKind::Text, Reading::Text),
        19 => ("name", ColumnKind::Text, Reading::Text),
        20 => ("bigint", integer(8, false), Reading::Int),
        21 => ("smallint", integer(2, false), Reading::Int),
        23 => ("integer", integer(4, false), Reading::Int),
        25 => ("text", ColumnKind::Text, Reading::Text),
        26 => ("oid", integer(4, true), Reading::UInt),
        114 => ("json", ColumnKind::Json, Reading::Json),
        700 => ("real", ColumnKind::Float { bytes: 4 }, Reading::Float),
        701 => (
            "double precision",
            ColumnKind::Float { bytes: 8 },
            Reading::Double,
        ),
        1042 => ("character", ColumnKind::Text, Reading::Text),
        1043 => ("character varying", ColumnKind::Text, Reading::Text),
        1082 => ("date", ColumnKind::Date, Reading::Text),
        1083 => ("time without time zone", ColumnKind::Time, Reading::Text),
        1114 => (
            "timestamp without time zone",
            ColumnKind::DateTime,
            Reading::DateTime,
        ),
        1184 => (
            "timestamp with time zone",
            ColumnKind::Timestamp,
            Reading::Timestamp,
        ),
        1186 => ("interval", ColumnKind::Other, Reading::Text),
        1266 => ("time with time zone", ColumnKind::Other, Reading::Text),
        1560 => ("bit", ColumnKind::Other, Reading::Text),
        1562 => ("bit varying", ColumnKind::Other, Reading::Text),
        1700 => ("numeric", ColumnKind::Decimal, Reading::Text),
        2950 => ("uuid", ColumnKind::Uuid, Reading::Text),
        3802 => ("jsonb", ColumnKind::Json, Reading::Json),
        _ => return None,
    })
}

/// The type as SQL text, in the server's own words.
fn declared(oid: u32, name: &str, modifier: i32) -> String {
    if modifier < 0 {
        return name.to_owned();
    }
    match oid {
        1042 | 1043 if modifier >= 4 => format!("{name}({})", modifier - 4),
        1560 | 1562 => format!("{name}({modifier})"),
        1083 | 1114 | 1184 | 1266 => match name.split_once(' ') {
            Some((name, zone)) => format!("{name}({modifier}) {zone}"),
            None => name.to_owned(),
        },
        1700 if modifier >= 4 => {
            let both = modifier - 4;
            let (precision, scale) = ((both >> 16) & 0xffff, both & 0x7ff);
            // 11 bits with a sign.
            let scale = (scale ^ 0x400) - 0x400;
            format!("numeric({precision},{scale})")
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared_as(oid: u32, modifier: i32) -> String {
        Type::of(oid, modifier, &Described::default(), None).declared
    }

    #[test]
    fn a_type_is_written_as_the_server_writes_it() {
        assert_eq!(declared_as(1700, ((10 << 16) | 2) + 4), "numeric(10,2)");
        assert_eq!(
            declared_as(1700, ((3 << 16) | (-2 & 0x7ff)) + 4),
            "numeric(3,-2)"
        );
        assert_eq!(declared_as(1700, -1), "numeric");
        assert_eq!(declared_as(1043, 24), "character varying(20)");
        assert_eq!(declared_as(1042, 9), "character(5)");
        assert_eq!(declared_as(1184, 3), "timestamp(3) with time zone");
        assert_eq!(declared_as(1560, 8), "bit(8)");
        assert_eq!(declared_as(20, -1), "bigint");
    }

    #[test]
    fn a_domain_has_the_kind_of_the_type_below_it() {
        let mut known = Described::default();
        known.types.insert((70_000, -1), ("price".to_owned(), 1700));
        known
            .types
            .insert((70_001, -1), ("mood".to_owned(), 70_001));
        let price = Type::of(70_000, -1, &known, None);
        assert_eq!(
            (price.kind, price.declared.as_str()),
            (ColumnKind::Decimal, "price")
        );
        let mood = Type::of(70_001, -1, &known, Some("public.mood"));
        assert_eq!(
            (mood.kind, mood.declared.as_str()),
            (ColumnKind::Other, "mood")
        );
    }

    #[test]
    fn a_type_that_was_dropped_keeps_the_name_of_the_stream() {
        let gone = Type::of(70_002, -1, &Described::default(), Some("public.mood"));
        assert_eq!(
            (gone.kind, gone.declared.as_str()),
            (ColumnKind::Other, "public.mood")
        );
    }
}
