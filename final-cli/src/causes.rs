//! An error as one line.
//!
//! Input: an error with its causes. Output: their texts, each once.

use std::error::Error as StdError;

/// The texts of an error and its causes. A cause that the text above it repeats is left out.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let said = of_postgres(error);
        // What the driver says below that is the same, with the line.
        cause = error.source().filter(|_| said.is_none());
        let more = said.unwrap_or_else(|| error.to_string());
        if text.is_empty() {
            text = more;
        } else if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
    }
    text
}

/// What PostgreSQL says. The driver adds a line of the server's own source to it, which reads as one of the reader's file.
fn of_postgres(error: &(dyn StdError + 'static)) -> Option<String> {
    let sqlx::Error::Database(server) = error.downcast_ref::<sqlx::Error>()? else {
        return None;
    };
    let message = server.message();
    let is_followed_by_line = server
        .to_string()
        .strip_prefix(message)
        .is_some_and(|rest| rest.starts_with(" at line "));
    is_followed_by_line.then(|| format!("error returned from database: {message}"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let io = io::Error::other(io::Error::other("no such host"));
        assert_eq!(chain(&io), "no such host");
    }
}
