//! The decoder for the fuzzer, which is outside of this module.

use super::{assembler::Assembler, pgoutput::Message, types::Described};
use crate::{select::Selection, source::Event};

/// Decodes messages from the beginning of a stream.
pub(crate) struct Decoder(Assembler);

impl Decoder {
    pub(crate) fn new(wanted: Selection) -> Self {
        Self(Assembler::new(wanted, 0))
    }

    pub(crate) fn take(&mut self, message: &[u8], events: &mut Vec<Event>) -> Result<(), String> {
        Message::decode(message)
            .and_then(|message| self.0.take(&message, &Described::default(), events))
            .map_err(|error| error.to_string())
    }
}
