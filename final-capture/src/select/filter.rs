//! Row filters: which rows of a table are captured.
//!
//! Input: `status = 'paid' and region in ('eu', 'us')`. Output: whether a row fits, as far as the row is known.
//!
//! Conditions are joined by `and`. A condition is a column with `=`, `!=`, `<>`, `<`, `<=`, `>`, `>=` and a literal,
//! or with `in (…)`, `not in (…)`, `is null`, `is not null`. As in SQL, a comparison with NULL is not true. Texts are
//! compared byte for byte: no collation is applied. A literal that does not suit its column is an error.

use std::cmp::Ordering;

use super::{
    SelectError,
    literal::{Decimal, Literal, compare, is_equal},
};
use crate::{
    table::{ColumnKind, Table},
    value::Value,
};

/// Whether a row fits a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// The source did not send a column that decides.
    Unknown,
}

/// A filter as it was configured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Filter {
    text: String,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    column: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Compare(Operator, Literal),
    In(Vec<Literal>),
    NotIn(Vec<Literal>),
    Null,
    NotNull,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Filter {
    /// Reads a filter.
    pub(crate) fn new(text: &str) -> Result<Self, SelectError> {
        let wrong = |why: String| SelectError::Filter {
            filter: text.to_owned(),
            why,
        };
        let tokens = tokens(text).map_err(wrong)?;
        let mut tokens = Tokens(tokens.into_iter().peekable());
        let mut conditions = Vec::new();
        loop {
            conditions.push(tokens.condition().map_err(wrong)?);
            match tokens.0.next() {
                None => {
                    return Ok(Self {
                        text: text.to_owned(),
                        conditions,
                    });
                }
                Some(token) if token.is_word("and") => {}
                Some(token) if token.is_word("or") => {
                    return Err(wrong(
                        "`or` is not there; write `column in (…)`, or capture more".to_owned(),
                    ));
                }
                Some(token) => return Err(wrong(format!("`and` is expected before {token}"))),
            }
        }
    }

    /// The columns that it looks at.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.conditions
            .iter()
            .map(|condition| condition.column.as_str())
    }

    /// The filter for a table with these columns. The error tells which column is not there, or cannot be compared.
    pub(crate) fn of_table(&self, table: &Table) -> Result<TableFilter, SelectError> {
        let mut conditions = Vec::new();
        for condition in &self.conditions {
            let mut columns = table.columns.iter().enumerate();
            let (at, column) = columns
                .find(|(_, column)| *column.name == *condition.column)
                .ok_or_else(|| SelectError::FilterColumn {
                    table: table.name.to_string(),
                    column: condition.column.clone(),
                })?;
            let test = condition.test.of_kind(&column.kind);
            let test = test.map_err(|why| SelectError::Filter {
                filter: self.text.clone(),
                why: format!("of `{}` in {}: {why}", condition.column, table.name),
            })?;
            conditions.push((at, test));
        }
        Ok(TableFilter { conditions })
    }
}

/// A filter with its columns' places.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TableFilter {
    conditions: Vec<(usize, Test)>,
}

impl TableFilter {
    /// Whether the row fits. A condition that surely fails decides, whatever is unknown.
    pub(crate) fn fit(&self, row: &[Value]) -> Fit {
        let mut fit = Fit::Yes;
        for (column, test) in &self.conditions {
            match row
                .get(*column)
                .map_or(Fit::Unknown, |value| test.fit(value))
            {
                Fit::No => return Fit::No,
                Fit::Unknown => fit = Fit::Unknown,
                Fit::Yes => {}
            }
        }
        fit
    }
}

impl Test {
    /// The test with literals as values of a column of this kind are.
    fn of_kind(&self, kind: &ColumnKind) -> Result<Self, &'static str> {
        let all = |list: &[Literal]| {
            list.iter()
                .map(|one| one.of_kind(kind))
                .collect::<Result<_, _>>()
        };
        Ok(match self {
            Self::Compare(operator, literal) => Self::Compare(*operator, literal.of_kind(kind)?),
            Self::In(list) => Self::In(all(list)?),
            Self::NotIn(list) => Self::NotIn(all(list)?),
            Self::Null | Self::NotNull => self.clone(),
        })
    }

    fn fit(&self, value: &Value) -> Fit {
        let holds = match (self, value) {
            (_, Value::Absent) => return Fit::Unknown,
            (Self::Null, value) => *value == Value::Null,
            (Self::NotNull, value) => *value != Value::Null,
            (_, Value::Null) => false,
            (Self::In(list), value) => list.iter().any(|one| is_equal(value, one)),
            (Self::NotIn(list), value) => !list.iter().any(|one| is_equal(value, one)),
            (Self::Compare(operator, literal), value) => operator.holds(compare(value, literal)),
        };
        if holds { Fit::Yes } else { Fit::No }
    }
}

impl Operator {
    /// Values that cannot be compared are not equal, and none is less.
    fn holds(self, ordering: Option<Ordering>) -> bool {
        match (self, ordering) {
            (Self::NotEqual, None) => true,
            (_, None) => false,
            (Self::Equal, Some(ordering)) => ordering.is_eq(),
            (Self::NotEqual, Some(ordering)) => ordering.is_ne(),
            (Self::Less, Some(ordering)) => ordering.is_lt(),
            (Self::LessOrEqual, Some(ordering)) => ordering.is_le(),
            (Self::Greater, Some(ordering)) => ordering.is_gt(),
            (Self::GreaterOrEqual, Some(ordering)) => ordering.is_ge(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    /// A name in quotes, which is never a word of the language.
    Name(String),
    Text(String),
    Number(String),
    Sign(&'static str),
}

impl Token {
    fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own.eq_ignore_ascii_case(word))
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(text) | Self::Name(text) | Self::Number(text) => write!(f, "`{text}`"),
            Self::Text(text) => write!(f, "`'{text}'`"),
            Self::Sign(sign) => write!(f, "`{sign}`"),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let token = match c {
            c if c.is_whitespace() => continue,
            '\'' | '"' | '`' => {
                let mut inside = String::new();
                loop {
                    match chars.next() {
                        None => return Err(format!("a text that begins with {c} does not end")),
                        // A quote twice is the quote itself.
                        Some(end) if end == c => match chars.next_if_eq(&c) {
                            Some(_) => inside.push(c),
                            None => break,
                        },
                        Some(other) => inside.push(other),
                    }
                }
                if c == '\'' {
                    Token::Text(inside)
                } else {
                    Token::Name(inside)
                }
            }
            '(' => Token::Sign("("),
            ')' => Token::Sign(")"),
            ',' => Token::Sign(","),
            '=' => Token::Sign("="),
            '!' if chars.next_if_eq(&'=').is_some() => Token::Sign("!="),
            '<' if chars.next_if_eq(&'>').is_some() => Token::Sign("!="),
            '<' if chars.next_if_eq(&'=').is_some() => Token::Sign("<="),
            '<' => Token::Sign("<"),
            '>' if chars.next_if_eq(&'=').is_some() => Token::Sign(">="),
            '>' => Token::Sign(">"),
            c if c.is_ascii_digit() || c == '-' => {
                let mut number = String::from(c);
                while let Some(next) = chars.next_if(|c| c.is_ascii_digit() || *c == '.') {
                    number.push(next);
                }
                if Decimal::new(&number).is_none() {
                    return Err(format!("`{number}` is no number"));
                }
                Token::Number(number)
            }
            c if c.is_alphabetic() || c == '_' => {
                let mut word = String::from(c);
                while let Some(next) =
                    chars.next_if(|c| c.is_alphanumeric() || matches!(c, '_' | '$'))
                {
                    word.push(next);
                }
                Token::Word(word)
            }
            c => return Err(format!("`{c}` is not expected")),
        };
        tokens.push(token);
    }
    Ok(tokens)
}

struct Tokens(std::iter::Peekable<std::vec::IntoIter<Token>>);

impl Tokens {
    fn condition(&mut self) -> Result<Condition, String> {
        let column = match self.0.next() {
            Some(Token::Word(column) | Token::Name(column)) => column,
            Some(token) => return Err(format!("a column is expected before {token}")),
            None => return Err("a column is expected at the end".to_owned()),
        };
        let test = match self.0.next() {
            Some(Token::Sign(sign)) => {
                let operator = match sign {
                    "=" => Operator::Equal,
                    "!=" => Operator::NotEqual,
                    "<" => Operator::Less,
                    "<=" => Operator::LessOrEqual,
                    ">" => Operator::Greater,
                    ">=" => Operator::GreaterOrEqual,
                    sign => return Err(format!("a comparison is expected in place of `{sign}`")),
                };
                Test::Compare(operator, self.literal()?)
            }
            Some(token) if token.is_word("in") => Test::In(self.list()?),
            Some(token) if token.is_word("not") => {
                self.word("in")?;
                Test::NotIn(self.list()?)
            }
            Some(token) if token.is_word("is") => {
                let not = self.0.next_if(|token| token.is_word("not")).is_some();
                self.word("null")?;
                if not { Test::NotNull } else { Test::Null }
            }
            _ => return Err(format!("a comparison is expected behind `{column}`")),
        };
        Ok(Condition { column, test })
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        match self.0.next() {
            Some(token) if token.is_word(word) => Ok(()),
            _ => Err(format!("`{word}` is expected")),
        }
    }

    fn literal(&mut self) -> Result<Literal, String> {
        match self.0.next() {
            Some(Token::Text(text)) => Ok(Literal::Text(text)),
            Some(Token::Number(number)) => Ok(Literal::Number(number)),
            Some(token) if token.is_word("true") => Ok(Literal::Bool(true)),
            Some(token) if token.is_word("false") => Ok(Literal::Bool(false)),
            Some(token) if token.is_word("null") => {
                Err("a comparison with null is never true; write `is null`".to_owned())
            }
            Some(token) => Err(format!(
                "a text in single quotes, a number, true or false is expected in place of {token}"
            )),
            None => Err("a value is expected at the end".to_owned()),
        }
    }

    fn list(&mut self) -> Result<Vec<Literal>, String> {
        if self.0.next() != Some(Token::Sign("(")) {
            return Err("`(` is expected behind `in`".to_owned());
        }
        let mut list = vec![self.literal()?];
        loop {
            match self.0.next() {
                Some(Token::Sign(",")) => list.push(self.literal()?),
                Some(Token::Sign(")")) => return Ok(list),
                _ => return Err("`,` or `)` is expected in the list".to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
