//! An error as one line.
//!
//! Input: an error with its causes. Output: their texts, each once.

use std::error::Error as StdError;

/// The texts of an error and its causes. A cause that the text above it repeats is left out.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
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
