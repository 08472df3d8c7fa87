//! A payload in a form that a person or a program can read.
//!
//! Input: the bytes of a payload and its content type. Output: JSON where the payload is msgpack or JSON, with every
//! number exact; otherwise text; otherwise base64.

mod msgpack;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;

use super::text::harmless;

/// A payload as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct PayloadView {
    /// The payload; a string in base64 where `payload_as` says so.
    payload: Box<RawValue>,
    /// How it was read: `msgpack`, `json`, `text` or `base64`.
    payload_as: &'static str,
    /// Its length in bytes as it is stored.
    payload_bytes: usize,
}

impl PayloadView {
    /// Reads a payload.
    pub(crate) fn new(payload: &[u8], content_type: &str) -> Self {
        let (payload_as, shown) = read(payload, content_type);
        Self {
            payload: shown.unwrap_or_else(|| RawValue::NULL.to_owned()),
            payload_as,
            payload_bytes: payload.len(),
        }
    }

    /// On one line, for a person.
    pub(crate) fn text(&self) -> String {
        match self.payload_as {
            "text" | "base64" => {
                harmless(&serde_json::from_str::<String>(self.payload.get()).unwrap_or_default())
            }
            _ => harmless(self.payload.get()),
        }
    }

    /// How it was read.
    pub(crate) fn form(&self) -> &'static str {
        self.payload_as
    }

    pub(crate) fn bytes(&self) -> usize {
        self.payload_bytes
    }
}

/// Bytes in base64.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn read(payload: &[u8], content_type: &str) -> (&'static str, Option<Box<RawValue>>) {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is = |wanted: &str| essence.eq_ignore_ascii_case(wanted);
    if (is("application/msgpack") || is("application/x-msgpack"))
        && let Some(json) = msgpack::to_json(payload)
    {
        return ("msgpack", RawValue::from_string(json).ok());
    }
    let Ok(text) = std::str::from_utf8(payload) else {
        return ("base64", quoted(&base64(payload)));
    };
    let is_json = is("application/json") || essence.ends_with("+json");
    if is_json && let Some(json) = compact(text) {
        return ("json", Some(json));
    }
    ("text", quoted(text))
}

fn quoted(text: &str) -> Option<Box<RawValue>> {
    let json = serde_json::to_string(text).ok()?;
    RawValue::from_string(json).ok()
}

/// JSON without the spaces and line breaks between its tokens, and otherwise as it is: numbers keep all digits, keys
/// that come twice stay.
fn compact(text: &str) -> Option<Box<RawValue>> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let (mut in_string, mut escaped) = (false, false);
    let kept = text.chars().filter(|c| {
        if in_string {
            (in_string, escaped) = (*c != '"' || escaped, *c == '\\' && !escaped);
            return true;
        }
        in_string = *c == '"';
        !c.is_ascii_whitespace()
    });
    RawValue::from_string(kept.collect()).ok()
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    fn view(payload: &[u8], content_type: &str) -> (String, &'static str) {
        let view = PayloadView::new(payload, content_type);
        (view.payload.get().to_owned(), view.payload_as)
    }

    #[test]
    fn json_is_one_line_and_keeps_its_numbers() {
        let text = "{ \"a b\" : 12345678901234567890123.10,\n \"c\": \" \\\" \\\\\", \"c\": [ ] }";
        let (shown, form) = view(text.as_bytes(), "application/json; charset=utf-8");
        assert_eq!(
            shown,
            "{\"a b\":12345678901234567890123.10,\"c\":\" \\\" \\\\\",\"c\":[]}"
        );
        assert_eq!(form, "json");
    }

    #[test]
    fn msgpack_is_shown_as_json() {
        #[derive(Serialize)]
        struct Order {
            id: u64,
            debt: i64,
            name: &'static str,
        }
        let order = Order {
            id: u64::MAX,
            debt: i64::MIN,
            name: "注文",
        };
        let bytes = rmp_serde::to_vec_named(&order).expect("msgpack");
        let (shown, form) = view(&bytes, "application/msgpack");
        assert_eq!(
            shown,
            "{\"id\":18446744073709551615,\"debt\":-9223372036854775808,\"name\":\"注文\"}"
        );
        assert_eq!(form, "msgpack");
    }

    #[test]
    fn what_is_not_what_it_says_is_shown_as_text_or_base64() {
        assert_eq!(view(b"{", "application/json"), ("\"{\"".into(), "text"));
        assert_eq!(
            view(b"\xc1\xff", "application/msgpack"),
            ("\"wf8=\"".into(), "base64")
        );
        assert_eq!(view(b"\x01\x01", "application/msgpack").1, "text");
        assert_eq!(view(b"hi", ""), ("\"hi\"".into(), "text"));
    }

    #[test]
    fn a_hostile_payload_is_harmless_for_a_person() {
        let view = PayloadView::new(b"\x1b[2J", "text/plain");
        assert_eq!(view.text(), "\\u{1b}[2J");
    }
}
