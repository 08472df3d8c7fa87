//! Dead letters.

use final_core::admin::{Letter, WholeLetter};
use serde::Serialize;

use super::{MessageView, age_text};
use crate::{
    exit::Failure,
    output::{
        Output, Table,
        time::{millis, utc},
    },
};

/// A dead letter without its message.
#[derive(Debug, Serialize)]
pub(crate) struct LetterView {
    cursor: String,
    source: String,
    service: String,
    message_id: String,
    topic: String,
    key: Option<String>,
    reason: String,
    attempts: u32,
    died_at: String,
    age_ms: u64,
}

impl From<&Letter> for LetterView {
    fn from(letter: &Letter) -> Self {
        Self {
            cursor: letter.cursor.to_string(),
            source: letter.source.to_string(),
            service: letter.service.clone(),
            message_id: letter.id.to_string(),
            topic: letter.topic.clone(),
            key: letter.key.clone(),
            reason: letter.reason.clone(),
            attempts: letter.attempts,
            died_at: utc(letter.died_at),
            age_ms: millis(letter.age),
        }
    }
}

impl LetterView {
    fn lines(&self, age: &str) -> Table {
        let mut table = Table::new(&["", ""]);
        let attempts = self.attempts.to_string();
        let died = format!("{} ({age} ago)", self.died_at);
        let mut line = |name: &str, value: &str| table.row([name.into(), value.into()]);
        line("id", &self.message_id);
        line("place", &format!("{} ({})", self.cursor, self.source));
        line("service", &self.service);
        line("topic", &self.topic);
        if let Some(key) = &self.key {
            line("key", key);
        }
        line("reason", &self.reason);
        line("attempts", &attempts);
        line("died", &died);
        table
    }
}

/// A dead letter with its message.
#[derive(Debug, Serialize)]
pub(crate) struct WholeLetterView {
    #[serde(flatten)]
    letter: LetterView,
    #[serde(flatten)]
    message: MessageView,
    #[serde(skip)]
    age: String,
}

impl WholeLetterView {
    /// To look at.
    pub(crate) fn new(whole: &WholeLetter) -> Self {
        Self::with(whole, MessageView::new(&whole.message))
    }

    /// With the bytes of its payload.
    pub(crate) fn export(whole: &WholeLetter) -> Self {
        Self::with(whole, MessageView::whole(&whole.message))
    }

    fn with(whole: &WholeLetter, message: MessageView) -> Self {
        Self {
            letter: (&whole.letter).into(),
            message,
            age: age_text(Some(whole.letter.age)),
        }
    }

    pub(crate) fn write(&self, out: &mut Output) -> Result<(), Failure> {
        match out.is_json() {
            true => out.json("letter", self),
            false => self.message.write(self.letter.lines(&self.age), out),
        }
    }
}

/// A list of dead letters.
pub(crate) fn letter_table(letters: &[Letter]) -> Table {
    let mut table = Table::new(&[
        "!id",
        "source",
        "topic",
        "key",
        ">dead for",
        ">attempts",
        "reason",
    ]);
    for letter in letters {
        table.row([
            letter.id.to_string().into(),
            letter.source.to_string().into(),
            letter.topic.as_str().into(),
            letter.key.as_deref().unwrap_or_default().into(),
            age_text(Some(letter.age)).into(),
            letter.attempts.to_string().into(),
            letter.reason.as_str().into(),
        ]);
    }
    table
}
