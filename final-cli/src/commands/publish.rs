//! `final publish TOPIC`: messages by hand, through a service's outbox or the log.
//!
//! Input: a file or the standard input. Output: one transaction with all messages, and their ids.

use std::{
    fs,
    io::{self, Read},
    time::Duration,
};

use clap::{Args, ValueEnum};
use final_core::{
    BoxError, Bus, Bytes, Error, MemoryBroker, MessageId, OutboxDatabase, SqlBroker,
    payload::{EncodedPayload, IntoPayload},
};
use serde::Serialize;

use crate::{
    arguments::ServiceArgs,
    ask::ConsentArgs,
    exit::{Exit, Failure},
    output::{Output, time},
    session::Session,
};

/// Publish a message by hand, through the outbox or the log
///
/// All messages of one call are in one transaction. The payload is JSON, or bytes as they are; without a payload it is
/// nil in msgpack.
#[derive(Debug, Args)]
#[command(
    after_help = "The ids of the messages are written as JSON lines by `final --json publish ..`.\n\n\
                        Example: echo '{\"id\": 7}' | final publish order.placed --service shop --json - --key 7"
)]
pub(crate) struct PublishArgs {
    /// The topic
    topic: String,

    /// A JSON document as the payload; `-` reads the standard input
    #[arg(id = "payload_json", long = "json", value_name = "FILE")]
    payload_json: Option<String>,

    /// Bytes as the payload; `-` reads the standard input
    #[arg(long, value_name = "FILE", conflicts_with = "payload_json")]
    bytes: Option<String>,

    /// Makes each line of the JSON a message of its own
    #[arg(long, requires = "payload_json")]
    lines: bool,

    /// Sends msgpack, as services in Rust publish, in place of the JSON
    #[arg(long, requires = "payload_json")]
    msgpack: bool,

    /// The id of the message, a UUID, in place of a new one; consumers that drop repeats by id handle an id once
    #[arg(long, value_name = "ID", conflicts_with = "lines")]
    id: Option<MessageId>,

    /// The key of the messages
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// A header of the messages; can be given more than once
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,

    /// How long until the messages are due
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    delay: Option<Duration>,

    /// How long the messages may wait once they are due
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    ttl: Option<Duration>,

    /// Where the messages are written; the log if the service reads it, otherwise the outbox
    #[arg(long)]
    via: Option<Via>,

    #[command(flatten)]
    service: ServiceArgs,

    #[command(flatten)]
    consent: ConsentArgs,
}

/// Where messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Via {
    /// The outbox of the service, from which its bus sends them.
    Outbox,
    /// The log of the database.
    Log,
}

#[derive(Serialize)]
struct Published<'a> {
    message_id: String,
    topic: &'a str,
    via: &'static str,
}

/// A payload whose bytes are ready.
#[derive(Clone)]
struct Ready(EncodedPayload);

impl IntoPayload for Ready {
    fn into_payload(self) -> Result<EncodedPayload, BoxError> {
        Ok(self.0)
    }
}

impl PublishArgs {
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let payloads = self.payloads()?;
        let service = session.service(&self.service).await?;
        let via = match self.via {
            Some(via) => via,
            None if session.reads_the_log(&service).await? => Via::Log,
            None => Via::Outbox,
        };
        let (count, topic, target) = (payloads.len(), &self.topic, &session.target);
        let question = format!("Publish {count} message(s) to {topic:?} as {service} in {target}?");
        if !self
            .consent
            .ask_in_production(&session.context, &question)?
        {
            return Ok(Exit::NotConfirmed);
        }
        let pool = session.pool.clone();
        let bus = match via {
            Via::Outbox => Bus::new(&service, pool, MemoryBroker::new()),
            Via::Log => Bus::new(&service, pool.clone(), SqlBroker::new(pool)),
        };
        let ids = self.publish(&bus, payloads).await?;
        let via = match via {
            Via::Outbox => "outbox",
            Via::Log => "log",
        };
        for id in ids {
            let message_id = id.to_string();
            match out.is_json() {
                true => out.json(
                    "published",
                    &Published {
                        message_id,
                        topic,
                        via,
                    },
                )?,
                false => out.line(&message_id)?,
            }
        }
        Ok(Exit::Done)
    }

    async fn publish<DB: OutboxDatabase>(
        &self,
        bus: &Bus<DB>,
        payloads: Vec<Ready>,
    ) -> Result<Vec<MessageId>, Error> {
        let tx = bus.begin().await?;
        bus.transaction(tx, async |mut txbus| {
            let mut ids = Vec::with_capacity(payloads.len());
            for payload in payloads {
                let mut message = txbus.publish(&self.topic, payload);
                if let Some(id) = self.id {
                    message = message.id(id);
                }
                if let Some(key) = &self.key {
                    message = message.key(key);
                }
                for (name, value) in &self.headers {
                    message = message.header(name, value);
                }
                if let Some(delay) = self.delay {
                    message = message.delay(delay);
                }
                if let Some(ttl) = self.ttl {
                    message = message.ttl(ttl);
                }
                ids.push(message.await?);
            }
            Ok(ids)
        })
        .await
    }

    fn payloads(&self) -> Result<Vec<Ready>, Failure> {
        if let Some(file) = &self.bytes {
            return Ok(vec![Ready(EncodedPayload {
                bytes: read(file)?.into(),
                content_type: "application/octet-stream",
            })]);
        }
        let Some(file) = &self.payload_json else {
            let nil = (&()).into_payload();
            let nil =
                nil.map_err(|error| Failure::doing("nil cannot be encoded", error.as_ref()))?;
            return Ok(vec![Ready(nil)]);
        };
        let text = String::from_utf8(read(file)?)
            .map_err(|_| Failure::usage("the JSON is not UTF-8; use --bytes for other bytes"))?;
        if !self.lines {
            return Ok(vec![self.json(&text).map_err(|why| {
                Failure::usage(format!("the payload is not JSON: {why}"))
            })?]);
        }
        let lines = text.lines().enumerate();
        let payloads: Vec<Ready> = lines
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(at, line)| {
                self.json(line)
                    .map_err(|why| Failure::usage(format!("line {} is not JSON: {why}", at + 1)))
            })
            .collect::<Result<_, _>>()?;
        match payloads.is_empty() {
            true => Err(Failure::usage("there is no line to publish")),
            false => Ok(payloads),
        }
    }

    /// A document as the payload: its bytes as they are, or as msgpack.
    fn json(&self, text: &str) -> Result<Ready, String> {
        let text = text.trim();
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        if !self.msgpack {
            return Ok(Ready(EncodedPayload {
                bytes: Bytes::copy_from_slice(text.as_bytes()),
                content_type: "application/json",
            }));
        }
        if let Some(number) = large_integer(text) {
            return Err(format!("msgpack has no integer as large as {number}"));
        }
        (&value)
            .into_payload()
            .map(Ready)
            .map_err(|error| error.to_string())
    }
}

/// An integer of a JSON text that has more than 64 bits, which a parser would read as a float.
fn large_integer(text: &str) -> Option<&str> {
    let (mut in_string, mut escaped, mut begin) = (false, false, None);
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        if in_string {
            (in_string, escaped) = (c != '"' || escaped, c == '\\' && !escaped);
            continue;
        }
        if c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E') {
            begin.get_or_insert(at);
            continue;
        }
        if let Some(begin) = begin.take() {
            let number = &text[begin..at];
            let is_integer = number.bytes().all(|b| b == b'-' || b.is_ascii_digit());
            if is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                return Some(number);
            }
        }
        in_string = c == '"';
    }
    None
}

fn read(file: &str) -> Result<Vec<u8>, Failure> {
    let read = match file {
        "-" => {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        }
        file => fs::read(file),
    };
    read.map_err(|error| Failure::usage(format!("the payload cannot be read from {file}: {error}")))
}

fn header(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "write a header as NAME=VALUE".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_of_more_than_64_bits_is_found() {
        let none = [
            "{\"a\":18446744073709551615,\"b\":-9223372036854775808}",
            "\"99999999999999999999\"",
            "1e99",
            "true",
            "[\"e\\\"\",1]",
        ];
        for text in none {
            assert_eq!(large_integer(text), None, "{text}");
        }
        assert_eq!(
            large_integer("[1, 18446744073709551616]"),
            Some("18446744073709551616")
        );
        assert_eq!(
            large_integer("-9223372036854775809"),
            Some("-9223372036854775809")
        );
    }
}
