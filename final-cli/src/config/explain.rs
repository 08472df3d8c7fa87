//! Says an error of serde or TOML in words for a person, and leaves out the value that it quotes.
//!
//! Input: the message of the reader. Output: what is wrong, and the cure. A value can be a password that stands under
//! a wrong key, so no text of a value passes through; names of keys do.

/// What is wrong, and the cure.
pub(crate) fn explain(message: &str) -> (String, String) {
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (unknown, known) = names(rest);
        return (
            "this key is not known".to_owned(),
            choose(&unknown, &known, '`', "remove it"),
        );
    }
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let (unknown, known) = names(rest);
        let what = "this value is not one of those that are possible".to_owned();
        return (what, choose(&unknown, &known, '"', "remove it"));
    }
    if let Some(rest) = message.strip_prefix("missing field `") {
        let name = rest.trim_end_matches('`');
        let what = format!("the key `{name}` is missing");
        return (what, format!("add a line `{name} = …` to this table"));
    }
    if let Some(rest) = message.strip_prefix("duplicate field `") {
        let name = rest.trim_end_matches('`');
        return (
            format!("the key `{name}` is there twice"),
            "remove one".to_owned(),
        );
    }
    for (begin, wrong) in [
        ("invalid type: ", "is of the wrong type"),
        ("invalid value: ", "does not fit"),
        ("invalid length ", "has the wrong length"),
    ] {
        let Some(rest) = message.strip_prefix(begin) else {
            continue;
        };
        // The last one: what stands before it may be a value that says ", expected " itself.
        let wanted = rest
            .rsplit_once(", expected ")
            .map(|(_, wanted)| kind(wanted));
        let cure = wanted.map_or(
            "look at the documentation of this key".to_owned(),
            |wanted| format!("write {wanted}"),
        );
        return (format!("the value {wrong}"), cure);
    }
    match message {
        "duplicate key" => {
            return (
                "this key is there twice".to_owned(),
                "remove one".to_owned(),
            );
        }
        "invalid socket address syntax" => {
            return (
                "this is no address with a port".to_owned(),
                "write it as \"127.0.0.1:9090\"".to_owned(),
            );
        }
        "integer number overflowed" | "floating-point number overflowed" => {
            return (
                "the number is too large".to_owned(),
                "write a smaller one".to_owned(),
            );
        }
        _ => {}
    }
    // The values of this module say both, with a semicolon between.
    match message.split_once("; ") {
        Some((what, cure)) => (what.to_owned(), cure.to_owned()),
        None => (
            message.to_owned(),
            "write it as TOML does (https://toml.io)".to_owned(),
        ),
    }
}

/// The unknown name, and the known ones: "`a` or `b`", "one of `a`, `b`".
fn names(rest: &str) -> (String, Vec<String>) {
    // The unknown name may have anything in it, so the list is what follows the last "`, ".
    let (unknown, list) = rest
        .rsplit_once("`, expected ")
        .or_else(|| rest.rsplit_once("`, there are no "))
        .unwrap_or((rest, ""));
    let known = list.split('`').skip(1).step_by(2).map(str::to_owned);
    (unknown.to_owned(), known.collect())
}

/// The cure for a name that is not known: a near one, or all of them.
fn choose(unknown: &str, known: &[String], quote: char, otherwise: &str) -> String {
    let near = known
        .iter()
        .map(|name| (distance(&unknown.to_lowercase(), name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.chars().count() / 4);
    if let Some((_, name)) = near {
        return format!("did you mean {quote}{name}{quote}?");
    }
    let all: Vec<String> = known
        .iter()
        .map(|name| format!("{quote}{name}{quote}"))
        .collect();
    match &all[..] {
        [] => otherwise.to_owned(),
        [only] => format!("only {only} is possible here"),
        all => format!("possible are {}", all.join(", ")),
    }
}

/// What serde expects, in words for a person.
fn kind(wanted: &str) -> String {
    let range = |from: i128, to: i128| format!("a whole number from {from} to {to}");
    match wanted {
        "a string" | "string" | "a borrowed string" | "str" => "a text in quotes".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "u8" => range(0, u8::MAX.into()),
        "u16" => range(0, u16::MAX.into()),
        "u32" => range(0, u32::MAX.into()),
        "u64" | "usize" | "u128" => "a whole number that is not negative".to_owned(),
        "i8" => range(i8::MIN.into(), i8::MAX.into()),
        "i16" => range(i16::MIN.into(), i16::MAX.into()),
        "i32" => range(i32::MIN.into(), i32::MAX.into()),
        "i64" | "isize" | "i128" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a sequence" => "a list in square brackets".to_owned(),
        "a map" => "a table".to_owned(),
        "socket address" | "IPv4 or IPv6 socket address" => {
            "an address with a port, as \"127.0.0.1:9090\"".to_owned()
        }
        _ if wanted.starts_with("a nonzero") => "a whole number that is not 0".to_owned(),
        _ if wanted.starts_with("struct ") => "a table".to_owned(),
        _ => wanted.to_owned(),
    }
}

/// How many letters have to be changed, added, removed or swapped with the next to make one name the other.
fn distance(one: &str, other: &str) -> usize {
    // A key of a hostile file can be as long as the file.
    let one: Vec<char> = one.chars().take(64).collect();
    let other: Vec<char> = other.chars().take(64).collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (i, a) in one.iter().enumerate() {
        let above = &rows[i];
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut least = (above[j] + usize::from(a != b))
                .min(above[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}
