//! Texts of the columns' character sets as UTF-8.
//!
//! Input: the bytes of a text and the collation of its column. State: for each collation of the server its character
//! set, and for each set of one or two bytes the characters that the server itself has for them, asked at the start.
//! Output: UTF-8. So a text from the stream is the text that SELECT gives.

use std::{collections::HashMap, sync::Arc};

use super::wire::CannotRead;
use crate::value::Value;

/// The collation of bytes without a character set.
pub(super) const BINARY: u16 = 63;

/// How texts of a character set are read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Charset {
    /// Bytes.
    Binary,
    /// Texts that are UTF-8 already, of up to so many bytes for a character.
    Utf8(u8),
    /// One byte for a character.
    Single {
        characters: Arc<[char]>,
        /// Whether the first half is that of ASCII.
        ascii: bool,
    },
    /// One or two bytes for a character.
    Double(Arc<Pairs>),
    /// Two bytes for a character, or four for one of a surrogate pair.
    Utf16 {
        /// Whether the low byte comes first.
        low_first: bool,
    },
    /// Four bytes for a character.
    Utf32,
    /// One that we cannot read. It matters only if a captured column has it.
    Unknown(Arc<str>),
}

impl Charset {
    /// The set of these 256 characters.
    fn single(characters: Arc<[char]>) -> Self {
        let ascii = characters
            .iter()
            .zip(0..128_u8)
            .all(|(&character, byte)| character == char::from(byte));
        Self::Single { characters, ascii }
    }

    /// How many bytes a character takes at most.
    pub(super) fn widest(&self) -> u16 {
        match self {
            Self::Binary | Self::Single { .. } => 1,
            Self::Utf8(bytes) => u16::from(*bytes),
            Self::Double(_) | Self::Utf16 { .. } | Self::Unknown(_) => 2,
            Self::Utf32 => 4,
        }
    }

    /// Reads a text. One that is not of its character set becomes [`Value::Invalid`], with a mark for each bad place.
    pub(super) fn value(&self, bytes: &[u8]) -> Result<Value, CannotRead> {
        Ok(match self.text(bytes)? {
            (text, true) => Value::Text(text),
            (text, false) => Value::Invalid(text),
        })
    }

    /// Reads a text, and tells whether all of it was of the character set.
    pub(super) fn text(&self, bytes: &[u8]) -> Result<(Arc<str>, bool), CannotRead> {
        match self {
            Self::Utf8(_) | Self::Binary => Ok(match std::str::from_utf8(bytes) {
                Ok(text) => (text.into(), true),
                Err(_) => (String::from_utf8_lossy(bytes).into(), false),
            }),
            Self::Single { characters, ascii } => {
                // Most texts are ASCII, and such a text is UTF-8 as it is.
                if *ascii
                    && bytes.is_ascii()
                    && let Ok(text) = std::str::from_utf8(bytes)
                {
                    return Ok((text.into(), true));
                }
                Ok(single(characters, bytes))
            }
            Self::Double(pairs) => Ok(pairs.text(bytes)),
            Self::Utf16 { low_first } => {
                let pairs = bytes.chunks(2).map(|pair| match *pair {
                    [a, b] if *low_first => u16::from_le_bytes([a, b]),
                    [a, b] => u16::from_be_bytes([a, b]),
                    // Half a character: half of a surrogate pair is no text either.
                    _ => 0xd800,
                });
                Ok(marked(char::decode_utf16(pairs).map(Result::ok)))
            }
            Self::Utf32 => Ok(marked(bytes.chunks(4).map(|four| match *four {
                [a, b, c, d] => char::from_u32(u32::from_be_bytes([a, b, c, d])),
                _ => None,
            }))),
            Self::Unknown(name) => Err(CannotRead(format!(
                "a column has the character set {name}, which cannot be read. Convert the column to utf8mb4, or leave its \
                 table out"
            ))),
        }
    }
}

/// The characters of a set of one or two bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pairs {
    /// The 256 single bytes.
    pub(super) singles: Vec<Option<char>>,
    /// For each first byte from [`Pairs::FIRST`] on, its characters by the second byte from [`Pairs::SECOND`] on.
    pub(super) pairs: Vec<Option<char>>,
}

impl Pairs {
    pub(super) const FIRST: u8 = 0x80;
    pub(super) const SECOND: u8 = 0x30;
    /// How many second bytes there are.
    const SECONDS: usize = 256 - Self::SECOND as usize;

    fn pair(&self, first: u8, second: u8) -> Option<char> {
        let row = usize::from(first.checked_sub(Self::FIRST)?);
        let place = usize::from(second.checked_sub(Self::SECOND)?);
        *self.pairs.get(row * Self::SECONDS + place)?
    }

    fn text(&self, bytes: &[u8]) -> (Arc<str>, bool) {
        let mut rest = bytes;
        marked(std::iter::from_fn(|| {
            let (&first, after) = rest.split_first()?;
            let pair = after
                .split_first()
                .and_then(|(&second, after)| Some((self.pair(first, second)?, after)));
            Some(match pair {
                Some((character, after)) => {
                    rest = after;
                    Some(character)
                }
                None => {
                    rest = after;
                    self.singles.get(usize::from(first)).copied().flatten()
                }
            })
        }))
    }
}

fn single(characters: &[char], bytes: &[u8]) -> (Arc<str>, bool) {
    marked(
        bytes
            .iter()
            .map(|&byte| characters.get(usize::from(byte)).copied()),
    )
}

fn marked(characters: impl Iterator<Item = Option<char>>) -> (Arc<str>, bool) {
    let mut all = true;
    let text: String = characters
        .map(|character| {
            character.unwrap_or_else(|| {
                all = false;
                char::REPLACEMENT_CHARACTER
            })
        })
        .collect();
    (text.into(), all)
}

/// The character sets of a server by the numbers of their collations.
#[derive(Clone, Debug, Default)]
pub(super) struct Charsets(HashMap<u16, Charset>);

impl Charsets {
    /// Takes the server's collations with the names of their sets, and the characters of each set of single bytes.
    pub(super) fn new(
        collations: impl IntoIterator<Item = (u16, String)>,
        singles: &HashMap<String, Arc<[char]>>,
        doubles: &HashMap<String, Arc<Pairs>>,
    ) -> Self {
        let charset = |name: String| match name.as_str() {
            "binary" => Charset::Binary,
            "utf8mb4" => Charset::Utf8(4),
            "utf8mb3" | "utf8" => Charset::Utf8(3),
            "ucs2" | "utf16" => Charset::Utf16 { low_first: false },
            "utf16le" => Charset::Utf16 { low_first: true },
            "utf32" => Charset::Utf32,
            other => match (singles.get(other), doubles.get(other)) {
                (Some(characters), _) => Charset::single(Arc::clone(characters)),
                (None, Some(pairs)) => Charset::Double(Arc::clone(pairs)),
                (None, None) => Charset::Unknown(name.into()),
            },
        };
        Self(
            collations
                .into_iter()
                .map(|(collation, name)| (collation, charset(name)))
                .collect(),
        )
    }

    /// The character set of a collation.
    pub(super) fn of(&self, collation: u16) -> Charset {
        match self.0.get(&collation) {
            Some(charset) => charset.clone(),
            None if collation == BINARY => Charset::Binary,
            None => Charset::Unknown(format!("of collation {collation}").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latin1() -> Charset {
        let mut characters: Vec<char> = (0..=255).map(char::from).collect();
        characters[0x80] = '€';
        Charset::single(characters.into())
    }

    fn text(charset: &Charset, bytes: &[u8]) -> (String, bool) {
        let (text, all) = charset.text(bytes).unwrap();
        (text.to_string(), all)
    }

    #[test]
    fn a_text_becomes_utf8_by_the_characters_of_its_set() {
        assert_eq!(text(&latin1(), b"\x80\xe4\x81"), ("€ä\u{81}".into(), true));
        assert_eq!(text(&latin1(), b"plain"), ("plain".into(), true));
        let utf16 = |low_first| Charset::Utf16 { low_first };
        assert_eq!(
            text(&utf16(false), &[0, 0xe4, 0xd8, 0x3d, 0xde, 0]),
            ("ä😀".into(), true)
        );
        assert_eq!(text(&utf16(true), &[0xe4, 0]), ("ä".into(), true));
        assert_eq!(text(&Charset::Utf32, &[0, 1, 0xf6, 0]), ("😀".into(), true));
    }

    #[test]
    fn a_set_that_is_not_ascii_in_its_first_half_is_read_by_its_own_characters() {
        let mut characters: Vec<char> = (0..=255).map(char::from).collect();
        characters[usize::from(b'{')] = 'ä';
        assert_eq!(
            text(&Charset::single(characters.into()), b"{"),
            ("ä".into(), true)
        );
    }

    #[test]
    fn two_bytes_are_one_character_where_the_server_says_so() {
        let mut pairs = Pairs {
            singles: (0..=255_u8)
                .map(|byte| byte.is_ascii().then(|| char::from(byte)))
                .collect(),
            pairs: vec![None; 128 * Pairs::SECONDS],
        };
        // The second byte of a pair may look like a backslash.
        pairs.pairs[usize::from(0x95_u8 - 0x80) * Pairs::SECONDS + usize::from(b'\\' - 0x30)] =
            Some('表');
        let double = Charset::Double(Arc::new(pairs));
        assert_eq!(text(&double, b"a\x95\\b"), ("a表b".into(), true));
        assert_eq!(text(&double, b"\x95"), ("\u{fffd}".into(), false));
        assert_eq!(
            text(&double, b"\x95\x96\\"),
            ("\u{fffd}\u{fffd}\\".into(), false)
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_marked_and_told() {
        assert_eq!(
            text(&Charset::Utf8(4), b"a\xff"),
            ("a\u{fffd}".into(), false)
        );
        assert_eq!(
            text(&Charset::Utf32, &[0, 0x11, 0, 0]),
            ("\u{fffd}".into(), false)
        );
        assert!(matches!(
            Charset::Utf8(4).value(b"\xff").unwrap(),
            Value::Invalid(_)
        ));
        assert!(Charset::Unknown("ujis".into()).value(b"a").is_err());
    }
}
