//! What an endpoint says about a failure, made fit for a log.
//!
//! Input: the bytes of a body, and the secrets of the call. Output: a short text on one line, without control
//! characters and without the secrets. It keeps no state.

/// How much of a body is kept.
pub(crate) const KEPT: usize = 1024;

/// The beginning of the body as text.
///
/// Error pages often repeat the request, headers and all, so the secrets are taken out before the text is cut.
pub(crate) fn excerpt<'a>(body: &[u8], secrets: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::from_utf8_lossy(body).into_owned();
    let mut secrets: Vec<_> = secrets.filter(|secret| secret.len() >= SHORTEST).collect();
    // A secret may be part of another one. The longer one must be found first.
    secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        if text.contains(secret) {
            text = text.replace(secret, "***");
        }
        // The body may end in the middle of it.
        if let Some(start) = cut_off(&text, secret) {
            text.truncate(start);
            text.push_str("***");
        }
    }
    let mut kept = String::new();
    for word in text.split(|sign: char| sign.is_whitespace() || sign.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !kept.is_empty() {
            kept.push(' ');
        }
        kept.extend(word.chars().filter(|sign| !turns(*sign)));
        if kept.len() > KEPT {
            kept.truncate(kept.floor_char_boundary(KEPT));
            kept.push('…');
            break;
        }
    }
    kept
}

/// The text of an error that may quote what others have sent.
pub(crate) fn plain(error: impl std::fmt::Display) -> String {
    excerpt(error.to_string().as_bytes(), std::iter::empty())
}

/// A shorter secret is a word like any other, and hides nothing.
const SHORTEST: usize = 6;

/// Where the text ends with the beginning of the secret.
fn cut_off(text: &str, secret: &str) -> Option<usize> {
    let starts = secret
        .char_indices()
        .map(|(at, _)| at)
        .filter(|at| *at >= SHORTEST);
    let beginnings = starts.rev().filter_map(|at| secret.get(..at));
    beginnings
        .filter(|beginning| text.ends_with(beginning))
        .map(|beginning| text.len() - beginning.len())
        .next()
}

/// Characters that are not seen and change how others are shown.
fn turns(sign: char) -> bool {
    matches!(sign, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(body: &[u8]) -> String {
        excerpt(body, std::iter::empty())
    }

    #[test]
    fn a_body_becomes_one_harmless_line() {
        assert_eq!(line(b"  no\r\nsuch\x1b[31m row\0!\n"), "no such [31m row !");
        assert_eq!(line("a\u{202e}b\u{200b}c".as_bytes()), "abc");
        assert_eq!(line(&[0x1f, 0x8b, 8, 0xff]), "\u{fffd} \u{fffd}");
        assert_eq!(line(b""), "");
    }

    #[test]
    fn a_long_body_is_cut_between_two_characters() {
        let text = line("é".repeat(10_000).as_bytes());
        assert_eq!(text, "é".repeat(KEPT / 2) + "…");
    }

    #[test]
    fn a_secret_that_the_endpoint_repeats_is_not_kept() {
        let secrets = ["Bearer s3cret-token", "s3cret"];
        let said = |body: &str| excerpt(body.as_bytes(), secrets.iter().copied());

        assert_eq!(
            said("authorization: Bearer s3cret-token denied"),
            "authorization: *** denied"
        );
        assert_eq!(said("your key s3cret is old"), "your key *** is old");
        assert_eq!(said("authorization: Bearer s3c"), "authorization: ***");
        let far = "x".repeat(KEPT - 3) + "Bearer s3cret-token";
        assert_eq!(said(&far), "x".repeat(KEPT - 3) + "***");
    }

    proptest! {
        #[test]
        fn nothing_that_an_endpoint_sends_breaks_a_line(body: Vec<u8>) {
            let text = line(&body);
            prop_assert!(text.len() <= KEPT + '…'.len_utf8());
            prop_assert!(!text.chars().any(char::is_control));
        }
    }
}
