//! A dead letter on its way into the table, in the first form that the database takes.
//!
//! Input: why a message is dead, and the code of each refusal. State: the form. Output: the columns to write.
//!
//! ```text
//!   whole ─▶ plain ─▶ short ─▶ fixed ─▶ escaped (if it has headers) ─▶ bare ─▶ least
//! ```

use std::fmt::Write;

use crate::{broker::Cause, database::limits::plain_text};

/// A letter, and the form in which it is written next.
#[derive(Clone, Debug)]
pub(crate) struct LetterDraft {
    /// Why the message is dead, and how often it was tried.
    why: Cause,
    /// The form that is tried next.
    form: LetterForm,
    /// The message's headers, known once they are needed.
    headers: Option<String>,
    /// Whether these are written in place of those of the row.
    are_replaced: bool,
}

/// The forms of a letter, from the whole one to the least. If the database refuses one, the next is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
enum LetterForm {
    /// Everything as it is.
    Whole,
    /// The reason's beginning, in ASCII.
    Plain,
    /// The same, for a narrow column.
    Short,
    /// The code of the refusal in place of the reason.
    Fixed(String),
    /// The headers in ASCII: JSON can write every character so.
    Escaped,
    /// Neither key nor headers, and a reason that says so.
    Bare,
    /// The same, for a narrow column.
    Least,
}

/// The columns of a letter that depend on its form.
pub(crate) struct LetterColumns {
    /// The reason, as far as the form keeps it.
    pub(crate) reason: String,
    /// Whether the message's key is written. Its headers are then written too, unless they are given here.
    pub(crate) key: bool,
    /// The headers that are written in place of those of the row: in ASCII, or without notes.
    pub(crate) headers: Option<String>,
}

impl LetterDraft {
    /// A letter in its whole form. A NUL in the reason becomes a space, because PostgreSQL cannot store it.
    pub(crate) fn new(why: Cause) -> Self {
        // A reason that was not made by `new` may be too long.
        let reason = Cause::new(why.reason, why.attempts).reason;
        Self {
            why: Cause {
                reason: reason.replace('\0', " "),
                attempts: why.attempts,
            },
            form: LetterForm::Whole,
            headers: None,
            are_replaced: false,
        }
    }

    /// Writes other headers than the row has. `None` if the message has none.
    pub(crate) fn replace_headers(&mut self, headers: Option<String>) {
        // An empty object reads as no headers.
        self.headers = Some(headers.unwrap_or_else(|| "{}".to_owned()));
        self.are_replaced = true;
    }

    /// How often the handler was tried.
    pub(crate) fn attempts(&self) -> u32 {
        self.why.attempts
    }

    /// Whether the next form needs the message's headers.
    pub(crate) fn needs_headers(&self) -> bool {
        matches!(self.form, LetterForm::Fixed(_)) && self.headers.is_none()
    }

    /// Gives the letter the message's headers, if it has any.
    pub(crate) fn set_headers(&mut self, headers: Option<String>) {
        self.headers = headers;
    }

    /// Takes the next form, after the last one was refused with a code. False if there is none.
    pub(crate) fn simplify(&mut self, code: &str) -> bool {
        self.form = match self.form {
            LetterForm::Whole => LetterForm::Plain,
            LetterForm::Plain => LetterForm::Short,
            LetterForm::Short => LetterForm::Fixed(code.to_owned()),
            LetterForm::Fixed(_) if self.headers.is_some() => LetterForm::Escaped,
            LetterForm::Fixed(_) | LetterForm::Escaped => LetterForm::Bare,
            LetterForm::Bare => LetterForm::Least,
            LetterForm::Least => return false,
        };
        true
    }

    /// Takes the last form.
    pub(crate) fn be_simplest(&mut self) {
        self.form = LetterForm::Least;
    }

    /// Takes the first form again.
    pub(crate) fn be_whole(&mut self) {
        self.form = LetterForm::Whole;
    }

    /// The columns in the present form.
    pub(crate) fn parts(&self) -> LetterColumns {
        const LONG: usize = 200;
        const SHORT: usize = 16;
        let plain = |most| plain_text(&self.why.reason, most);
        let reason = match &self.form {
            LetterForm::Whole => self.why.reason.clone(),
            LetterForm::Plain | LetterForm::Escaped => plain(LONG),
            LetterForm::Short => plain(SHORT),
            LetterForm::Fixed(code) => format!("the reason could not be stored (SQLSTATE {code})"),
            LetterForm::Bare => format!("key and headers could not be stored; {}", plain(LONG)),
            LetterForm::Least => "no key, no headers".to_owned(),
        };
        let key = !matches!(self.form, LetterForm::Bare | LetterForm::Least);
        let headers = self.headers.as_deref();
        let headers = match self.form {
            LetterForm::Escaped => headers.map(escaped_json),
            _ if self.are_replaced && key => headers.map(str::to_owned),
            _ => None,
        };
        LetterColumns {
            reason,
            key,
            headers,
        }
    }
}

/// Writes JSON in ASCII. Only strings of JSON can hold other characters, and each becomes its `\u` escape.
fn escaped_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter.is_ascii() {
            text.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut [0; 2]) {
            let _ = write!(text, "\\u{unit:04x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    #[test]
    fn headers_that_are_replaced_are_in_every_form_but_the_last_ones() {
        let mut letter = LetterDraft::new(Cause::new("paiement refusé", 3));
        letter.replace_headers(Some(r#"{"who":"Zoë"}"#.to_owned()));

        let mut headers = vec![letter.parts().headers];
        while letter.simplify("none") {
            headers.push(letter.parts().headers);
        }
        let whole = Some(r#"{"who":"Zoë"}"#.to_owned());
        let ascii = Some(r#"{"who":"Zo\u00eb"}"#.to_owned());
        assert_eq!(
            headers[..4],
            [const { None }; 4].map(|_: Option<()>| whole.clone())
        );
        assert_eq!(headers[4..], [ascii, None, None]);
    }

    #[test]
    fn headers_in_ascii_are_the_same_headers() {
        let headers = Headers::from_iter([("who", "Zoë ✓ 🦀 \"\\u2713\""), ("ñ", "plain")]);
        let json = headers.to_json().unwrap_or_default();

        let escaped = escaped_json(&json);
        assert!(escaped.is_ascii(), "{escaped}");
        assert_eq!(Headers::from_json(Some(&escaped)), Ok(headers));
    }

    #[test]
    fn every_form_is_taken_once_and_the_last_one_fits_twenty_characters() {
        let mut letter = LetterDraft::new(Cause::new("paiement refusé ✓\0", 3));
        letter.set_headers(Some("{}".to_owned()));

        let mut reasons = vec![letter.parts().reason];
        while letter.simplify("none") {
            reasons.push(letter.parts().reason);
        }
        assert_eq!(
            reasons,
            [
                "paiement refusé ✓ ",
                "paiement refus? ? ",
                "paiement refus? ",
                "the reason could not be stored (SQLSTATE none)",
                "paiement refus? ? ",
                "key and headers could not be stored; paiement refus? ? ",
                "no key, no headers",
            ]
        );
    }
}
