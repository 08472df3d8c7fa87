//! Texts as Go writes them in JSON.

use std::fmt::Write as _;

/// A text as json-iterator writes it: characters that HTML gives a meaning are escaped, and bytes that are no UTF-8 are
/// replaced.
pub(super) fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        let mut plain = 0;
        let valid = chunk.valid();
        for (at, c) in valid.char_indices() {
            let escape = match c {
                '"' => "\\\"".to_owned(),
                '\\' => "\\\\".to_owned(),
                '\n' => "\\n".to_owned(),
                '\r' => "\\r".to_owned(),
                '\t' => "\\t".to_owned(),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => unicode(c),
                _ => continue,
            };
            out.extend(valid.get(plain..at).unwrap_or_default().as_bytes());
            out.extend(escape.as_bytes());
            plain = at + c.len_utf8();
        }
        out.extend(valid.get(plain..).unwrap_or_default().as_bytes());
        out.extend(chunk.invalid().iter().flat_map(|_| b"\\ufffd"));
    }
    out.push(b'"');
}

fn unicode(c: char) -> String {
    let mut text = String::new();
    // Writing into a text cannot fail.
    let _ = write!(text, "\\u{:04x}", u32::from(c));
    text
}
