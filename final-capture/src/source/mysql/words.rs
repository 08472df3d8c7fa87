//! Cuts the text of a statement into words.
//!
//! Input: SQL text. Output: its words, quoted names and signs, without comments. This is no parser: a statement is
//! never understood beyond its first words.

/// A piece of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// A word as it is written: a keyword or a name.
    Plain(&'a str),
    /// A name in backticks, without them.
    Quoted(String),
    /// A name in double quotes, without them. It may be a text as well: the session decides.
    Doubled(String),
    /// A text, a number, or anything else.
    Sign(char),
}

impl Word<'_> {
    /// Whether it is that keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Word::Plain(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// The words of a statement.
#[derive(Debug, Clone)]
pub(super) struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// Without spaces and comments. What a server runs of a comment, as in `/*!40101 SET …*/`, is kept.
    fn trimmed(&self) -> &'a str {
        let mut text = self.0;
        loop {
            text = text.trim_start();
            let after = if let Some(comment) = text.strip_prefix("/*") {
                match comment
                    .strip_prefix("M!")
                    .or_else(|| comment.strip_prefix('!'))
                {
                    Some(run) => Some(run.trim_start_matches(|digit: char| digit.is_ascii_digit())),
                    None => Some(comment.split_once("*/").map_or("", |(_, after)| after)),
                }
            } else if let Some(end) = text.strip_prefix("*/") {
                Some(end)
            } else if text.starts_with('#') || is_dashes(text) {
                Some(text.split_once('\n').map_or("", |(_, after)| after))
            } else {
                None
            };
            match after {
                Some(after) => text = after,
                None => return text,
            }
        }
    }
}

/// Two dashes begin a comment only before a space.
fn is_dashes(text: &str) -> bool {
    text.strip_prefix("--")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(|next: char| next.is_whitespace()))
}

const fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '$') || !character.is_ascii()
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let text = self.trimmed();
        let first = text.chars().next()?;
        if is_name(first) {
            let end = text.find(|next| !is_name(next)).unwrap_or(text.len());
            let (word, rest) = text.split_at(end);
            self.0 = rest;
            return Some(Word::Plain(word));
        }
        let rest = text.get(first.len_utf8()..).unwrap_or_default();
        if !matches!(first, '`' | '"' | '\'') {
            self.0 = rest;
            return Some(Word::Sign(first));
        }
        // A quote inside is written twice, or in a text behind a backslash.
        let mut name = String::new();
        let mut characters = rest.char_indices().peekable();
        let mut end = rest.len();
        while let Some((at, character)) = characters.next() {
            if character == '\\' && first != '`' {
                characters.next();
            } else if character != first {
                name.push(character);
            } else if characters.next_if(|(_, next)| *next == first).is_some() {
                name.push(first);
            } else {
                end = at + 1;
                break;
            }
        }
        self.0 = rest.get(end..).unwrap_or_default();
        Some(match first {
            '\'' => Word::Sign('\''),
            '"' => Word::Doubled(name),
            _ => Word::Quoted(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_words_but_what_a_server_runs_of_them_is() {
        let words = |text| -> Vec<String> {
            Words::new(text)
                .map(|word| match word {
                    Word::Plain(word) => word.to_owned(),
                    Word::Quoted(name) => format!("`{name}`"),
                    Word::Doubled(name) => format!("\"{name}\""),
                    Word::Sign(sign) => sign.to_string(),
                })
                .collect()
        };
        assert_eq!(
            words("/* a */ -- b\n # c\n Truncate`a``b`"),
            ["Truncate", "`a`b`"]
        );
        assert_eq!(words("/*!40101 TRUNCATE */ t"), ["TRUNCATE", "t"]);
        assert_eq!(words("/*M!100001 x*/"), ["x"]);
        assert_eq!(words("a-- b"), ["a"]);
        assert_eq!(words("a--b"), ["a", "-", "-", "b"]);
        assert_eq!(words(r"'it\'s' ''"), ["'", "'"]);
        assert_eq!(
            words("\"select\" x.größe"),
            ["\"select\"", "x", ".", "größe"]
        );
        assert_eq!(words("/* open"), [] as [&str; 0]);
        assert_eq!(words("'open"), ["'"]);
    }
}
