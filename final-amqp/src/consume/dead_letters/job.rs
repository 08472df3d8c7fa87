//! A delivery on its way to the dead letters.
//!
//! Input: the delivery as it came, and the reason. State: the form in which it is published. Output: the
//! message to write; once that is stored, its receipt.

use std::{sync::Arc, time::Instant};

use final_core::{
    MessageId,
    broker::{Cause, DetourTo, Detoured},
};

use crate::{
    consume::order::DeadLetterReceipt,
    properties::{Original, WireForm, WireMessage, dead_letter, envelope},
    topology::Topology,
};

/// What is published, and the receipt that the delivery's channel waits for. Dropping a job gives the
/// delivery back to the queue.
#[derive(Debug)]
pub(crate) struct DeadLetterJob {
    original: Arc<Original>,
    letter: Cause,
    /// Since when it waits.
    pub(super) since: Instant,
    /// The message id: the original's, or without one the id that this process gave the message.
    id: String,
    /// The id in this process. It is well-formed where the original's is not.
    own_id: MessageId,
    pub(super) receipt: DeadLetterReceipt,
    form: WireForm,
}

impl DeadLetterJob {
    /// `id` is the message's id, `None` for a message that cannot be understood; the flag says whether its
    /// producer gave it.
    pub(crate) fn new(
        original: Arc<Original>,
        id: Option<(MessageId, bool)>,
        letter: Cause,
        receipt: DeadLetterReceipt,
    ) -> Self {
        let written = original.properties.message_id().as_ref();
        let (own_id, identified) = id.unwrap_or_else(|| (MessageId::new(), written.is_some()));
        let id = match written.filter(|_| identified) {
            Some(id) => id.to_string(),
            None => own_id.to_string(),
        };
        // A delivery can be settled with a reason of any length. The job may wait for long.
        let mut letter = Cause::new(letter.reason, letter.attempts);
        letter.reason.shrink_to_fit();
        Self {
            original,
            letter,
            since: Instant::now(),
            id,
            own_id,
            receipt,
            form: WireForm::Whole,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The dead letter in its present form. The error says why it cannot be made.
    pub(super) fn wire(&self, topology: &Topology, frame_max: u32) -> Result<WireMessage, String> {
        let names = (&*topology.service, &*topology.queue);
        let Self { original, id, .. } = self;
        dead_letter(original, id, &self.letter, names, frame_max, &self.form)
    }

    /// What is stored elsewhere, if the broker cannot store the dead letter now. `None` if it is too large for that.
    pub(super) fn detoured(&self) -> Option<Detoured> {
        let envelope = envelope(&self.original, &self.id, false)?;
        let to = DetourTo::DeadLetters(self.letter.clone());
        Some(Detoured::new(envelope, self.original.payload.clone(), to))
    }

    /// The same, waiting from now on.
    pub(super) fn again(mut self) -> Self {
        self.since = Instant::now();
        self
    }

    pub(super) fn is_bare(&self) -> bool {
        self.form != WireForm::Whole
    }

    /// Notes that the broker refused the dead letter alone. True if a plainer form is left to try.
    pub(super) fn refused(&mut self, text: &str) -> bool {
        if self.is_bare() {
            return false;
        }
        self.form = WireForm::Bare(text.to_owned());
        // The properties that the id was read from are left out as well.
        self.id = self.own_id.to_string();
        true
    }
}
