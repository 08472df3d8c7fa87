//! An error as one line.
//!
//! Input: an error with its causes. Output: their texts, each once.

use std::error::Error as StdError;

/// The texts of an error and its causes. A cause that the text above it repeats is left out.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let said = of_database(error);
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

/// What an error of a database says, where the driver's words mislead.
fn of_database(error: &(dyn StdError + 'static)) -> Option<String> {
    let server = match error.downcast_ref::<sqlx::Error>()? {
        sqlx::Error::PoolTimedOut => return Some(NO_CONNECTION.to_owned()),
        sqlx::Error::Database(server) => server,
        _ => return None,
    };
    let (text, message) = (server.to_string(), server.message());
    // SQLite does not say why.
    if text.starts_with("(code: 14)") {
        return Some(format!("{text}; {NO_FILE}"));
    }
    // The line is one of PostgreSQL's own source, and reads as one of the reader's file.
    let rest = text.strip_prefix(message)?;
    rest.starts_with(" at line ")
        .then(|| format!("error returned from database: {message}"))
}

/// A pool tries again until its time is over, and then does not say what each try has met.
const NO_CONNECTION: &str = "the database gave no connection in time; look whether it runs, at its host and port, and at \
    how many connections it takes";

const NO_FILE: &str = "look that its folder is there, and that this user may write into it";

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
