//! What cupid's file says.
//!
//! Input: its text. Output: [`Cupid`], with cupid's defaults. A key that cupid does not know is an error.

use final_webhook::Endpoint;
use serde::{
    Deserialize,
    de::{IntoDeserializer, value::Error},
};

use super::{
    CupidError,
    dsn::GoDsn,
    json::{self, Fields},
};
use crate::config::WebAddress;

const FILE: [&str; 7] = [
    "workerNumber",
    "logDir",
    "callbackWorkerIntervalMillisecond",
    "taskWorkerIntervalMillisecond",
    "failureJobRetrySecond",
    "src",
    "des",
];

const SOURCE: [&str; 12] = [
    "dsn",
    "table",
    "byColumn",
    "insert",
    "insertIntervalMillisecond",
    "update",
    "updateColumn",
    "updateIntervalMillisecond",
    "updateScanSecond",
    "updateTimeFormate",
    "cacheFilePath",
    "pushbearSendKey",
];

const COPY: [&str; 5] = [
    "dsn",
    "table",
    "columns",
    "byColumn",
    "callbackNotification",
];

/// The file.
pub(super) struct Cupid {
    pub(super) source: Source,
    pub(super) copies: Vec<Copy>,
    /// How soon a call that failed is repeated, in seconds.
    pub(super) retry: u64,
    /// Whether there is a folder for logs.
    pub(super) has_log_folder: bool,
    /// Whether it has pushbear's key.
    pub(super) has_pushbear: bool,
}

/// The table that is right.
pub(super) struct Source {
    pub(super) dsn: GoDsn,
    pub(super) table: String,
    /// The column by which rows belong together.
    pub(super) by: String,
    /// How often new ids are looked for, in milliseconds.
    pub(super) insert: Option<u64>,
    pub(super) update: Option<Update>,
    /// The folder in which cupid keeps what it has to know after a restart.
    pub(super) folder: String,
}

/// How changed rows are found.
pub(super) struct Update {
    pub(super) column: String,
    /// How often, in milliseconds.
    pub(super) every: u64,
    /// How far it looks back, in seconds.
    pub(super) scan: u64,
}

/// A table that is to agree with the source.
pub(super) struct Copy {
    pub(super) dsn: GoDsn,
    pub(super) table: String,
    pub(super) by: String,
    /// Columns of the source, and what they are called here.
    pub(super) columns: Vec<(String, String)>,
    /// Where a row that differs is sent, with a scheme.
    pub(super) url: String,
}

impl Cupid {
    pub(super) fn read(text: &str) -> Result<Self, CupidError> {
        let mut file = json::object(text, &FILE)?;
        // Work is done as it comes here, so there is nothing to set.
        for name in [
            "workerNumber",
            "callbackWorkerIntervalMillisecond",
            "taskWorkerIntervalMillisecond",
        ] {
            file.number(name)?;
        }
        let has_log_folder = file.text("logDir")?.is_some();
        let retry = file.number("failureJobRetrySecond")?.unwrap_or(10);
        let mut source = file.fields("src", &SOURCE)?;
        let pushbear = source.text("pushbearSendKey")?;
        let source = Source::read(source)?;
        let copies = file.list("des", &COPY)?;
        let copies: Result<Vec<Copy>, CupidError> = copies.into_iter().map(Copy::read).collect();
        Ok(Self {
            source,
            copies: copies?,
            retry,
            has_log_folder,
            has_pushbear: pushbear.is_some_and(|key| !key.is_empty()),
        })
    }
}

impl Source {
    fn read(mut fields: Fields) -> Result<Self, CupidError> {
        let insert = fields.truth("insert")?.unwrap_or(true);
        let insert_every = fields.number("insertIntervalMillisecond")?;
        let update = Update::read(&mut fields)?;
        let source = Self {
            dsn: dsn(&mut fields)?,
            table: fields.wanted("table")?,
            by: fields.wanted("byColumn")?,
            insert: insert.then(|| insert_every.unwrap_or(2_000)),
            update,
            folder: fields
                .text("cacheFilePath")?
                .filter(|folder| !folder.is_empty())
                .unwrap_or_else(|| "/tmp".to_owned()),
        };
        if source.insert.is_none() && source.update.is_none() {
            return Err(fields.wrong(
                "insert",
                "and `update` are both false, so no row would be looked at",
                "set one of them to true",
            ));
        }
        Ok(source)
    }
}

impl Update {
    fn read(fields: &mut Fields) -> Result<Option<Self>, CupidError> {
        let is_wanted = fields.truth("update")?.unwrap_or(true);
        let column = fields
            .text("updateColumn")?
            .filter(|column| !column.is_empty());
        let every = fields.number("updateIntervalMillisecond")?;
        let scan = fields.number("updateScanSecond")?;
        if let Some(format) = fields.text("updateTimeFormate")? {
            // The database compares its own times, so the format is not needed. PHP's has a Y, and Go's has the year 2006.
            if !format.is_empty() && !format.contains(['Y', 'y']) && !format.contains("06") {
                return Err(fields.wrong(
                    "updateTimeFormate",
                    "is neither PHP's nor Go's form of a time",
                    "write Y-m-d H:i:s; a column of numbers cannot be walked as times",
                ));
            }
        }
        if !is_wanted {
            return Ok(None);
        }
        let Some(column) = column else {
            return Err(fields.wrong(
                "updateColumn",
                "is missing",
                "name the column with the time of the last change, or set `update` to false",
            ));
        };
        Ok(Some(Self {
            column,
            every: every.unwrap_or(2_000),
            scan: scan.unwrap_or(5),
        }))
    }
}

impl Copy {
    fn read(mut fields: Fields) -> Result<Self, CupidError> {
        let mut callback = fields.fields("callbackNotification", &["url"])?;
        let url = with_scheme(&callback.wanted("url")?);
        if let Err(error) = checked(&url) {
            let (what, cure) = error.split_once("; ").unwrap_or((&error, URL));
            return Err(callback.wrong("url", &format!("cannot be called: {what}"), cure));
        }
        Ok(Self {
            dsn: dsn(&mut fields)?,
            table: fields.wanted("table")?,
            by: fields.wanted("byColumn")?,
            columns: fields.texts("columns")?,
            url,
        })
    }
}

const URL: &str = "write http://host:port/path or https://host/path";

/// The URL of an endpoint with its scheme. cupid's own example has none.
fn with_scheme(url: &str) -> String {
    let url = url.trim();
    let (head, rest) = url.split_at(url.find(['/', '?', '#']).unwrap_or(url.len()));
    match rest.starts_with("//") {
        true if head.is_empty() => format!("http:{url}"),
        true if head.ends_with(':') => format!("{}{rest}", head.to_lowercase()),
        _ => format!("http://{url}"),
    }
}

/// Whether the configuration that is made of it can have this URL. An error has nothing of it: a password that is not
/// encoded is anywhere in it.
fn checked(url: &str) -> Result<(), String> {
    let address: Result<WebAddress, Error> = WebAddress::deserialize(url.into_deserializer());
    let address = address.map_err(|error| error.to_string())?;
    match Endpoint::new(address.expose()) {
        Ok(_) => Ok(()),
        Err(_) => Err("it is no URL of an endpoint".to_owned()),
    }
}

fn dsn(fields: &mut Fields) -> Result<GoDsn, CupidError> {
    let text = fields.wanted("dsn")?;
    GoDsn::parse(&text).map_err(|error| {
        let (what, cure) = error.split_once("; ").unwrap_or((&error, "look at it"));
        fields.wrong("dsn", &format!("cannot be used: {what}"), cure)
    })
}
