//! Canonical forms on PostgreSQL.
//!
//! The session has UTC, `DateStyle` ISO and the shortest digits of floats.

use super::fraction_length;
use crate::{
    form::{Form, Fraction, Rounding, is_open},
    table::{ColumnClass, SideColumn},
};

/// The field of a row: the text with what goes around it. `name` is the column, quoted.
pub(crate) fn field(column: &SideColumn, form: Form, name: &str, is_utf8: bool) -> String {
    let text = text(column, form, name);
    let field = match (is_open(form), is_utf8) {
        (true, true) => format!("(octet_length({text})::text || ':' || {text} || ';')"),
        (true, false) => {
            format!("(octet_length(convert_to({text}, 'UTF8'))::text || ':' || {text} || ';')")
        }
        (false, _) => format!("({text} || ';')"),
    };
    match column.nullable {
        true => format!("coalesce({field}, '~;')"),
        false => field,
    }
}

/// The canonical text; NULL for NULL.
pub(crate) fn text(column: &SideColumn, form: Form, name: &str) -> String {
    let class = column.class;
    match form {
        Form::Integer => match class {
            ColumnClass::Bool => format!("{name}::int::text"),
            ColumnClass::Bits { .. } => format!("{name}::bigint::text"),
            _ => format!("{name}::text"),
        },
        Form::Decimal { scale } => match class {
            ColumnClass::Decimal { scale: Some(own) } if own == scale => format!("{name}::text"),
            ColumnClass::Float { .. } => {
                format!("round({name}::float8::text::numeric, {scale})::text")
            }
            _ => format!("round({name}::numeric, {scale})::text"),
        },
        Form::Number => match class {
            ColumnClass::Decimal { scale: Some(0) } | ColumnClass::Integer { .. } => {
                format!("{name}::text")
            }
            ColumnClass::Decimal { scale: Some(_) } => {
                format!("rtrim(rtrim({name}::text, '0'), '.')")
            }
            _ => format!(
                "CASE WHEN strpos({name}::text, '.') > 0 THEN rtrim(rtrim({name}::text, '0'), '.') ELSE {name}::text END"
            ),
        },
        Form::Float { digits } => float(class, name, digits),
        Form::Text { trim: false } => format!("{name}::text"),
        Form::Text { trim: true } => format!("rtrim({name}::text, ' ')"),
        Form::Json { .. } => format!("{name}::text"),
        Form::Bytes => format!("encode({name}, 'hex')"),
        Form::Date => format!("{name}::text"),
        Form::Time(fraction) => time(class, name, fraction),
        Form::DateTime(fraction) => date_time(class, name, fraction),
        Form::Uuid => match class {
            ColumnClass::Bytes { .. } => format!("encode({name}, 'hex')"),
            ColumnClass::Uuid => format!("replace({name}::text, '-', '')"),
            // A text that is no UUID may have the signs that end a field.
            _ => format!("translate(lower({name}::text), '-;~', '')"),
        },
        Form::Bits { .. } | Form::Printed => format!("{name}::text"),
    }
}

/// The digits as they are printed, rounded as a number, so that a half goes the same way on every server.
fn float(class: ColumnClass, name: &str, digits: u32) -> String {
    let text = match class {
        ColumnClass::Float { .. } => format!("({name}::float8)::text"),
        _ => format!("{name}::text"),
    };
    let made = format!(
        "(SELECT CASE WHEN r = 0 THEN '0' ELSE s || rtrim(r::text, '0') || 'e' \
            || (k + length(r::text) - length(rtrim(r::text, '0'))) END \
        FROM (SELECT s, k, round(d, least(0, {digits} - length(d::text))) AS r \
        FROM (SELECT CASE WHEN left(m, 1) = '-' THEN '-' ELSE '' END AS s, \
            replace(replace(m, '-', ''), '.', '')::numeric AS d, \
            coalesce(nullif(split_part(t, 'e', 2), ''), '0')::int \
                - CASE WHEN strpos(m, '.') > 0 THEN length(m) - strpos(m, '.') ELSE 0 END AS k \
        FROM (SELECT t, split_part(t, 'e', 1) AS m FROM (SELECT {text} AS t) a) b) c) d)"
    );
    match class {
        ColumnClass::Integer { .. } | ColumnClass::Bool => made,
        _ => format!(
            "CASE WHEN {name}::text IN ('NaN', 'Infinity', '-Infinity') THEN {name}::text ELSE {made} END"
        ),
    }
}

/// `24:00:00` is a time, so it stays a text.
fn time(class: ColumnClass, name: &str, fraction: Fraction) -> String {
    let name = match (class, fraction.rounding) {
        (ColumnClass::Time { precision }, Rounding::Up | Rounding::From2000)
            if precision > fraction.digits =>
        {
            format!("{name}::time({})", fraction.digits)
        }
        _ => name.to_owned(),
    };
    let length = 8 + fraction_length(fraction.digits);
    format!(
        "left(rpad(CASE length({name}::text) WHEN 8 THEN {name}::text || '.' ELSE {name}::text END, 15, '0'), {length})"
    )
}

/// Years before the first and infinity stay as they are printed: no other server has them.
fn date_time(class: ColumnClass, name: &str, fraction: Fraction) -> String {
    let (utc, precision) = match class {
        ColumnClass::Moment { precision } => (format!("({name} AT TIME ZONE 'UTC')"), precision),
        ColumnClass::DateTime { precision } => (name.to_owned(), precision),
        _ => (name.to_owned(), 6),
    };
    let digits = fraction.digits;
    let rounded = match fraction.rounding {
        _ if precision <= digits => utc.clone(),
        Rounding::Cut => utc.clone(),
        Rounding::From2000 => format!("{utc}::timestamp({digits})"),
        Rounding::Up => {
            let half = 500_000 / 10_u32.pow(digits.min(5));
            format!("({utc} + interval '{half} microseconds')")
        }
    };
    let printed = match digits {
        0 => format!("to_char({rounded}, 'YYYY-MM-DD HH24:MI:SS')"),
        6 => format!("to_char({rounded}, 'YYYY-MM-DD HH24:MI:SS.US')"),
        // Years can have five digits, so what is left out is counted from the end.
        digits => format!(
            "left(to_char({rounded}, 'YYYY-MM-DD HH24:MI:SS.US'), -{})",
            6_u32.saturating_sub(digits)
        ),
    };
    format!(
        "CASE WHEN {utc} >= '0001-01-01' AND {utc} < 'infinity' \
         THEN {printed} ELSE {utc}::text END"
    )
}
