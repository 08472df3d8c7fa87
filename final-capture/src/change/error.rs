//! Why a message is no change that a handler takes.

use std::any::type_name;

use final_core::Message;

/// Why a message is no change that a handler takes. Its text names no value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeError {
    topic: Option<String>,
    why: String,
}

impl ChangeError {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self {
            topic: None,
            why: why.into(),
        }
    }

    /// The payload is not the JSON of a change.
    pub(super) fn payload(error: &serde_json::Error) -> Self {
        Self::new(format!(
            "the payload is not the JSON of a change: {}",
            without_value(&error.to_string())
        ))
    }

    /// A row is not what the handler takes.
    pub(super) fn row(error: &serde_json::Error, incomplete: bool) -> Self {
        let mut why = without_value(&error.to_string());
        if incomplete && why.starts_with("missing field") {
            why.push_str(
                "; the source sent only a part of the row: make the field an `Option` or give it `#[serde(default)]`, or \
                 let PostgreSQL send whole rows by `ALTER TABLE … REPLICA IDENTITY FULL`",
            );
        }
        Self::new(why)
    }

    pub(super) fn row_of<T>(self) -> Self {
        Self {
            why: format!("a row is no `{}`: {}", type_name::<T>(), self.why),
            ..self
        }
    }

    /// Names the topic.
    pub(super) fn of(self, message: &Message) -> Self {
        Self {
            topic: Some(message.topic().to_owned()),
            ..self
        }
    }
}

impl std::fmt::Display for ChangeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.topic {
            Some(topic) => write!(
                f,
                "a change of topic `{topic}` cannot be read: {}",
                self.why
            ),
            None => write!(f, "a change cannot be read: {}", self.why),
        }
    }
}

impl std::error::Error for ChangeError {}

/// Without the value that serde repeats: errors are logged and go into dead letters, and rows hold secrets.
///
/// The value stands between the first quote and the last `, expected`, or at the end.
fn without_value(text: &str) -> String {
    let repeats = ["invalid type", "invalid value", "unknown variant"];
    if !repeats.iter().any(|start| text.starts_with(start)) {
        return text.chars().take(256).collect();
    }
    let end = text.find(['"', '`']).unwrap_or(text.len());
    let kind = text.get(..end).unwrap_or_default().trim_end();
    let expected = text.rfind(", expected ").filter(|at| *at >= end);
    // Without a quote the text has no value but a kind, such as `null`.
    let expected = expected.and_then(|at| text.get(at..)).unwrap_or_default();
    let told = if end == text.len() {
        text.to_owned()
    } else {
        format!("{kind}{expected}")
    };
    told.chars().take(256).collect()
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    fn told<T: DeserializeOwned + std::fmt::Debug>(json: &str) -> String {
        ChangeError::row(&serde_json::from_str::<T>(json).unwrap_err(), false).to_string()
    }

    #[test]
    fn an_error_names_no_value_of_a_row() {
        #[derive(Debug, serde::Deserialize)]
        enum Kind {
            Red,
        }
        let secret = [
            told::<u64>(r#""4111, expected 4111""#),
            told::<u8>("4111"),
            told::<Kind>(r#""4111""#),
            told::<Vec<u8>>(r#"["4111"]"#),
            told::<super::super::Base64>(r#""4111!""#),
            told::<super::super::Exact<u8>>(r#""4111""#),
            told::<super::super::Exact<u8>>("4111"),
        ];
        for text in secret {
            assert!(!text.contains("4111"), "{text}");
        }
        assert!(told::<u64>("null").contains("invalid type: null, expected u64"));
        let _ = Kind::Red;
    }
}
