//! Repair by a message on the bus.
//!
//! The message has an id that is made of the repair and of the content, so a repeat after a kill has the same one. Its key
//! is the key of the row, so messages about one row come in their order.

use std::fmt::Write;

use final_core::Error;
use uuid::Uuid;

use super::{Mended, Wanted, content_id};
use crate::{
    error::{Reconciled, causes},
    form::here::readable,
    job::publisher::Publisher,
    pair::Sides,
};

/// A longer key is cut and gets a hash, so that it fits into a header and into a column of each database.
const MOST_KEY: usize = 255;

pub(super) async fn mend(
    bus: &dyn Publisher,
    topic: &str,
    wanted: &Wanted<'_>,
) -> Reconciled<Mended> {
    let Some(body) = wanted.body().await? else {
        return Ok(Mended::Changed);
    };
    let key = key(wanted.sides, &wanted.repair.key());
    let id = content_id(wanted.repair, &body.to_string());
    let published = bus.publish(topic, id, key, &body).await;
    Ok(match published {
        Ok(()) => Mended::Done,
        // It waits in the outbox since an earlier try.
        Err(error) if is_there(&error) => Mended::Done,
        Err(error) => Mended::Failed {
            error: format!("the message could not be published: {}", causes(&error)),
            after: None,
        },
    })
}

/// The values of the row's key, with commas between them.
fn key(sides: &Sides, row: &crate::form::Row) -> String {
    let forms = sides.key_forms();
    let mut key = String::new();
    for (form, field) in forms.iter().zip(row.fields(forms).unwrap_or_default()) {
        if !key.is_empty() {
            key.push(',');
        }
        append(&mut key, &readable(*form, field.unwrap_or_default()));
    }
    shortened(key)
}

/// Without the comma between values, and without control characters, which PostgreSQL's texts cannot all hold.
fn append(key: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            ',' | '\\' => key.extend(['\\', letter]),
            letter if letter.is_control() => {
                // Writing into a text cannot fail.
                let _ = write!(key, "\\u{{{:x}}}", u32::from(letter));
            }
            letter => key.push(letter),
        }
    }
}

fn shortened(mut key: String) -> String {
    if key.len() <= MOST_KEY {
        return key;
    }
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes());
    let mut end = MOST_KEY - 37;
    while !key.is_char_boundary(end) {
        end -= 1;
    }
    key.truncate(end);
    let _ = write!(key, "#{hash}");
    key
}

/// Whether there is a message with this id.
fn is_there(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.downcast_ref::<sqlx::Error>();
        let said = said.and_then(sqlx::Error::as_database_error);
        if said.is_some_and(|said| said.is_unique_violation()) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_text_that_every_database_can_hold() {
        let mut key = String::new();
        append(&mut key, "a,b\\c\0é");
        assert_eq!(key, "a\\,b\\\\c\\u{0}é");

        let long = |last: &str| shortened("é".repeat(200) + last);
        assert!(long("a").len() <= MOST_KEY);
        assert_ne!(long("a"), long("b"));
    }
}
