//! JSON as Go's encoder writes it, which databus's clients are used to.
//!
//! Input: texts, and values that are JSON already. Output: bytes. `<`, `>`, `&` and the two line separators of Unicode
//! are escaped, and blanks between the parts of a value are left out.

use serde::de::IgnoredAny;

/// Whether bytes are one value of JSON.
pub(crate) fn is_json(bytes: &[u8]) -> bool {
    // The parser passes over what is inside strings.
    std::str::from_utf8(bytes).is_ok() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// Writes a text with its quotes.
pub(super) fn text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.find(needs_escape) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut characters = special.chars();
        match characters.next() {
            Some('"') => out.extend_from_slice(b"\\\""),
            Some('\\') => out.extend_from_slice(b"\\\\"),
            Some('\n') => out.extend_from_slice(b"\\n"),
            Some('\r') => out.extend_from_slice(b"\\r"),
            Some('\t') => out.extend_from_slice(b"\\t"),
            Some(other) => escape(u32::from(other), out),
            None => {}
        }
        rest = characters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

fn needs_escape(character: char) -> bool {
    matches!(
        character,
        '"' | '\\' | '<' | '>' | '&' | '\0'..='\x1f' | '\u{2028}' | '\u{2029}'
    )
}

fn escape(code: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("\\u{code:04x}").as_bytes());
}

/// Writes a value that is JSON, without the blanks between its parts.
pub(super) fn compact(value: &[u8], out: &mut Vec<u8>) {
    let mut is_in_string = false;
    // What was looked at and is to be copied as it is begins here.
    let mut from = 0;
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        let (replaced, length) = match byte {
            b'"' => {
                is_in_string = !is_in_string;
                (None, 1)
            }
            // The escaped character is never the end of the string.
            b'\\' => (None, 2),
            b' ' | b'\t' | b'\r' | b'\n' if !is_in_string => (Some(None), 1),
            b'<' | b'>' | b'&' => (Some(Some(u32::from(*byte))), 1),
            0xe2 => match value.get(at + 1..at + 3) {
                Some([0x80, 0xa8]) => (Some(Some(0x2028)), 3),
                Some([0x80, 0xa9]) => (Some(Some(0x2029)), 3),
                _ => (None, 1),
            },
            _ => (None, 1),
        };
        if let Some(code) = replaced {
            out.extend_from_slice(value.get(from..at).unwrap_or_default());
            if let Some(code) = code {
                escape(code, out);
            }
            from = at + length;
        }
        at += length;
    }
    out.extend_from_slice(value.get(from..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn compacted(value: &str) -> String {
        let mut out = Vec::new();
        compact(value.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_compacted_and_escaped_as_go_does() {
        for (value, expected) in [
            (" { \"a\" : [ 1 , 2.50 ] }\n", r#"{"a":[1,2.50]}"#),
            (r#""a  \" <b> & \\""#, r#""a  \" \u003cb\u003e \u0026 \\""#),
            (
                "\"\u{2028}\u{2029}\u{2027}é\"",
                "\"\\u2028\\u2029\u{2027}é\"",
            ),
            ("1e5", "1e5"),
        ] {
            assert_eq!(compacted(value), expected);
        }
    }

    #[test]
    fn bytes_that_are_no_json_are_not_taken_for_it() {
        for good in [&b"1"[..], b" {} ", b"null", b"\"x\"", &b"[".repeat(3000)] {
            let closed = [
                good,
                &b"]".repeat(if good.len() == 3000 { 3000 } else { 0 }),
            ]
            .concat();
            assert!(is_json(&closed));
        }
        for bad in [&b""[..], b"hello", b"{", b"1 2", b"\"\xff\"", b"\x93\x01"] {
            assert!(!is_json(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_text_is_the_same_when_it_is_read_again(said in any::<String>()) {
            let mut out = Vec::new();
            text(&said, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), said);
        }

        #[test]
        fn a_value_is_the_same_when_it_is_compacted(parts in proptest::collection::vec(any::<(String, i64)>(), 0..5)) {
            let value: Value = parts.into_iter().map(|(name, number)| (name, Value::from(number))).collect();
            let compacted = compacted(&serde_json::to_string_pretty(&value).unwrap());
            prop_assert_eq!(serde_json::from_str::<Value>(&compacted).unwrap(), value);
        }
    }
}
