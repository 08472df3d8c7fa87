//! The form in which a whole value goes from the source to the target.
//!
//! Input: the form that a pair of columns is compared as, and both columns. Output: a form that loses nothing. A
//! comparison may round, because the target has fewer digits or a rule says so. A repair writes what the source has, and
//! the target's column takes of it what it has room for.

use super::{Form, Fraction, Rounding};
use crate::table::{ColumnClass, Family, SideColumn};

/// The digits that tell any two doubles apart.
const DIGITS: u32 = 17;

/// All digits of a second.
pub(super) const EXACT: Fraction = Fraction {
    digits: 6,
    rounding: Rounding::Cut,
};

/// The form of a value on its way.
pub(crate) fn given(
    form: Form,
    (family, source): (Family, &SideColumn),
    target: &SideColumn,
) -> Form {
    use ColumnClass::*;
    match form {
        Form::Decimal { .. } | Form::Number | Form::Float { .. } => match source.class {
            Float { .. } => Form::Float { digits: DIGITS },
            // Any value of SQLite can be a whole number or not, whatever its column says.
            Bool | Integer { .. } | Bits { .. } if family != Family::Sqlite => Form::Integer,
            _ => Form::Number,
        },
        Form::Time(_) => Form::Time(EXACT),
        Form::DateTime(_) => Form::DateTime(EXACT),
        Form::Uuid if is_text(source.class) && is_text(target.class) => TEXT,
        // As it is written: the canonical text has no spaces and no order of keys.
        Form::Text { .. } | Form::Json { .. } => TEXT,
        Form::Integer
        | Form::Bytes
        | Form::Date
        | Form::Uuid
        | Form::Bits { .. }
        | Form::Printed => form,
    }
}

const TEXT: Form = Form::Text { trim: false };

fn is_text(class: ColumnClass) -> bool {
    matches!(class, ColumnClass::Text { .. } | ColumnClass::Words)
}
