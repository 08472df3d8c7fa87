//! Texts without their passwords.
//!
//! Input: a URL, or a text that may have one in it. Output: the same with stars in place of each secret.

/// A URL without its password and without its parameters, which may have another one.
pub(crate) fn place(url: &str) -> String {
    let without_parameters = |text: &str| {
        let end = text.find(['?', '#']).unwrap_or(text.len());
        text[..end].to_owned()
    };
    // The text is one URL. So the login ends with the last `@`, whatever stands before it.
    match url
        .split_once("://")
        .filter(|(scheme, _)| *scheme != "sqlite")
    {
        Some((scheme, rest)) if rest.contains('@') => {
            let (login, host) = rest.rsplit_once('@').unwrap_or_default();
            let end = login.find([':', '@', '/', '?', '#']).unwrap_or(login.len());
            let stars = if end < login.len() { ":***" } else { "" };
            let host = without_parameters(host);
            format!("{scheme}://{}{stars}@{host}", &login[..end])
        }
        _ => without_passwords(&without_parameters(url)),
    }
}

/// A text with three stars in place of each password of a URL in it, and of each value of a parameter that
/// is named like a secret.
pub(crate) fn without_passwords(text: &str) -> String {
    without_parameters(&without_user_infos(text))
}

/// Replaces what stands between the first `:` and the last `@` of an authority. A password may contain a `/`
/// that should have been escaped, so the authority ends at white space or a quotation mark only.
fn without_user_infos(text: &str) -> String {
    let (mut done, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        done.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>'))
            .unwrap_or(after.len());
        let url = &after[..end];
        rest = after;
        if let Some(host) = url.rfind('@')
            && let Some(colon) = url[..host].find(':')
        {
            done.push_str(&url[..colon]);
            done.push_str(":***");
            rest = &after[host..];
        }
    }
    done + rest
}

fn without_parameters(text: &str) -> String {
    const SECRET: [&str; 4] = ["password=", "passwd=", "pwd=", "secret="];
    let mut done = text.to_owned();
    for name in SECRET {
        let mut from = 0;
        while let Some(at) = done[from..].to_ascii_lowercase().find(name) {
            let begin = from + at + name.len();
            let end = done[begin..]
                .find(|c: char| c.is_whitespace() || matches!(c, '&' | '"' | '\'' | '`' | ';'))
                .map_or(done.len(), |length| begin + length);
            done.replace_range(begin..end, "***");
            from = begin + 3;
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_everything_but_its_passwords() {
        let text =
            "`amqps://u:p@ss@mq/%2f` and postgres://a:b@c/d?sslPassword=x&y=1, at 10:30 by a@b";
        let shown =
            "`amqps://u:***@mq/%2f` and postgres://a:***@c/d?sslPassword=***&y=1, at 10:30 by a@b";
        assert_eq!(without_passwords(text), shown);
    }
}
