//! A letter on its way into the table, in the first form that the database takes.
//!
//! Input: a letter as the broker has delivered it, and the code of each refusal. State: the form, and the key. Output:
//! the row to write. The columns are for people and filters. A replay sends the envelope, which each form keeps whole.
//!
//! ```text
//!   whole ─ refused ─▶ plain ─ refused ─▶ least ─ refused ─▶ held for a while ─▶ whole
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    broker::{Cause, CollectedLetter, LetterDelivery},
    database::limits::{micros, plain_text},
    message::MSGPACK,
    outbox::letters::NewLetter,
};

/// The most characters of a topic, a content type or a queue.
const NAME: usize = 255;

/// A time of death that lies further in the future than this is not believed.
const SKEW: Duration = Duration::from_secs(24 * 3600);

/// What its columns hold.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ColumnForm {
    /// Everything as it is, but for NUL, which PostgreSQL cannot store.
    Whole,
    /// Everything in ASCII, and neither key nor headers. With the code of the refusal.
    Plain(String),
    /// The same, in few characters. With the code of the refusal.
    Least(String),
}

/// A delivery, and the form in which it is written next.
#[derive(Debug)]
pub(super) struct CollectionDraft {
    pub(super) delivery: LetterDelivery,
    key: Uuid,
    /// How many equal letters are counted before this one.
    twins: u32,
    record_id: Uuid,
    /// Whether it was tried to write it before.
    pub(super) is_tried: bool,
    form: ColumnForm,
    columns: TextColumns,
    /// When it is tried again, if the database refuses it in every form.
    pub(super) due: Option<Instant>,
}

/// The texts of a row.
#[derive(Debug, Default)]
struct TextColumns {
    topic: String,
    key: Option<String>,
    headers: Option<String>,
    content_type: String,
    content_encoding: Option<String>,
    reason: String,
    queue: String,
    problem: Option<String>,
}

impl CollectionDraft {
    pub(super) fn new(delivery: LetterDelivery) -> Self {
        let twins = delivery.repeated().unwrap_or(0);
        Self {
            key: twin(delivery.letter().identity, twins),
            twins,
            record_id: Uuid::now_v7(),
            is_tried: false,
            form: ColumnForm::Whole,
            columns: whole(delivery.letter()),
            delivery,
            due: None,
        }
    }

    /// How many bytes its row has, nearly.
    pub(super) fn weight(&self) -> usize {
        let letter = self.delivery.letter();
        letter.payload.len() + 2 * letter.envelope.len()
    }

    /// Whether the letter came for the first time, so that an equal row is another letter.
    pub(super) fn is_new(&self) -> bool {
        self.delivery.repeated().is_none()
    }

    /// Takes the next key, because an equal letter has this one.
    pub(super) fn be_another(&mut self) {
        self.twins = self.twins.saturating_add(1);
        self.key = twin(self.delivery.letter().identity, self.twins);
    }

    /// Takes the next form, after the last one was refused with a code. False if there is none.
    pub(super) fn simplify(&mut self, code: &str) -> bool {
        let (form, most) = match self.form {
            ColumnForm::Whole => (ColumnForm::Plain(code.to_owned()), NAME),
            ColumnForm::Plain(_) => (ColumnForm::Least(code.to_owned()), 16),
            ColumnForm::Least(_) => return false,
        };
        self.columns = simple(self.delivery.letter(), code, most);
        self.form = form;
        true
    }

    /// Takes the first form again.
    pub(super) fn be_whole(&mut self) {
        self.form = ColumnForm::Whole;
        self.columns = whole(self.delivery.letter());
    }

    /// Whether its columns do not hold everything.
    pub(super) fn is_simplified(&self) -> bool {
        self.form != ColumnForm::Whole
    }

    /// The row in the present form.
    pub(super) fn row(&self) -> NewLetter<'_> {
        let (letter, columns) = (self.delivery.letter(), &self.columns);
        let message = letter.message.as_ref();
        NewLetter {
            key: self.key,
            record_id: self.record_id,
            is_repeated: !self.is_new(),
            is_tried: self.is_tried,
            id: letter.id.0,
            topic: &columns.topic,
            message_key: columns.key.as_deref(),
            headers: columns.headers.as_deref(),
            payload: &letter.payload,
            content_type: &columns.content_type,
            content_encoding: columns.content_encoding.as_deref(),
            durable: message.map_or(true, crate::Message::is_durable),
            reason: &columns.reason,
            attempts: letter.cause.attempts,
            died_at: letter.died_at.and_then(since_1970),
            queue: &columns.queue,
            problem: columns.problem.as_deref(),
            envelope: &letter.envelope,
        }
    }
}

/// The key of a letter that so many equal ones come before.
fn twin(identity: Uuid, twins: u32) -> Uuid {
    match twins {
        0 => identity,
        _ => Uuid::new_v5(&identity, &twins.to_be_bytes()),
    }
}

fn whole(letter: &CollectedLetter) -> TextColumns {
    let clean = |text: &str| text.replace('\0', " ");
    let name = |text: &str| clean(text).chars().take(NAME).collect::<String>();
    let message = letter.message.as_ref();
    let readable = message.ok();
    let problem = message.err().map(|problem| clean(problem));
    TextColumns {
        topic: name(&letter.topic),
        key: readable.and_then(|message| message.key()).map(clean),
        headers: readable.and_then(|message| message.headers().to_json()),
        content_type: name(readable.map_or(MSGPACK, |message| message.content_type())),
        content_encoding: readable
            .and_then(|message| message.content_encoding())
            .map(name),
        // A cause that was not made by `new` may be too long.
        reason: clean(&Cause::new(letter.cause.reason.as_str(), 0).reason),
        queue: name(&letter.queue),
        problem,
    }
}

/// The texts in ASCII, of so many characters at most.
fn simple(letter: &CollectedLetter, code: &str, most: usize) -> TextColumns {
    let plain = |text: &str| plain_text(text, most);
    TextColumns {
        topic: plain(&letter.topic),
        content_type: MSGPACK.to_owned(),
        reason: plain(&letter.cause.reason),
        queue: plain(&letter.queue),
        problem: Some(format!(
            "the database refuses its texts (SQLSTATE {code}); a replay brings the whole message"
        )),
        ..TextColumns::default()
    }
}

/// Microseconds since 1970. `None` for a time that nothing can have died at.
fn since_1970(time: SystemTime) -> Option<i64> {
    let is_future = time
        .duration_since(SystemTime::now())
        .is_ok_and(|ahead| ahead > SKEW);
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    (!is_future).then(|| micros(since))
}
