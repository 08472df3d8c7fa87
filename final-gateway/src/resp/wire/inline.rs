//! Inline requests: a line of words, as a person types them.
//!
//! Words stand between blanks. `"…"` takes blanks and the escapes `\n`, `\r`, `\t`, `\b`, `\a`, `\xHH`; `'…'` takes
//! everything but `\'`.

use bytes::Bytes;

use super::error::WireError;

/// Takes a line apart, at most into so many words.
pub(super) fn words(line: &[u8], most: usize) -> Result<Vec<Bytes>, WireError> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        if words.len() == most {
            return Err(WireError::Words);
        }
        let (word, behind) = word(rest)?;
        words.push(Bytes::from(word));
        rest = behind.trim_ascii_start();
    }
    Ok(words)
}

/// The first word, and what stands behind it.
fn word(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), WireError> {
    let mut word = Vec::new();
    while let Some((&byte, behind)) = rest.split_first() {
        match byte {
            b'"' | b'\'' => {
                rest = quoted(byte, behind, &mut word)?;
                // `"a"b` would be a typing error, not two words.
                return match rest.first() {
                    Some(next) if !next.is_ascii_whitespace() => Err(WireError::Quotes),
                    _ => Ok((word, rest)),
                };
            }
            _ if byte.is_ascii_whitespace() => break,
            _ => word.push(byte),
        }
        rest = behind;
    }
    Ok((word, rest))
}

/// Reads up to the closing quote. Returns what stands behind it.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], WireError> {
    loop {
        rest = match rest {
            [b'\\', b'x', high, low, behind @ ..] if quote == b'"' && is_hex(*high, *low) => {
                word.push(value(*high) << 4 | value(*low));
                behind
            }
            [b'\\', escaped, behind @ ..] if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                behind
            }
            [b'\\', b'\'', behind @ ..] => {
                word.push(b'\'');
                behind
            }
            [byte, behind @ ..] if *byte == quote => return Ok(behind),
            [byte, behind @ ..] => {
                word.push(*byte);
                behind
            }
            [] => return Err(WireError::Quotes),
        };
    }
}

fn is_hex(high: u8, low: u8) -> bool {
    high.is_ascii_hexdigit() && low.is_ascii_hexdigit()
}

fn value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Vec<Vec<u8>>, WireError> {
        let words = words(line.as_bytes(), 4)?;
        Ok(words.iter().map(|word| word.to_vec()).collect())
    }

    #[test]
    fn words_stand_between_blanks_and_quotes_hold_them_together() {
        for (line, expected) in [
            ("  ping ", vec![&b"ping"[..]]),
            ("set k v", vec![b"set", b"k", b"v"]),
            (r#"set k "a b\n\x41\"""#, vec![b"set", b"k", b"a b\nA\""]),
            (r"set k 'a \n\' b'", vec![b"set", b"k", br"a \n' b"]),
            (r#"set "" '' "#, vec![b"set", b"", b""]),
            ("", vec![]),
        ] {
            assert_eq!(read(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn a_quote_that_is_not_closed_is_an_error() {
        for line in [r#"set k "a"#, "set k 'a", r#"set "a"b c"#, r#"set k "a\"#] {
            assert_eq!(read(line), Err(WireError::Quotes), "{line}");
        }
    }

    #[test]
    fn more_words_than_allowed_are_an_error() {
        assert_eq!(read("a b c d e"), Err(WireError::Words));
    }
}
