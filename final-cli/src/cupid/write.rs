//! cupid's file as TOML for `final reconcile`.
//!
//! Input: what the file says. Output: TOML; what a person should know.
//!
//! Each copy of cupid's has an endpoint of its own, so each becomes a job.

use std::fmt::Write as _;

use super::{
    CupidFile, Passwords,
    dsn::{GoDsn, encoded},
    read::{Copy, Cupid, Source},
};

/// How many rows a run may repair. cupid has no limit; this one bounds what a wrong mapping does.
const MOST: u64 = 100_000;

/// The configuration.
pub(super) fn toml(
    cupid: &Cupid,
    file: CupidFile<'_>,
    start: Option<i64>,
    passwords: Passwords,
) -> String {
    let mut toml = Toml(String::new());
    toml.line(format_args!(
        "# Made of cupid's {}.json. docs/from-cupid.md tells what is different.",
        file.name.escape_debug()
    ));
    toml.line(format_args!("[state]"));
    let state = quoted(&format!("sqlite:{}?mode=rwc", state_path(cupid, file)));
    toml.line(format_args!("database = {state}"));
    let names = job_names(&cupid.copies);
    for (at, (copy, job)) in cupid.copies.iter().zip(names).enumerate() {
        toml.line(format_args!("\n[jobs.{job}]"));
        toml.source(&cupid.source, passwords);
        toml.scans(&cupid.source, start);
        toml.repair(
            &job,
            copy,
            cupid.retry,
            &variable(cupid, at, "CALLBACK"),
            passwords,
        );
        toml.line(format_args!("\n[[jobs.{job}.targets]]"));
        toml.copy(
            copy,
            &cupid.source.by,
            &variable(cupid, at, "DES"),
            passwords,
        );
    }
    toml.0
}

/// What a person must know or do.
pub(super) fn notes(cupid: &Cupid, file: CupidFile<'_>, passwords: Passwords) -> Vec<String> {
    let mut notes = vec![
        "a call has the columns of the source's row alone, as cupid really sends it; with `body = \"cupid\"` it has \
         {\"type\", \"srcColumn\"}, as cupid documents it"
            .to_owned(),
    ];
    let path = state_file(cupid, file);
    notes.push(match cupid.source.folder.trim_end_matches('/') {
        "/tmp" | "/var/tmp" | "/dev/shm" => format!(
            "where it stands, and calls that are not done, are kept in {path}, a folder that others can write to and \
             that a restart of the machine may empty; name another one by `cacheFilePath`"
        ),
        _ => format!("where it stands, and calls that are not done, are kept in {path}"),
    });
    if cupid.has_log_folder {
        notes.push(
            "`logDir` is not used: the log goes to the standard error, and `--log` says how much"
                .to_owned(),
        );
    }
    if cupid.has_pushbear {
        notes.push(
            "`pushbearSendKey` is not used: pushbear has ended; `alert = { url = \"https://…\" }` of a job calls an \
             endpoint of yours in its place"
                .to_owned(),
        );
    }
    let dsns = cupid.copies.iter().map(|copy| &copy.dsn);
    for name in [&cupid.source.dsn]
        .into_iter()
        .chain(dsns)
        .flat_map(|dsn| &dsn.unused)
    {
        notes.push(format!("`{name}` of a DSN is not used"));
    }
    if passwords == Passwords::InVariables {
        if cupid.copies.iter().any(|copy| copy.url.contains('?')) {
            notes.push(
                "the parameters of an endpoint's URL are printed; if one of them is secret, put the whole URL into a \
                 variable: `url = \"env:NAME\"`"
                    .to_owned(),
            );
        }
        let variables = variables(cupid);
        if !variables.is_empty() {
            notes.push(format!(
                "no password is printed: put them into {}, or name files by `password = \"file:…\"`",
                variables.join(", ")
            ));
        }
    }
    notes
}

/// The file with the state. It has the name of the configuration, and a number of its path: files of one name in two
/// folders may name one folder here.
fn state_file(cupid: &Cupid, file: CupidFile<'_>) -> String {
    let folder = cupid.source.folder.trim_end_matches('/');
    format!("{folder}/{}-{:016x}.final.db", file.name, fnv(file.path))
}

/// The hash FNV-1a of 64 bits. It has to be the same in each release, so it is none of the standard library's.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The same in a URL.
fn state_path(cupid: &Cupid, file: CupidFile<'_>) -> String {
    let path = state_file(cupid, file);
    let parts: Vec<String> = path.split('/').map(encoded).collect();
    parts.join("/")
}

/// The name of each job: that of the copy, as long as no other has it.
fn job_names(copies: &[Copy]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(copies.len());
    for copy in copies {
        let name = match copy.dsn.database.is_empty() {
            true => copy.table.clone(),
            false => format!("{}-{}", copy.dsn.database, copy.table),
        };
        // A name of TOML without quotes.
        let name: String = name
            .chars()
            .map(|c| match c.is_ascii_alphanumeric() || c == '_' {
                true => c,
                false => '-',
            })
            .collect();
        let mut unique = name.clone();
        let mut number = 2;
        while names.contains(&unique) {
            unique = format!("{name}-{number}");
            number += 1;
        }
        names.push(unique);
    }
    names
}

/// The variables from which passwords are taken.
fn variables(cupid: &Cupid) -> Vec<String> {
    let mut all = Vec::new();
    if !cupid.source.dsn.password.is_empty() {
        all.push(SOURCE.to_owned());
    }
    for (at, copy) in cupid.copies.iter().enumerate() {
        if !copy.dsn.password.is_empty() {
            all.push(variable(cupid, at, "DES"));
        }
        if url_of(&copy.url).1.is_some() {
            all.push(variable(cupid, at, "CALLBACK"));
        }
    }
    all
}

const SOURCE: &str = "CUPID_SRC_PASSWORD";

/// The variable of a copy.
fn variable(cupid: &Cupid, at: usize, what: &str) -> String {
    match cupid.copies.len() {
        1 => format!("CUPID_{what}_PASSWORD"),
        _ => format!("CUPID_{what}{}_PASSWORD", at + 1),
    }
}

/// The URL of an endpoint without its password, and the password as it stands there.
fn url_of(url: &str) -> (String, Option<&str>) {
    let parts = url.split_once("://").and_then(|(scheme, rest)| {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let at = rest.get(..end)?.rfind('@')?;
        let (user, password) = rest.get(..at)?.split_once(':')?;
        Some((scheme, user, password, rest.get(at..)?))
    });
    match parts {
        Some((scheme, user, password, rest)) => {
            (format!("{scheme}://{user}{rest}"), Some(password))
        }
        None => (url.to_owned(), None),
    }
}

struct Toml(String);

impl Toml {
    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into a text cannot fail.
        let _ = writeln!(self.0, "{text}");
    }

    fn source(&mut self, source: &Source, passwords: Passwords) {
        let database = database(&source.dsn, SOURCE, passwords);
        let table = quoted(&source.table);
        self.line(format_args!(
            "source = {{ database = {database}, table = {table} }}"
        ));
    }

    fn scans(&mut self, source: &Source, start: Option<i64>) {
        if let Some(every) = source.insert {
            let first = start.unwrap_or(1);
            self.line(format_args!(
                "fresh_ids = {{ every = \"{every}ms\", column = \"Id\", first = {first} }}"
            ));
        }
        if let Some(update) = &source.update {
            let (column, every, scan) = (quoted(&update.column), update.every, update.scan);
            self.line(format_args!(
                "updated = {{ column = {column}, every = \"{every}ms\", overlap = \"{scan}s\" }}"
            ));
        }
    }

    fn repair(&mut self, job: &str, copy: &Copy, retry: u64, variable: &str, passwords: Passwords) {
        let (url, password) = url_of(&copy.url);
        let url = match password {
            None => quoted(&url),
            Some(password) => {
                let password = secret(&decoded(password), variable, passwords);
                format!("{{ url = {}, password = {password} }}", quoted(&url))
            }
        };
        self.line(format_args!("max_repairs = {MOST}"));
        self.line(format_args!("\n[jobs.{job}.repair]"));
        self.line(format_args!(
            "callback = {{ url = {url}, body = \"cupid-row\", timeout = \"3s\", private = true }}"
        ));
        self.line(format_args!("quick = \"{retry}s\""));
    }

    fn copy(&mut self, copy: &Copy, by: &str, variable: &str, passwords: Passwords) {
        let database = database(&copy.dsn, variable, passwords);
        self.line(format_args!("database = {database}"));
        self.line(format_args!("table = {}", quoted(&copy.table)));
        let key = format!("{} = {}", quoted(by), quoted(&copy.by));
        self.line(format_args!("key = {{ {key} }}"));
        // The key is among them, because a job that names no columns compares all of them.
        let others = copy.columns.iter().filter(|(from, _)| from != by);
        let others = others.map(|(from, to)| format!(", {} = {}", quoted(from), quoted(to)));
        let others: String = others.collect();
        self.line(format_args!("columns = {{ {key}{others} }}"));
    }
}

fn database(dsn: &GoDsn, variable: &str, passwords: Passwords) -> String {
    let url = quoted(&dsn.url());
    if dsn.password.is_empty() {
        return url;
    }
    let password = secret(&dsn.password, variable, passwords);
    format!("{{ url = {url}, password = {password} }}")
}

/// Where a password is, as the file says it.
fn secret(password: &str, variable: &str, passwords: Passwords) -> String {
    match passwords {
        Passwords::Inside => format!("{{ text = {} }}", quoted(password)),
        Passwords::InVariables => quoted(&format!("env:{variable}")),
    }
}

/// A part of a URL as it is meant.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let byte = match (first, after) {
            (b'%', [a, b, ..]) => std::str::from_utf8(&[*a, *b])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        bytes.push(byte.unwrap_or(*first));
        rest = match byte {
            Some(_) => after.get(2..).unwrap_or_default(),
            None => after,
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
