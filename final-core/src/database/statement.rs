//! Statements whose values have names, so that the texts of the three databases share one call.
//!
//! Input: a template with `:name`; then values with their names. State: the rendered text, on MySQL one for
//! each of a few lengths of a list. Output: a text, and its values in the order of its placeholders.

use std::{collections::HashMap, fmt::Write, sync::Arc};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::{
    DbResult, Dialect, Value,
    template::{TemplatePart, parts},
};

/// The lengths of a list that is written out. A shorter list repeats its last entry, so that the cache of
/// prepared statements stays small.
const LENGTHS: [usize; 7] = [1, 8, 32, 128, 256, 512, 1_000];

/// The values of a call, each with the name that stands in the text behind a colon.
pub(crate) type Arguments<'a> = Vec<(&'static str, Value<'a>)>;

/// A statement of one dialect, rendered once.
///
/// A list of values is one array on PostgreSQL and one JSON text on SQLite. MySQL has neither, so there the
/// statement has a text for each of a few lengths.
#[derive(Debug)]
pub(crate) struct Statement {
    texts: Vec<Text>,
}

#[derive(Debug)]
struct Text {
    sql: SqlStr,
    /// How many entries its list takes; none where a list is one value.
    length: Option<usize>,
    /// The names of its parameters in their order, and whether each is a list that is written out.
    parameters: Vec<(String, bool)>,
}

impl Statement {
    /// A statement made of a [template](super::template) in which only placeholders are left to be filled in.
    pub(crate) fn new(dialect: Dialect, template: &str) -> Self {
        Self::with_lengths(dialect, template, &LENGTHS)
    }

    /// The same, with other lengths of its list.
    pub(crate) fn with_lengths(dialect: Dialect, template: &str, lengths: &[usize]) -> Self {
        let parts = parts(template);
        let has_list = parts
            .iter()
            .any(|part| matches!(part, TemplatePart::List(_) | TemplatePart::IdRows(_)));
        let texts = if has_list && dialect == Dialect::MySql {
            lengths
                .iter()
                .map(|length| Text::new(dialect, &parts, Some(*length)))
                .collect()
        } else {
            vec![Text::new(dialect, &parts, None)]
        };
        Self { texts }
    }

    /// The longest list that it takes.
    pub(crate) fn longest(&self) -> usize {
        let longest = self.texts.last().and_then(|text| text.length);
        longest.unwrap_or(usize::MAX)
    }

    /// The text for these values, and the values in its order.
    pub(crate) fn bind<'a>(&self, arguments: Arguments<'a>) -> DbResult<(SqlStr, Vec<Value<'a>>)> {
        let entries = arguments
            .iter()
            .find_map(|(_, value)| value.len())
            .unwrap_or(0);
        let fits = |text: &&Text| text.length.is_none_or(|length| length >= entries);
        let Some(text) = self.texts.iter().find(fits) else {
            let longest = self.longest();
            return Err(sqlx::Error::Configuration(
                format!("a statement takes {longest} entries at most and was given {entries}")
                    .into(),
            ));
        };
        text.bind(arguments)
    }
}

impl Text {
    fn new(dialect: Dialect, parts: &[TemplatePart<'_>], length: Option<usize>) -> Self {
        let mut sql = String::new();
        let mut parameters: Vec<(String, bool)> = Vec::new();
        // Where placeholders have numbers, a name has the same one wherever it stands.
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for part in parts {
            match *part {
                TemplatePart::Text(text) => sql.push_str(text),
                TemplatePart::Word(word) => {
                    let _ = write!(sql, "{{{word}}}");
                }
                TemplatePart::List(name) if length.is_some() => {
                    let length = length.unwrap_or(0);
                    sql.push_str(&vec!["?"; length].join(", "));
                    parameters.push((name.to_owned(), true));
                }
                TemplatePart::IdRows(name) if length.is_some() => {
                    // A placeholder alone would be a text to MySQL, and 16 bytes are no text.
                    let row = "SELECT CAST(? AS BINARY(16))";
                    let more = format!(" UNION ALL {row}").repeat(length.unwrap_or(1).max(1) - 1);
                    let _ = write!(sql, "{row} AS id{more}");
                    parameters.push((name.to_owned(), true));
                }
                TemplatePart::ListLength(_) => {
                    let _ = write!(sql, "{}", length.unwrap_or(0));
                }
                TemplatePart::Named(name)
                | TemplatePart::List(name)
                | TemplatePart::IdRows(name)
                    if dialect != Dialect::MySql =>
                {
                    let number = *numbers.entry(name).or_insert_with(|| {
                        parameters.push((name.to_owned(), false));
                        parameters.len()
                    });
                    sql.push_str(&dialect.placeholder(number));
                }
                TemplatePart::Named(name)
                | TemplatePart::List(name)
                | TemplatePart::IdRows(name) => {
                    sql.push('?');
                    parameters.push((name.to_owned(), false));
                }
                TemplatePart::Next => sql.push('?'),
            }
        }
        Self {
            sql: AssertSqlSafe(Arc::<str>::from(sql)).into_sql_str(),
            length,
            parameters,
        }
    }

    fn bind<'a>(&self, mut arguments: Arguments<'a>) -> DbResult<(SqlStr, Vec<Value<'a>>)> {
        let mut values = Vec::with_capacity(self.parameters.len() + self.length.unwrap_or(0));
        for (at, (name, is_list)) in self.parameters.iter().enumerate() {
            let given = arguments.iter_mut().find(|(given, _)| given == name);
            let Some((_, value)) = given else {
                return Err(sqlx::Error::Configuration(
                    format!("a statement was given no value for :{name}").into(),
                ));
            };
            if *is_list {
                let length = self.length.unwrap_or(0);
                values.extend((0..length).map(|place| value.at(place)));
            } else if self.parameters[at + 1..]
                .iter()
                .any(|(later, _)| later == name)
            {
                values.push(value.clone());
            } else {
                values.push(std::mem::replace(value, Value::Int(None)));
            }
        }
        Ok((self.sql.clone(), values))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const CHANGE: &str =
        "UPDATE t SET owner = :owner WHERE id IN (:*ids) AND owner = :owner LIMIT :#ids";

    fn ids(count: u128) -> Vec<Uuid> {
        (0..count).map(Uuid::from_u128).collect()
    }

    fn bound(dialect: Dialect, count: u128) -> (String, Vec<Value<'static>>) {
        let statement = Statement::new(dialect, CHANGE);
        let arguments = vec![
            ("ids", Value::from(&ids(count)[..])),
            ("owner", Uuid::max().into()),
        ];
        let (sql, values) = statement.bind(arguments).unwrap();
        (sql.as_str().to_owned(), values)
    }

    #[test]
    fn where_placeholders_have_numbers_each_name_has_one() {
        let (sql, values) = bound(Dialect::Postgres, 3);

        assert_eq!(
            sql,
            "UPDATE t SET owner = $1 WHERE id IN ($2) AND owner = $1 LIMIT 0"
        );
        assert_eq!(values, [Uuid::max().into(), Value::from(&ids(3)[..])]);
    }

    #[test]
    fn ids_can_be_rows_of_their_own() {
        let statement = Statement::new(Dialect::MySql, "DELETE FROM (:+ids) AS l");
        let (sql, values) = statement
            .bind(vec![("ids", Value::from(&ids(1)[..]))])
            .unwrap();

        assert_eq!(
            sql.as_str(),
            "DELETE FROM (SELECT CAST(? AS BINARY(16)) AS id) AS l"
        );
        assert_eq!(values, [Uuid::from_u128(0).into()]);
        let (sql, values) = statement
            .bind(vec![("ids", Value::from(&ids(3)[..]))])
            .unwrap();
        assert_eq!(sql.as_str().matches(" UNION ALL SELECT ").count(), 7);
        assert_eq!(values.len(), 8);
    }

    #[test]
    fn where_there_are_no_arrays_a_list_is_written_out_and_filled_up_with_its_last() {
        let (sql, values) = bound(Dialect::MySql, 2);

        let list = ["?"; 8].join(", ");
        assert_eq!(
            sql,
            format!("UPDATE t SET owner = ? WHERE id IN ({list}) AND owner = ? LIMIT 8")
        );
        assert_eq!(values.len(), 10);
        assert_eq!(values[1], Uuid::from_u128(0).into());
        assert!(
            values[2..9]
                .iter()
                .all(|value| *value == Uuid::from_u128(1).into())
        );
        assert_eq!(
            (&values[0], &values[9]),
            (&Uuid::max().into(), &Uuid::max().into())
        );
    }

    #[test]
    fn a_list_that_is_too_long_is_refused() {
        let statement = Statement::new(Dialect::MySql, CHANGE);
        assert_eq!(statement.longest(), 1_000);

        let arguments = vec![
            ("ids", Value::from(&ids(1_001)[..])),
            ("owner", Uuid::max().into()),
        ];
        let error = statement.bind(arguments).unwrap_err();

        assert!(
            error.to_string().contains("1000 entries at most"),
            "{error}"
        );
    }

    #[test]
    fn a_value_that_was_forgotten_is_told_by_its_name() {
        let statement = Statement::new(Dialect::Sqlite, CHANGE);

        let error = statement
            .bind(vec![("owner", Uuid::max().into())])
            .unwrap_err();

        assert!(error.to_string().contains(":ids"), "{error}");
    }
}
