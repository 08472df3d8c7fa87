//! How a row is put together from its fields, and taken apart again.
//!
//! Input: canonical texts, or none for NULL. Output: a [`Row`], the same bytes that the servers make by SQL.
//!
//! | form | NULL | a value |
//! | --- | --- | --- |
//! | texts, which may have any character | `~;` | length in bytes, `:`, the text, `;` |
//! | all others, which have neither `~` nor `;` | `~;` | the text, `;` |
//!
//! So no two rows have the same bytes: NULL is not the empty text, and no text runs into the next one.

use std::fmt;

use md5::Digest as _;

use super::Form;

/// Whether values of the form can have any character, so that their length goes before them.
pub(crate) fn is_open(form: Form) -> bool {
    matches!(form, Form::Text { .. } | Form::Json { .. } | Form::Printed)
}

/// The fields of a row, or of its key, one after the other.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Row(pub(crate) Vec<u8>);

impl fmt::Debug for Row {
    /// Without the values, which are the user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({} bytes)", self.0.len())
    }
}

impl Row {
    /// Adds a field.
    pub(crate) fn push(&mut self, form: Form, value: Option<&[u8]>) {
        match value {
            None => self.0.push(b'~'),
            Some(value) => {
                if is_open(form) {
                    self.0
                        .extend_from_slice(format!("{}:", value.len()).as_bytes());
                }
                self.0.extend_from_slice(value);
            }
        }
        self.0.push(b';');
    }

    /// The fields. None if the bytes are not those of so many fields of these forms.
    pub(crate) fn fields<'a>(&'a self, forms: &[Form]) -> Option<Vec<Option<&'a [u8]>>> {
        let mut rest = self.0.as_slice();
        let mut fields = Vec::with_capacity(forms.len());
        for form in forms {
            let (field, after) = field(*form, rest)?;
            fields.push(field);
            rest = after;
        }
        rest.is_empty().then_some(fields)
    }

    /// As many fields as there are. None if the bytes are not those of one or more fields of the first of these forms.
    pub(crate) fn leading<'a>(&'a self, forms: &[Form]) -> Option<Vec<Option<&'a [u8]>>> {
        let mut rest = self.0.as_slice();
        let mut fields = Vec::with_capacity(forms.len());
        for form in forms {
            let (field, after) = field(*form, rest)?;
            fields.push(field);
            rest = after;
            if rest.is_empty() {
                return Some(fields);
            }
        }
        None
    }

    /// The first field, and the others as a row.
    pub(crate) fn split(&self, form: Form) -> Option<(Option<&[u8]>, Row)> {
        let (field, rest) = field(form, &self.0)?;
        Some((field, Row(rest.to_vec())))
    }

    /// The bytes of the first fields.
    pub(crate) fn first(&self, forms: &[Form]) -> Option<Row> {
        let mut rest = self.0.as_slice();
        for form in forms {
            rest = field(*form, rest)?.1;
        }
        let length = self.0.len() - rest.len();
        Some(Row(self.0.get(..length)?.to_vec()))
    }

    /// Rows of these forms that stand one behind the other. None if the bytes are no such rows.
    pub(crate) fn each(self, forms: &[Form]) -> Option<Vec<Row>> {
        let rows = split(&self.0, forms, 0)?.into_iter();
        Some(rows.map(|(_, row)| Row(row.to_vec())).collect())
    }
}

/// The rows that stand one behind the other, each as its key and the whole. None if the bytes are no such rows.
pub(crate) fn split<'t>(
    mut rest: &'t [u8],
    forms: &[Form],
    keys: usize,
) -> Option<Vec<(&'t [u8], &'t [u8])>> {
    let mut rows = Vec::new();
    while !rest.is_empty() && !forms.is_empty() {
        let begin = rest;
        let mut key = 0;
        for (at, form) in forms.iter().enumerate() {
            rest = field(*form, rest)?.1;
            if at < keys {
                key = begin.len() - rest.len();
            }
        }
        rows.push((begin.get(..key)?, begin.get(..begin.len() - rest.len())?));
    }
    Some(rows)
}

/// The first field, and what comes after it.
fn field(form: Form, bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    if let Some(rest) = bytes.strip_prefix(b"~;") {
        return Some((None, rest));
    }
    let (value, rest) = if is_open(form) {
        let colon = bytes.iter().position(|byte| *byte == b':')?;
        let length: usize = std::str::from_utf8(bytes.get(..colon)?)
            .ok()?
            .parse()
            .ok()?;
        let begin = colon + 1;
        let end = begin.checked_add(length)?;
        (bytes.get(begin..end)?, bytes.get(end..)?)
    } else {
        let end = bytes.iter().position(|byte| matches!(byte, b';' | b'~'))?;
        (bytes.get(..end)?, bytes.get(end..)?)
    };
    Some((Some(value), rest.strip_prefix(b";")?))
}

/// The hash of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RowHash(pub(crate) Vec<u8>);

/// The function that both sides hash with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    /// The fastest that all servers have.
    Md5,
    /// Where a server refuses MD5, as MySQL 9 does, and servers that are told to use approved algorithms only.
    Sha256,
}

impl Hash {
    /// The hash of bytes.
    pub(crate) fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => md5::Md5::digest(bytes).to_vec(),
            Self::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
        }
    }

    /// How many bytes a hash has.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(crate) fn length(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha256 => 32,
        }
    }

    /// The hash of many rows, one after the other.
    pub(crate) fn begin(self) -> Hashing {
        match self {
            Self::Md5 => Hashing::Md5(md5::Md5::new()),
            Self::Sha256 => Hashing::Sha256(sha2::Sha256::new()),
        }
    }
}

/// A hash that is not at its end.
pub(crate) enum Hashing {
    Md5(md5::Md5),
    Sha256(sha2::Sha256),
}

impl Hashing {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
        }
    }

    pub(crate) fn end(self) -> Vec<u8> {
        match self {
            Self::Md5(hash) => hash.finalize().to_vec(),
            Self::Sha256(hash) => hash.finalize().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: Form = Form::Text { trim: false };

    fn row(fields: &[Option<&str>]) -> Row {
        let mut row = Row::default();
        for field in fields {
            row.push(TEXT, field.map(str::as_bytes));
        }
        row
    }

    #[test]
    fn null_is_not_the_empty_text() {
        assert_ne!(row(&[None]), row(&[Some("")]));
        assert_ne!(row(&[None]), row(&[Some("~")]));
        assert_ne!(row(&[None, Some("")]), row(&[Some(""), None]));
    }

    #[test]
    fn no_text_runs_into_the_next_one() {
        assert_ne!(row(&[Some("a"), Some("bc")]), row(&[Some("ab"), Some("c")]));
        assert_ne!(row(&[Some("a;1:b")]), row(&[Some("a"), Some("b")]));
    }

    #[test]
    fn a_row_with_a_mark_in_place_of_its_fields_is_no_row() {
        for form in [TEXT, Form::Integer] {
            let row = Row(b"~mark3;".to_vec());
            assert_eq!(row.fields(&[form]), None);
            assert_eq!(split(&row.0, &[form], 1), None);
        }
    }

    #[test]
    fn rows_that_stand_one_behind_the_other_are_told_apart() {
        let rows = [row(&[Some("a;b"), None]), row(&[Some(""), Some("~;")])];
        let together = Row(rows.iter().flat_map(|row| row.0.clone()).collect());
        assert_eq!(together.each(&[TEXT, TEXT]), Some(rows.to_vec()));
        assert_eq!(Row::default().each(&[TEXT]), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn a_row_gives_back_its_fields(fields in prop::collection::vec(prop::option::of(".{0,12}"), 0..5)) {
            let fields: Vec<Option<&str>> = fields.iter().map(Option::as_deref).collect();
            let row = row(&fields);
            let forms = vec![TEXT; fields.len()];
            let again = row.fields(&forms).unwrap();
            let again: Vec<_> = again.iter().map(|field| field.map(|field| std::str::from_utf8(field).unwrap())).collect();
            prop_assert_eq!(again, fields);
        }

        #[test]
        fn bytes_that_are_no_row_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let row = Row(bytes);
            let _ = row.fields(&[TEXT, Form::Integer]);
            let _ = row.first(&[TEXT]);
            let _ = row.clone().each(&[TEXT]);
        }
    }
}
