//! Text that others wrote, on a terminal.
//!
//! Input: topics, keys, reasons and payloads, which may have any characters. Output: text whose every character
//! takes the place that it seems to take, and that commands no terminal.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// Writes each character out that a terminal obeys or does not show: controls, and the invisible characters that
/// turn or hide what stands beside them.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if commands(c) => {
                // Writing to a String cannot fail.
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Whether a terminal does something else than to show a character of its own.
pub(crate) fn commands(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// How many columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// The text, if it fits into so many columns; else as much of it as fits beside the sign that something is missing.
pub(crate) fn cut(text: &str, columns_at_most: usize) -> String {
    if width(text) <= columns_at_most {
        return text.to_owned();
    }
    let mut left = columns_at_most.saturating_sub(1);
    let mut shown: String = text
        .chars()
        .take_while(|c| {
            let fits = columns(*c) <= left;
            left = left.saturating_sub(columns(*c));
            fits
        })
        .collect();
    if columns_at_most > 0 {
        shown.push('…');
    }
    shown
}

fn columns(c: char) -> usize {
    c.width().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_a_terminal_are_written_out() {
        let hostile = "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31mred\r\n\u{202e}txt.exe\u{200b}\u{7f}";
        let shown = harmless(hostile);
        assert!(!shown.chars().any(commands), "{shown:?}");
        assert!(shown.starts_with("\\u{1b}[2J\\u{1b}]0;title\\u{7}\\u{9b}31mred\\r\\n\\u{202e}"));
        assert_eq!(harmless("größe 注文 🦀"), "größe 注文 🦀");
    }

    #[test]
    fn a_wide_character_is_never_cut_in_two() {
        assert_eq!(width("注文"), 4);
        assert_eq!(cut("注文です", 8), "注文です");
        assert_eq!(cut("注文です", 7), "注文で…");
        assert_eq!(cut("注文です", 6), "注文…");
        assert_eq!(cut("e\u{301}te\u{301}", 3), "e\u{301}te\u{301}");
        assert_eq!(cut("abc", 0), "");
    }
}
