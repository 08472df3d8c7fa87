//! Canonical forms on MySQL and MariaDB.
//!
//! The session has UTC and speaks utf8mb4. Texts become bytes, because texts of two collations cannot be put together.

use super::fraction_length;
use crate::{
    form::{Form, Fraction, Rounding, is_open},
    table::{ColumnClass, SideColumn},
};

/// The field of a row as the arguments of `CONCAT`: the text with what goes around it. `name` is the column, quoted.
///
/// NULL if the server cannot make the text, because it would be larger than `max_allowed_packet`. So only a NULL of the
/// column itself has the mark of NULL.
pub(crate) fn field(column: &SideColumn, form: Form, name: &str) -> Vec<String> {
    let text = text(column, form, name);
    let mut field = match is_open(form) {
        true => vec![length(column, form, name, &text), "':'".into(), text],
        false => vec![text],
    };
    if column.nullable {
        let is_short = matches!(
            form,
            Form::Integer | Form::Decimal { .. } | Form::Date | Form::Time(_) | Form::DateTime(_)
        );
        let text = field.join(", ");
        field = vec![match (is_open(form), is_short) {
            (true, _) => format!("CASE WHEN {name} IS NULL THEN '~' ELSE CONCAT({text}) END"),
            (false, true) => format!("IFNULL({text}, '~')"),
            (false, false) => format!("CASE WHEN {name} IS NULL THEN '~' ELSE {text} END"),
        }];
    }
    field.push("';'".into());
    field
}

/// How many bytes an open text has in UTF-8.
fn length(column: &SideColumn, form: Form, name: &str, text: &str) -> String {
    match (form, column.is_utf8) {
        (Form::Text { trim: false }, true) => format!("LENGTH({name})"),
        _ => format!("LENGTH({text})"),
    }
}

/// The canonical text; NULL for NULL.
pub(crate) fn text(column: &SideColumn, form: Form, name: &str) -> String {
    let class = column.class;
    match form {
        Form::Integer => match class {
            ColumnClass::Integer {
                zerofill: false, ..
            }
            | ColumnClass::Bool => name.to_owned(),
            _ => format!("CAST({name} + 0 AS UNSIGNED)"),
        },
        Form::Decimal { scale } => match class {
            ColumnClass::Decimal { scale: Some(own) } if own == scale => name.to_owned(),
            _ => format!("CAST({name} AS DECIMAL(65, {scale}))"),
        },
        Form::Number => match class {
            ColumnClass::Decimal { scale: Some(0) } => format!("CAST({name} AS DECIMAL(65, 0))"),
            ColumnClass::Integer {
                zerofill: false, ..
            }
            | ColumnClass::Bool => name.to_owned(),
            ColumnClass::Integer { .. } => format!("CAST({name} + 0 AS UNSIGNED)"),
            _ => format!("TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM CAST({name} AS CHAR)))"),
        },
        Form::Float { digits } => float(class, name, digits),
        Form::Text { trim: false } => utf8(column, name),
        Form::Text { trim: true } => utf8(column, &format!("TRIM(TRAILING ' ' FROM {name})")),
        Form::Json { .. } => utf8(column, name),
        Form::Bytes => format!("LOWER(HEX({name}))"),
        Form::Date => name.to_owned(),
        Form::Time(fraction) => time(class, name, fraction),
        Form::DateTime(fraction) => date_time(class, name, fraction),
        Form::Uuid => match class {
            ColumnClass::Bytes { .. } => format!("LOWER(HEX({name}))"),
            ColumnClass::Uuid => format!("REPLACE(CAST({name} AS CHAR), '-', '')"),
            // A text that is no UUID may have the signs that end a field.
            _ => format!(
                "REPLACE(REPLACE(REPLACE(LOWER(CONVERT({name} USING utf8mb4)), '-', ''), ';', ''), '~', '')"
            ),
        },
        Form::Bits { length } => format!("LPAD(BIN({name} + 0), {length}, '0')"),
        Form::Printed => printed(column, name),
    }
}

/// As a client of this server gets it whose session has the server's time zone.
fn printed(column: &SideColumn, name: &str) -> String {
    match column.class {
        ColumnClass::Text { .. } | ColumnClass::Words | ColumnClass::Json => utf8(column, name),
        // A geometry cannot be cast to bytes.
        ColumnClass::Bytes { .. } => format!("UNHEX(HEX({name}))"),
        ColumnClass::Bits { .. } => format!("CAST({name} AS BINARY)"),
        // The session here has UTC. A moment that has no time in the zone stays as it is.
        ColumnClass::Moment { .. } => format!(
            "CAST(COALESCE(CONVERT_TZ({name}, @@session.time_zone, @@global.time_zone), {name}) AS CHAR)"
        ),
        _ => format!("CAST({name} AS CHAR)"),
    }
}

fn utf8(column: &SideColumn, text: &str) -> String {
    match column.is_utf8 {
        true => format!("CAST({text} AS BINARY)"),
        false => format!("CAST(CONVERT({text} USING utf8mb4) AS BINARY)"),
    }
}

/// The digits as they are printed, rounded as a number, so that a half goes the same way on every server. Neither server
/// can give a name to a part of an expression here, so each part is written out.
fn float(class: ColumnClass, name: &str, digits: u32) -> String {
    let t = match class {
        // Printed as it is, a FLOAT has six digits.
        ColumnClass::Float { single: true } => format!("CAST({name} + 0e0 AS CHAR)"),
        ColumnClass::Integer { zerofill: true, .. } => format!("CAST({name} + 0 AS CHAR)"),
        _ => format!("CAST({name} AS CHAR)"),
    };
    let m = format!("SUBSTRING_INDEX({t}, 'e', 1)");
    let d = format!("CAST(REPLACE(REPLACE({m}, '-', ''), '.', '') AS DECIMAL(65, 0))");
    let k = format!(
        "IF(LOCATE('e', {t}) > 0, CAST(SUBSTRING_INDEX({t}, 'e', -1) AS SIGNED), 0) \
         - IF(LOCATE('.', {m}) > 0, LENGTH({m}) - LOCATE('.', {m}), 0)"
    );
    let r = format!("CAST(ROUND({d}, LEAST(0, {digits} - LENGTH(CAST({d} AS CHAR)))) AS CHAR)");
    format!(
        "IF({name} = 0, '0', CONCAT(IF({name} < 0, '-', ''), TRIM(TRAILING '0' FROM {r}), 'e', \
         CAST({k} + CAST(LENGTH({r}) AS SIGNED) - CAST(LENGTH(TRIM(TRAILING '0' FROM {r})) AS SIGNED) AS SIGNED)))"
    )
}

/// The time with six digits, where digits are to be left out; else as it is.
fn time(class: ColumnClass, name: &str, fraction: Fraction) -> String {
    let ColumnClass::Time { precision } = class else {
        return format!("CAST({name} AS CHAR)");
    };
    let digits = fraction.digits;
    if precision <= digits {
        return name.to_owned();
    }
    let value = match fraction.rounding {
        Rounding::Cut => name.to_owned(),
        Rounding::Up | Rounding::From2000 => {
            let half = format!("{:.6}", 0.5 / f64::from(10_u32.pow(digits)));
            format!(
                "IF({name} < 0, SUBTIME({name}, '00:00:0{half}'), ADDTIME({name}, '00:00:0{half}'))"
            )
        }
    };
    // Hours can have three digits, so what is left out is counted from the end.
    let left_out = 7 - fraction_length(digits);
    let text = format!("TIME_FORMAT({value}, '%H:%i:%s.%f')");
    format!("LEFT({text}, LENGTH({text}) - {left_out})")
}

/// A time that no calendar has stays as it is printed.
fn date_time(class: ColumnClass, name: &str, fraction: Fraction) -> String {
    let precision = match class {
        ColumnClass::DateTime { precision } | ColumnClass::Moment { precision } => precision,
        _ => 6,
    };
    let digits = fraction.digits;
    if precision <= digits {
        return name.to_owned();
    }
    let length = 19 + fraction_length(digits);
    let half = 500_000 / 10_u32.pow(digits.min(5));
    let added = match fraction.rounding {
        Rounding::Cut => return format!("LEFT(CAST({name} AS CHAR), {length})"),
        Rounding::Up => half.to_string(),
        Rounding::From2000 => format!("IF({name} < '2000-01-01', {}, {half})", half - 1),
    };
    let moved = format!("DATE_ADD({name}, INTERVAL {added} MICROSECOND)");
    format!(
        "COALESCE(LEFT(DATE_FORMAT({moved}, '%Y-%m-%d %H:%i:%s.%f'), {length}), LEFT(CAST({name} AS CHAR), {length}))"
    )
}
