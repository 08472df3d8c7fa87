//! Whether a column can hold a key of the other side.
//!
//! Input: a column of a key, and a value in canonical form. Output: a [`Fit`].
//!
//! A server refuses to cast a value that its type does not have, and then the whole statement fails. So a value that does
//! not fit is found out here: no row of that side has it.

use final_core::database::Dialect;

use super::key_column::KeyColumn;
use crate::{form::Form, table::ColumnClass};

/// Where a value is among those that a column can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is one of them.
    Among,
    /// All of them are larger.
    Below,
    /// All of them are smaller.
    Above,
    /// It is no value of the type.
    Unlike,
}

/// Where a value is.
pub(super) fn fit(dialect: Dialect, key: &KeyColumn, text: &str) -> Fit {
    use ColumnClass::*;
    if key.digits.is_some() {
        return Fit::Among;
    }
    match key.column.class {
        Bool | Integer { .. } | Bits { .. } if key.form == Form::Integer => {
            whole(dialect, key, text)
        }
        Uuid | Bytes { .. } if key.form == Form::Uuid && dialect != Dialect::Sqlite => {
            let is_digit = |byte: u8| byte.is_ascii_hexdigit();
            match text.len() == 32 && text.bytes().all(is_digit) {
                true => Fit::Among,
                false => Fit::Unlike,
            }
        }
        Date | DateTime { .. } | Moment { .. } => day(dialect, text),
        Time { .. } if dialect == Dialect::Postgres => time(text),
        Text { .. } if dialect == Dialect::Postgres && text.contains('\0') => Fit::Unlike,
        _ => Fit::Among,
    }
}

fn whole(dialect: Dialect, key: &KeyColumn, text: &str) -> Fit {
    let class = key.column.class;
    let (least, most) = match (dialect, key.column.cast.as_str()) {
        (Dialect::Postgres, _) if class == ColumnClass::Bool => (0, 1),
        (Dialect::Postgres, "smallint") => (i16::MIN.into(), i16::MAX.into()),
        (Dialect::Postgres, "integer") => (i32::MIN.into(), i32::MAX.into()),
        (Dialect::Postgres, "oid") => (0, i128::from(u32::MAX)),
        (Dialect::MySql, _) => match class {
            ColumnClass::Integer { unsigned: true, .. } | ColumnClass::Bits { .. } => {
                (0, i128::from(u64::MAX))
            }
            _ => (i64::MIN.into(), i64::MAX.into()),
        },
        _ => (i64::MIN.into(), i64::MAX.into()),
    };
    match text.parse::<i128>() {
        Ok(number) if number < least => Fit::Below,
        Ok(number) if number > most => Fit::Above,
        Ok(_) => Fit::Among,
        Err(_) => Fit::Unlike,
    }
}

/// PostgreSQL has no day without a year or a month. The others have no day after the year 9999, and none that is infinite.
fn day(dialect: Dialect, text: &str) -> Fit {
    if text.starts_with('-') || text.ends_with("BC") {
        return match dialect {
            Dialect::Postgres => Fit::Among,
            Dialect::MySql | Dialect::Sqlite => Fit::Below,
        };
    }
    let year = text.split('-').next().unwrap_or_default();
    match dialect {
        Dialect::Postgres if year == "0000" => Fit::Below,
        Dialect::Postgres if text.get(4..).is_some_and(has_no_day) => Fit::Unlike,
        Dialect::MySql if year.len() > 4 => Fit::Above,
        _ => Fit::Among,
    }
}

/// Whether a month or a day is zero, behind a year of four digits.
fn has_no_day(rest: &str) -> bool {
    rest.starts_with("-00") || rest.get(3..).is_some_and(|day| day.starts_with("-00"))
}

/// PostgreSQL has the times of one day.
fn time(text: &str) -> Fit {
    let hour = text.split(':').next().unwrap_or_default();
    match hour.parse::<u32>() {
        _ if text.starts_with('-') => Fit::Below,
        Ok(0..=23) => Fit::Among,
        Ok(_) => Fit::Above,
        Err(_) => Fit::Unlike,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{KeyOrder, SideColumn};

    fn fits(dialect: Dialect, cast: &str, class: ColumnClass, form: Form, text: &str) -> Fit {
        let key = KeyColumn {
            name: "k".into(),
            column: SideColumn {
                name: "k".into(),
                declared: cast.into(),
                cast: cast.into(),
                class,
                nullable: false,
                is_generated: false,
                is_utf8: false,
                is_invisible: false,
                order: KeyOrder::Number,
            },
            form,
            digits: None,
        };
        fit(dialect, &key, text)
    }

    #[test]
    fn a_value_fits_where_its_server_can_hold_it() {
        use ColumnClass::*;
        use Dialect::*;
        use Fit::*;
        let whole = Integer {
            unsigned: false,
            zerofill: false,
        };
        let natural = Integer {
            unsigned: true,
            zerofill: false,
        };
        let day = ColumnClass::Date;
        let cases = [
            (
                Postgres,
                "integer",
                whole,
                Form::Integer,
                "2147483647",
                Among,
            ),
            (
                Postgres,
                "integer",
                whole,
                Form::Integer,
                "3000000000",
                Above,
            ),
            (Postgres, "smallint", whole, Form::Integer, "-40000", Below),
            (
                Postgres,
                "bigint",
                whole,
                Form::Integer,
                "18446744073709551615",
                Above,
            ),
            (
                MySql,
                "",
                natural,
                Form::Integer,
                "18446744073709551615",
                Among,
            ),
            (MySql, "", natural, Form::Integer, "-1", Below),
            (
                Sqlite,
                "",
                whole,
                Form::Integer,
                "18446744073709551615",
                Above,
            ),
            (Sqlite, "", whole, Form::Integer, "?text 31", Unlike),
            (Postgres, "uuid", Uuid, Form::Uuid, "test", Unlike),
            (
                Postgres,
                "uuid",
                Uuid,
                Form::Uuid,
                "00112233445566778899aabbccddeeff",
                Among,
            ),
            (Postgres, "date", day, Form::Date, "0000-00-00", Below),
            (Postgres, "date", day, Form::Date, "2024-02-00", Unlike),
            (Postgres, "date", day, Form::Date, "2024-02-29", Among),
            (MySql, "", day, Form::Date, "infinity", Above),
            (MySql, "", day, Form::Date, "-infinity", Below),
            (MySql, "", day, Form::Date, "0044-03-15 BC", Below),
            (MySql, "", day, Form::Date, "0000-00-00", Among),
        ];
        for (dialect, cast, class, form, text, expected) in cases {
            assert_eq!(fits(dialect, cast, class, form, text), expected, "{text}");
        }
    }
}
