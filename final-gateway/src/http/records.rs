//! Messages from requests: one from a body and its headers, or many from lines of JSON.
//!
//! Input: a body and the request's headers. Output: messages, or a problem for each that is none.
//!
//! A line is `{"payload": …}` or `{"payload_base64": "…"}`, and may have `key`, `headers`, `id` and `content_type`.

use std::{collections::BTreeMap, fmt};

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use final_core::{Headers, Message, MessageId};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{front::HttpLimits, json, problem::Problem};

/// The most messages of one request.
pub(super) const MAX_RECORDS: usize = 1000;

/// The longest content type, in bytes: what every database keeps.
const MAX_CONTENT_TYPE: usize = 255;

pub(super) const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
const FORM: &str = "application/x-www-form-urlencoded";

/// Headers of HTTP that are headers of the message as well, so that a trace goes on.
const PASSED_ON: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// With or without `=` at the end.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a body is, by its content type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One message in JSON.
    Json,
    /// A message in each line.
    Lines,
    /// One message of bytes.
    Bytes(String),
    /// One message whose type was not said: JSON if it is some, otherwise bytes of this type. `curl -d` says that
    /// every body is a form.
    Unsaid(&'static str),
}

impl Form {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(text) = one(headers, &header::CONTENT_TYPE)? else {
            return Ok(Self::Unsaid(BYTES));
        };
        check_content_type(text)?;
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        Ok(match &*essence {
            "" => Self::Unsaid(BYTES),
            FORM => Self::Unsaid(FORM),
            JSON | "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
                for part in parts {
                    let part = part.to_ascii_lowercase();
                    let charset = part
                        .strip_prefix("charset=")
                        .map(|charset| charset.trim_matches('"'));
                    if charset.is_some_and(|charset| charset != "utf-8" && charset != "utf8") {
                        return Err(Problem::new(
                            StatusCode::UNSUPPORTED_MEDIA_TYPE,
                            "charset",
                            "JSON is taken in UTF-8 only",
                        ));
                    }
                }
                if essence == JSON {
                    Self::Json
                } else {
                    Self::Lines
                }
            }
            _ => Self::Bytes(text.to_owned()),
        })
    }
}

/// What all messages of a request have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    pub(super) topic: &'a str,
    /// The app's key: the same text as id of two apps means two messages.
    pub(super) app: &'a str,
    pub(super) limits: &'a HttpLimits,
}

impl Origin<'_> {
    fn id(&self, text: &str) -> Result<MessageId, Problem> {
        MessageId::foreign(text, self.topic, self.app).ok_or_else(|| {
            Problem::bad(
                "bad_id",
                "the id identifies nothing: it is blank, or a UUID of zeros or ones only",
            )
        })
    }

    fn message(&self, id: Option<&str>, payload: Bytes) -> Result<Message, Problem> {
        let limit = self.limits.max_message_bytes;
        if payload.len() > limit {
            return Err(Problem::too_large(format!(
                "the payload has {} bytes, more than the limit of {limit}",
                payload.len()
            )));
        }
        let id = id.map_or_else(|| Ok(MessageId::new()), |id| self.id(id))?;
        Ok(Message::identified(id, self.topic, payload))
    }

    /// The one message of a body.
    pub(super) fn single(
        &self,
        headers: &HeaderMap,
        form: Form,
        body: Bytes,
    ) -> Result<Message, Problem> {
        let bad = |flaw: json::Flaw| {
            Problem::bad(
                "bad_json",
                format!("the body is no JSON that every reader can read: {flaw}"),
            )
        };
        let content_type = match form {
            Form::Bytes(content_type) => content_type,
            Form::Json | Form::Lines => {
                json::check(&body).map_err(bad)?;
                JSON.to_owned()
            }
            Form::Unsaid(otherwise) => match json::check(&body) {
                Ok(()) => JSON.to_owned(),
                Err(_) => otherwise.to_owned(),
            },
        };
        let id = one(headers, &HeaderName::from_static("x-id"))?;
        let mut message = self.message(id, body)?.with_content_type(content_type);
        if let Some(key) =
            one(headers, &HeaderName::from_static("x-key"))?.filter(|key| !key.is_empty())
        {
            message = message.with_key(key);
        }
        let own = own_headers(headers)?;
        if !own.is_empty() {
            message = message.with_headers(Headers::from_iter(own));
        }
        Ok(message)
    }

    /// The messages of the lines of a body, in their order.
    pub(super) fn lines(&self, body: &Bytes) -> Result<Vec<Result<Message, Problem>>, Problem> {
        let lines = body.split(|byte| *byte == b'\n').enumerate();
        let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
        let mut messages = Vec::new();
        for (index, line) in lines {
            if messages.len() == MAX_RECORDS {
                return Err(Problem::too_large(format!(
                    "the body has more than {MAX_RECORDS} records; send it in parts"
                )));
            }
            messages.push(self.line(body, line, index + 1));
        }
        match messages.is_empty() {
            true => Err(Problem::bad(
                "no_records",
                "the body has no records, one in each line",
            )),
            false => Ok(messages),
        }
    }

    fn line(&self, body: &Bytes, line: &[u8], number: usize) -> Result<Message, Problem> {
        let bad = |what: String| Problem::bad("bad_record", what);
        let record: Line<'_> =
            json::read(line).map_err(|flaw| bad(flaw.in_line(number).to_string()))?;
        let (payload, plain) = match (record.payload, record.payload_base64) {
            (Some(raw), None) => {
                json::check(raw.get().as_bytes())
                    .map_err(|flaw| bad(format!("line {number}: the payload: {flaw}")))?;
                (body.slice_ref(raw.get().as_bytes()), JSON)
            }
            (None, Some(text)) => {
                let decoded = BASE64.decode(text);
                let broken = |_| bad(format!("line {number}: payload_base64 is no base64"));
                (decoded.map_err(broken)?.into(), BYTES)
            }
            _ => {
                let what = "a record has either payload or payload_base64";
                return Err(bad(format!("line {number}: {what}")));
            }
        };
        let content_type = record.content_type.as_deref().unwrap_or(plain);
        check_content_type(content_type)?;
        let mut message = self
            .message(record.id.as_deref(), payload)?
            .with_content_type(content_type);
        if let Some(key) = record.key.filter(|key| !key.is_empty()) {
            message = message.with_key(key);
        }
        if let Some(Texts(headers)) = record.headers.filter(|Texts(headers)| !headers.is_empty()) {
            message = message.with_headers(Headers::from_iter(headers));
        }
        Ok(message)
    }
}

/// A record in a line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    key: Option<String>,
    headers: Option<Texts>,
    id: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
    payload_base64: Option<String>,
    content_type: Option<String>,
}

/// `null` is a payload as well.
pub(super) fn present<'de: 'a, 'a, D: Deserializer<'de>>(
    reader: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(reader).map(Some)
}

/// An object of texts in which no name is there twice.
struct Texts(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct OnlyOnce;
        impl<'de> Visitor<'de> for OnlyOnce {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some((name, value)) = items.next_entry::<String, String>()? {
                    if texts.insert(name, value).is_some() {
                        return Err(de::Error::custom("a header is there twice"));
                    }
                }
                Ok(Texts(texts))
            }
        }
        reader.deserialize_map(OnlyOnce)
    }
}

/// The value of a header that may be there once, as text.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Problem::bad(
            "bad_header",
            format!("header {name} is there more than once"),
        ));
    }
    first.map(|value| text(name, value.as_bytes())).transpose()
}

fn text<'a>(name: &HeaderName, value: &'a [u8]) -> Result<&'a str, Problem> {
    std::str::from_utf8(value)
        .map_err(|_| Problem::bad("bad_header", format!("header {name} is not in UTF-8")))
}

/// `X-Header-Tenant: acme` is the message's header `tenant`. HTTP has names in lower case only.
fn own_headers(headers: &HeaderMap) -> Result<BTreeMap<String, String>, Problem> {
    let mut own = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let Some(mine) = name.as_str().strip_prefix("x-header-") else {
            continue;
        };
        let value = text(name, value.as_bytes())?;
        // HTTP allows to split a list over several headers of one name.
        own.entry(mine.to_owned())
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(value);
            })
            .or_insert_with(|| value.to_owned());
    }
    for name in PASSED_ON {
        if let Some(value) = headers.get(name) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            own.entry(name.to_owned()).or_insert(value);
        }
    }
    Ok(own)
}

fn check_content_type(text: &str) -> Result<(), Problem> {
    let is_fine =
        text.len() <= MAX_CONTENT_TYPE && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    is_fine.then_some(()).ok_or_else(|| {
        let what =
            format!("a content type has at most {MAX_CONTENT_TYPE} visible ASCII characters");
        Problem::bad("bad_content_type", what)
    })
}
