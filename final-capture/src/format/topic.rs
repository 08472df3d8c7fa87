//! Topics of tables.
//!
//! Input: a table's name and a template such as `cdc.{schema}.{table}`. Output: the topic.

use std::sync::Arc;

use super::TopicFn;
use crate::table::TableName;

/// The topics of [`EncoderOptions::new`](super::EncoderOptions::new).
pub const DEFAULT_TOPIC: &str = "cdc.{schema}.{table}";

/// Topics by a template, in which `{schema}` and `{table}` are replaced by the table's names.
///
/// What a topic cannot have is written as in URLs: a point in a name becomes `%2E`, and `*`, `#`, `%`, blanks and control
/// characters likewise. So two tables never share a topic if the template has both names and a point between them. With
/// `{schema}_{table}` the tables `a_b.c` and `a.b_c` share one.
///
/// ```
/// use final_capture::{format::topic_template, table::TableName};
///
/// let topic = topic_template("cdc.{schema}.{table}").unwrap();
/// let name = |schema: &str, table: &str| TableName { schema: schema.into(), table: table.into() };
/// assert_eq!(topic(&name("shop", "holes")), "cdc.shop.holes");
/// assert_eq!(topic(&name("shop", "old.holes")), "cdc.shop.old%2Eholes");
/// ```
///
/// # Errors
///
/// The template has braces around something else, names no table, or has something that no topic can have.
pub fn topic_template(template: &str) -> Result<TopicFn, TopicError> {
    let pieces = pieces(template)?;
    Ok(Arc::new(move |name: &TableName| {
        let mut topic = String::new();
        for piece in &pieces {
            match piece {
                Piece::Text(text) => topic.push_str(text),
                Piece::Schema => escape(&name.schema, &mut topic),
                Piece::Table => escape(&name.table, &mut topic),
            }
        }
        topic
    }))
}

/// A template that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{template}` is no template of topics: {why}")]
pub struct TopicError {
    /// The template.
    pub template: String,
    /// What is wrong with it.
    pub why: &'static str,
}

enum Piece {
    Text(String),
    Schema,
    Table,
}

fn pieces(template: &str) -> Result<Vec<Piece>, TopicError> {
    let wrong = |why| TopicError {
        template: template.to_owned(),
        why,
    };
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        pieces.push(Piece::Text(before.to_owned()));
        let (name, end) = after
            .split_once('}')
            .ok_or_else(|| wrong("a brace is not closed"))?;
        pieces.push(match name {
            "schema" => Piece::Schema,
            "table" => Piece::Table,
            _ => return Err(wrong("only `{schema}` and `{table}` are replaced")),
        });
        rest = end;
    }
    if rest.contains('}') {
        return Err(wrong("a brace is not opened"));
    }
    pieces.push(Piece::Text(rest.to_owned()));
    if !pieces.iter().any(|piece| matches!(piece, Piece::Table)) {
        return Err(wrong("without `{table}` all tables would share a topic"));
    }
    // A name has no fault of its own, so what is wrong with a topic of short names is wrong with each.
    let shortest = template.replace("{schema}", "s").replace("{table}", "t");
    match fault(&shortest) {
        Some(why) => Err(wrong(why)),
        None => Ok(pieces),
    }
}

fn escape(name: &str, topic: &mut String) {
    for c in name.chars() {
        if matches!(c, '.' | '*' | '#' | '%') || c.is_control() || c.is_whitespace() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                topic.push('%');
                for half in [byte >> 4, byte & 15] {
                    topic.extend(char::from_digit(half.into(), 16).map(|c| c.to_ascii_uppercase()));
                }
            }
        } else {
            topic.push(c);
        }
    }
}

/// Why a topic can be neither published to nor subscribed. None if it can.
pub(super) fn fault(topic: &str) -> Option<&'static str> {
    if topic.trim().is_empty() {
        Some("it is empty or blank")
    } else if topic.len() > 255 {
        Some("it is longer than 255 bytes")
    } else if topic.chars().any(char::is_control) {
        Some("it contains a control character")
    } else if topic.starts_with("amq.") {
        Some("names starting with `amq.` are reserved by RabbitMQ")
    } else if topic.contains(['*', '#']) {
        Some("`*` and `#` are wildcards, so nobody could subscribe it")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(template: &str, schema: &str, table: &str) -> String {
        topic_template(template).unwrap()(&TableName {
            schema: schema.into(),
            table: table.into(),
        })
    }

    #[test]
    fn names_that_no_topic_can_have_are_escaped() {
        assert_eq!(topic("dbsync{table}", "shop", "holes"), "dbsyncholes");
        assert_eq!(
            topic(DEFAULT_TOPIC, "a*b", "c#d %\n"),
            "cdc.a%2Ab.c%23d%20%25%0A"
        );
        assert_eq!(topic(DEFAULT_TOPIC, "a\u{a0}", "é"), "cdc.a%C2%A0.é");
        assert!(fault(&topic(DEFAULT_TOPIC, "a*b", "c#d %\n")).is_none());
    }

    #[test]
    fn two_tables_never_share_a_topic_if_a_point_is_between_their_names() {
        let of = |schema, table| topic(DEFAULT_TOPIC, schema, table);
        assert_ne!(of("a.b", "c"), of("a", "b.c"));
        assert_ne!(of("a", "%2E"), of("a", "."));
        // What the docs say of other templates.
        let of = |schema, table| topic("{schema}_{table}", schema, table);
        assert_eq!(of("a_b", "c"), of("a", "b_c"));
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for template in [
            "cdc",
            "cdc.{schema}",
            "cdc.{name}",
            "{table",
            "table}",
            "{table}}",
            "cdc.*.{table}",
            "amq.{table}",
            &format!("{}{{table}}", "x".repeat(255)),
        ] {
            assert!(topic_template(template).is_err(), "{template}");
        }
    }

    #[test]
    fn topics_that_cannot_be_subscribed_are_faulty() {
        for topic in ["", " ", "a*", "a#", "a\n", "amq.x", &"x".repeat(256)] {
            assert!(fault(topic).is_some(), "{topic:?}");
        }
        assert!(fault(&"x".repeat(255)).is_none());
    }
}
