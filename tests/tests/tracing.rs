//! Reads the sources of the libraries, and compares their tracing events and spans with `docs/tracing.md`.
//!
//! Operators filter by target and alert on messages, so both are part of what the libraries promise. Each
//! event names its target, its message is a fixed text, and the table of its target has a row with the same
//! level, message and fields. A row without an event fails as well.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Where the sources of the libraries are.
const SOURCES: [&str; 7] = [
    "final-core/src",
    "final-amqp/src",
    "final-cli/src",
    "final-gateway/src",
    "final-webhook/src",
    "final-capture/src",
    "final-reconcile/src",
];

const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];

const TARGETS: [&str; 12] = [
    "final::publish",
    "final::outbox",
    "final::relay",
    "final::consume",
    "final::log",
    "final::amqp",
    "final::bus",
    "final::service",
    "final::gateway",
    "final::webhook",
    "final::capture",
    "final::reconcile",
];

/// An event or span, as the sources or the table have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    target: String,
    /// `WARN` for an event, `INFO span` for a span.
    level: String,
    /// The message of an event, or the name of a span.
    message: String,
    fields: BTreeSet<String>,
}

#[test]
fn every_event_has_a_target_and_a_row_in_the_table() {
    let table = table();
    let mut wrong = Vec::new();
    let mut found = BTreeSet::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        for line in unread(&text) {
            wrong.push(format!(
                "{}:{line}: write tracing:: before the macro",
                file.display()
            ));
        }
        for (line, entry) in entries(&text) {
            let at = format!("{}:{line}", file.display());
            if !TARGETS.contains(&entry.target.as_str()) {
                wrong.push(format!("{at}: {:?} is no target of ours", entry.target));
            } else if entry.message.contains('{') {
                wrong.push(format!("{at}: a value in the message {:?}", entry.message));
            } else if !table.contains(&entry) {
                wrong.push(format!("{at}: no row in docs/tracing.md: {entry:?}"));
            }
            found.insert(entry);
        }
    }
    assert!(found.len() > 20, "only {} events were found", found.len());
    for row in table.difference(&found) {
        wrong.push(format!("docs/tracing.md: no such event: {row:?}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_event_that_is_not_read_is_told() {
    let text = "
        warn!(\"one\");
        tracing::warn!(\"two\");
        let span = info_span!(\"three\");
    ";

    assert_eq!(unread(text).collect::<Vec<_>>(), [4, 2]);
}

#[test]
fn an_event_is_read_as_it_is_written() {
    let text = r#"
        tracing::warn!(
            target: "final::relay",
            service = self.service.as_str(), %topic, ?limit, name, id = ?ids(&["a", "b"]),
            "a \"text\", over \
             two lines"
        );
        let span = tracing::info_span!(target: "final::consume", "consume", id = %message.id(),);
        tracing::debug!("bare");
    "#;
    let read: Vec<_> = entries(text).collect();
    let entry = |target: &str, level: &str, message: &str, fields: &[&str]| Entry {
        target: target.to_owned(),
        level: level.to_owned(),
        message: message.to_owned(),
        fields: fields.iter().map(ToString::to_string).collect(),
    };
    let fields = ["service", "topic", "limit", "name", "id"];
    assert_eq!(
        read,
        [
            (
                2,
                entry(
                    "final::relay",
                    "WARN",
                    "a \"text\", over two lines",
                    &fields
                )
            ),
            (8, entry("final::consume", "INFO span", "consume", &["id"])),
            (9, entry("", "DEBUG", "bare", &[])),
        ]
    );
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The source files of the libraries, without tests.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders: Vec<_> = SOURCES.map(|folder| root().join(folder)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The rows of the tables. The heading above a table is its target.
fn table() -> BTreeSet<Entry> {
    let text = fs::read_to_string(root().join("docs/tracing.md")).unwrap();
    let mut target = String::new();
    let mut rows = BTreeSet::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            target = heading.trim_matches('`').to_owned();
        }
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [level, message, fields, _when] = cells[..] else {
            continue;
        };
        if level != "Level" && !level.starts_with("---") {
            rows.insert(Entry {
                target: target.clone(),
                level: level.to_owned(),
                message: message.to_owned(),
                fields: fields
                    .split(',')
                    .map(|field| field.trim().trim_matches('`').to_owned())
                    .filter(|field| !field.is_empty())
                    .collect(),
            });
        }
    }
    rows
}

/// The events and spans of a source file, each with its line.
fn entries(text: &str) -> impl Iterator<Item = (usize, Entry)> {
    text.match_indices("tracing::")
        .filter_map(|(start, found)| {
            let (name, rest) = text[start + found.len()..].split_once("!(")?;
            let (level, kind) = match name.strip_suffix("_span") {
                Some(level) => (level, " span"),
                None => (name, ""),
            };
            if !LEVELS.contains(&level) {
                return None;
            }
            let line = text[..start].lines().count();
            let mut entry = Entry {
                target: String::new(),
                level: level.to_uppercase() + kind,
                message: String::new(),
                fields: BTreeSet::new(),
            };
            for argument in arguments(rest) {
                if let Some(target) = argument.strip_prefix("target:") {
                    entry.target = unquote(target.trim());
                } else if argument.starts_with('"') {
                    entry.message = unquote(&argument);
                } else {
                    let name = argument.split('=').next().unwrap_or_default();
                    let name = name.trim().trim_start_matches(['%', '?']);
                    entry.fields.insert(name.to_owned());
                }
            }
            Some((line, entry))
        })
}

/// The lines of events and spans that [`entries`] does not find, because `tracing::` is not written before them.
fn unread(text: &str) -> impl Iterator<Item = usize> {
    let names = LEVELS
        .iter()
        .flat_map(|level| [format!("{level}!("), format!("{level}_span!(")]);
    names.flat_map(move |name| {
        let starts: Vec<_> = text.match_indices(&name).map(|(start, _)| start).collect();
        let is_bare = |start: &usize| {
            let before = &text[..*start];
            let is_word =
                before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
            !is_word && !before.ends_with("tracing::")
        };
        let bare = starts.into_iter().filter(is_bare);
        bare.map(|start| text[..start].lines().count())
            .collect::<Vec<_>>()
    })
}

/// The arguments of a macro, from behind its opening parenthesis.
fn arguments(text: &str) -> Vec<String> {
    let mut arguments = vec![String::new()];
    let (mut depth, mut in_text, mut escaped) = (0, false, false);
    for sign in text.chars() {
        match sign {
            '"' if !escaped => in_text = !in_text,
            '(' | '[' | '{' if !in_text => depth += 1,
            ')' if !in_text && depth == 0 => break,
            ')' | ']' | '}' if !in_text => depth -= 1,
            ',' if !in_text && depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        escaped = in_text && sign == '\\' && !escaped;
        arguments.last_mut().unwrap().push(sign);
    }
    let arguments = arguments.iter().map(|argument| argument.trim().to_owned());
    arguments.filter(|argument| !argument.is_empty()).collect()
}

/// The text of a string literal.
fn unquote(literal: &str) -> String {
    let mut text = String::new();
    let mut signs = literal.trim_matches('"').chars().peekable();
    while let Some(sign) = signs.next() {
        match (sign, signs.peek().copied()) {
            ('\\', Some('\n')) => while signs.next_if(|sign| sign.is_whitespace()).is_some() {},
            ('\\', Some(escaped)) => {
                text.push(escaped);
                signs.next();
            }
            _ => text.push(sign),
        }
    }
    text
}
