//! The characters that the server has for the bytes of its character sets.
//!
//! Input: a connection. Output: [`Charsets`]. The server converts all bytes of each set once, so what is read from the
//! stream is what SELECT gives, without tables of our own.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use mysql_async::{Conn, Error, prelude::Queryable};

use super::charset::{Charsets, Pairs};

/// Also sets that no column has now: a column may have had one when a row was written, and a client may use one.
const DOUBLES: &str = "SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS WHERE MAXLEN = 2 AND \
     CHARACTER_SET_NAME <> 'ucs2'";

const SINGLES: &str = "SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS WHERE MAXLEN = 1 AND \
     CHARACTER_SET_NAME <> 'binary'";

/// The largest question for the pairs of a set. A server that takes less is not asked for them.
const LARGEST: u64 = 256 << 10;

/// The server's character sets. It takes questions of `most` bytes.
pub(super) async fn charsets(conn: &mut Conn, most: u64) -> Result<Charsets, Error> {
    // Collations of newer servers are only in this view, and older ones have no numbers in it.
    let newer = conn
        .query::<(u16, String), _>(
            "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY",
        )
        .await;
    let collations = match newer {
        Ok(collations) => collations,
        Err(_) => {
            conn.query(
                "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS WHERE ID IS NOT NULL",
            )
            .await?
        }
    };
    let mut singles = HashMap::new();
    let all: Vec<u8> = (0..=255).collect();
    for name in names(conn, SINGLES).await? {
        let characters = converted(conn, &name, &all).await?;
        if characters.len() == 256 {
            singles.insert(name, Arc::from(characters));
        }
    }
    let mut doubles = HashMap::new();
    let asked = match most < LARGEST {
        true => Vec::new(),
        false => names(conn, DOUBLES).await?,
    };
    for name in asked {
        if let Some(pairs) = pairs(conn, &name).await? {
            doubles.insert(name, Arc::new(pairs));
        }
    }
    Ok(Charsets::new(collations, &singles, &doubles))
}

/// Names of sets, as they can be written into a statement.
async fn names(conn: &mut Conn, query: &str) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = conn.query(query).await?;
    names.retain(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    Ok(names)
}

/// What the server makes of bytes in a character set.
async fn converted(conn: &mut Conn, charset: &str, bytes: &[u8]) -> Result<Vec<char>, Error> {
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(hex, "{byte:02X}");
    }
    let query = format!("SELECT HEX(CONVERT(CONVERT(X'{hex}' USING {charset}) USING utf32))");
    let hex: Option<String> = conn
        .query_first::<Option<String>, _>(query)
        .await?
        .flatten();
    let characters = hex.as_deref().unwrap_or_default().as_bytes().chunks(8);
    Ok(characters
        .map(|digits| {
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            u32::from_str_radix(digits, 16)
                .ok()
                .and_then(char::from_u32)
                .unwrap_or(char::REPLACEMENT_CHARACTER)
        })
        .collect())
}

/// All characters of one and two bytes. Each is asked for with the end of a line behind it, which is part of no
/// character, so that one that is not there does not move the others.
async fn pairs(conn: &mut Conn, charset: &str) -> Result<Option<Pairs>, Error> {
    const END: u8 = b'\n';
    let one: Vec<u8> = (0..=255_u8)
        .flat_map(|byte| [if byte == END { b'?' } else { byte }, END])
        .collect();
    let two: Vec<u8> = (Pairs::FIRST..=255)
        .flat_map(|first| (Pairs::SECOND..=255).flat_map(move |second| [first, second, END]))
        .collect();
    let mut found = Vec::new();
    for (bytes, width) in [(&one, 1), (&two, 2)] {
        let characters = converted(conn, charset, bytes).await?;
        let lines: Vec<&[char]> = characters.split(|&character| character == '\n').collect();
        let known: Vec<Option<char>> = lines
            .iter()
            .zip(bytes.chunks(width + 1))
            .map(|(line, bytes)| match (*line, bytes) {
                // A question mark stands for what is not there, and for itself.
                (['?'], [b'?', ..]) => Some('?'),
                (['?'] | [char::REPLACEMENT_CHARACTER], _) => None,
                ([character], _) => Some(*character),
                _ => None,
            })
            .collect();
        found.push(known);
    }
    let (Some(pairs), Some(mut singles)) = (found.pop(), found.pop()) else {
        return Ok(None);
    };
    // The end of a line could not be asked for.
    if let Some(end) = singles.get_mut(usize::from(END)) {
        *end = Some('\n');
    }
    Ok((singles.len() == 256).then_some(Pairs { singles, pairs }))
}
