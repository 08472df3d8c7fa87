//! A row that differs.

use std::{fmt, sync::Arc};

use serde::Serialize;

use crate::{form::Row, side::Found};

/// A row that differs.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// What is wrong with it.
    pub kind: DifferenceKind,
    /// Its key: the source's columns with their values in canonical form.
    pub key: Vec<(String, String)>,
    /// The columns that differ; none of a row that one side lacks.
    pub columns: Vec<DifferentColumn>,
}

impl Difference {
    /// What people order differences by: their keys, whole numbers by their value and all else as text.
    pub(crate) fn order(&self) -> Vec<(Option<i128>, &str)> {
        let values = self.key.iter().map(|(_, value)| value.as_str());
        values.map(|value| (value.parse().ok(), value)).collect()
    }
}

/// What is wrong with a row of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DifferenceKind {
    /// It is not there.
    Missing,
    /// It has other values.
    Different,
    /// It is there, and the source has no such row.
    Extra,
}

/// A column that differs. The values are there only where the job shows them.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DifferentColumn {
    /// Its name in the source.
    pub name: String,
    /// What the source has, in canonical form; none for NULL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What the target has, in canonical form; none for NULL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// A row that differs, by its key.
#[derive(Clone, Debug)]
pub(crate) struct RowDifference {
    /// The columns of the key, and their forms.
    pub(crate) key_form: Arc<str>,
    pub(crate) key: Row,
    /// The key for people: the source's columns with their values in canonical form.
    pub(crate) named: Vec<(String, String)>,
    pub(crate) kind: DifferenceKind,
    /// The source's names of the columns that differ.
    pub(crate) columns: Vec<String>,
}

/// What is wrong with a row that differs.
pub(crate) fn kind(source: Option<&Found>, target: Option<&Found>) -> DifferenceKind {
    match (source, target) {
        (_, None) => DifferenceKind::Missing,
        (None, _) => DifferenceKind::Extra,
        _ => DifferenceKind::Different,
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key: Vec<String> = self
            .key
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        write!(f, "{}: {}", self.kind, key.join(", "))?;
        if self.kind == DifferenceKind::Different {
            let columns: Vec<&str> = self
                .columns
                .iter()
                .map(|column| column.name.as_str())
                .collect();
            write!(f, ": {}", columns.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for DifferenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Different => "different",
            Self::Extra => "extra",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(values: &[&str]) -> Difference {
        let named = |value: &&str| ("id".to_owned(), (*value).to_owned());
        Difference {
            kind: DifferenceKind::Missing,
            key: values.iter().map(named).collect(),
            columns: Vec::new(),
        }
    }

    #[test]
    fn differences_are_told_in_the_order_of_their_keys() {
        let mut found = [
            keyed(&["b", "2"]),
            keyed(&["10"]),
            keyed(&["-3"]),
            keyed(&["b", "-10"]),
            keyed(&["9"]),
        ];
        found.sort_by(|one, other| one.order().cmp(&other.order()));
        let told: Vec<String> = found.iter().map(Difference::to_string).collect();
        assert_eq!(
            told,
            [
                "missing: id b, id -10",
                "missing: id b, id 2",
                "missing: id -3",
                "missing: id 9",
                "missing: id 10"
            ]
        );
    }
}
