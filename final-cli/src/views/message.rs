//! The message of a record or letter: its headers and its payload.

use std::collections::BTreeMap;

use final_core::Message;
use serde::Serialize;

use crate::{
    exit::Failure,
    output::{
        Output, Table,
        payload::{PayloadView, base64},
        text::harmless,
    },
};

/// A message, or why there is none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum MessageView {
    /// A message.
    Readable {
        content_type: String,
        durable: bool,
        headers: BTreeMap<String, String>,
        #[serde(flatten)]
        payload: PayloadView,
        /// For an export: the bytes themselves.
        #[serde(skip_serializing_if = "Option::is_none")]
        payload_base64: Option<String>,
    },
    /// Why what is stored cannot be read as a message.
    Unreadable {
        /// The reason.
        unreadable: String,
    },
}

impl MessageView {
    /// For a person or program that looks at it.
    pub(crate) fn new(message: &Result<Message, String>) -> Self {
        Self::build(message, false)
    }

    /// For an export, with the bytes as they are.
    pub(crate) fn whole(message: &Result<Message, String>) -> Self {
        Self::build(message, true)
    }

    fn build(message: &Result<Message, String>, with_bytes: bool) -> Self {
        match message {
            Ok(message) => {
                let headers = message.headers().iter();
                Self::Readable {
                    content_type: message.content_type().to_owned(),
                    durable: message.is_durable(),
                    headers: headers
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                        .collect(),
                    payload: PayloadView::new(message.payload(), message.content_type()),
                    payload_base64: with_bytes.then(|| base64(message.payload())),
                }
            }
            Err(why) => Self::Unreadable {
                unreadable: why.clone(),
            },
        }
    }

    /// The payload on one line, or why there is none.
    pub(crate) fn payload_text(&self) -> String {
        match self {
            Self::Readable { payload, .. } => payload.text(),
            Self::Unreadable { unreadable } => harmless(&format!("({unreadable})")),
        }
    }

    /// Adds its lines to those of a record or letter, and the payload below them.
    pub(crate) fn write(&self, mut lines: Table, out: &mut Output) -> Result<(), Failure> {
        match self {
            Self::Unreadable { unreadable } => {
                lines.row(["unreadable".into(), unreadable.into()]);
                out.table(&lines)
            }
            Self::Readable {
                content_type,
                durable,
                headers,
                payload,
                ..
            } => {
                lines.row(["content type".into(), content_type.into()]);
                lines.row(["durable".into(), if *durable { "yes" } else { "no" }.into()]);
                for (name, value) in headers {
                    lines.row(["header".into(), format!("{name}: {value}").into()]);
                }
                let (bytes, form) = (payload.bytes(), payload.form());
                lines.row([
                    "payload".into(),
                    format!("{bytes} bytes, shown as {form}").into(),
                ]);
                out.table(&lines)?;
                out.line("")?;
                out.line(&payload.text())
            }
        }
    }
}
