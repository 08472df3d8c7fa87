//! Texts that people read, kept short.
//!
//! Input: a text, or headers with their sizes. Output: the beginning of the text, or the largest headers and a
//! count of the others.

/// How many names are listed before the rest is only counted.
const NAMES: usize = 3;
/// The longest part of a name that is shown.
const MAX_NAME: usize = 48;

/// The beginning of a text, of so many bytes at most.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Headers by name and size, the largest first: `"a" (900 bytes), "b" (10 bytes) and 3 more`.
pub(crate) fn listed(headers: &[(String, usize)]) -> String {
    let mut sorted: Vec<_> = headers.iter().collect();
    sorted.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let shown = sorted.iter().take(NAMES);
    let shown: Vec<_> = shown
        .map(|(name, size)| format!("{:?} ({size} bytes)", cut(name, MAX_NAME)))
        .collect();
    match headers.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_a_character() {
        assert_eq!(cut("häh", 2), "h");
        assert_eq!(cut("häh", 3), "hä");
        assert_eq!(cut("häh", 100), "häh");
    }

    #[test]
    fn the_largest_are_named_and_the_others_counted() {
        let headers: Vec<_> = (1..=5).map(|n| (format!("h{n}"), n)).collect();
        let text = "\"h5\" (5 bytes), \"h4\" (4 bytes), \"h3\" (3 bytes) and 2 more";

        assert_eq!(listed(&headers), text);
        assert_eq!(listed(&headers[..1]), "\"h1\" (1 bytes)");
    }
}
