//! Reading requests: flat arrays of byte strings, or lines of words.
//!
//! Input: a buffer to which bytes are appended as they come. State: where in the buffer the reading stands, so that no
//! byte is looked at twice. Output: requests, cut off from the front of the buffer.
//!
//! ```text
//!            ┌── inline line ──▶ request
//!   Start ───┤
//!            └── *n ─▶ Word ─ $len ─▶ Bytes ─▶ … n times ─▶ request
//! ```
//!
//! Limits are checked by what a client announces, before it has sent it.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::{error::WireError, inline};

/// How much of a client is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WireLimits {
    /// The longest inline request, in bytes.
    pub(crate) line: usize,
    /// The most words of a request.
    pub(crate) words: usize,
    /// The longest word, in bytes.
    pub(crate) word: usize,
    /// The longest request, in bytes.
    pub(crate) request: usize,
}

/// The longest line that announces a length: a sign, the digits of any length, and room for a mistake.
const LENGTH_LINE: usize = 32;

/// Reads requests from a buffer.
#[derive(Debug)]
pub(crate) struct RequestReader {
    limits: WireLimits,
    state: State,
    /// Up to here the buffer has been read.
    at: usize,
    /// Up to here it has no end of the line that begins at `at`.
    searched: usize,
    /// Where the words of the request are.
    words: Vec<Range<usize>>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a request.
    Start,
    /// Before a word; so many are to come.
    Word { left: usize },
    /// Inside a word of this length.
    Bytes { left: usize, length: usize },
}

impl RequestReader {
    pub(crate) fn new(limits: WireLimits) -> Self {
        Self {
            limits,
            state: State::Start,
            at: 0,
            searched: 0,
            words: Vec::new(),
        }
    }

    /// Changes the limits, from the next line on.
    pub(crate) fn set_limits(&mut self, limits: WireLimits) {
        self.limits = limits;
    }

    /// The next request: at least one word. `None` if the buffer does not have all of it; append and ask again.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Vec<Bytes>>, WireError> {
        loop {
            let step = match self.state {
                State::Start => self.start(buffer)?,
                State::Word { left } => self.word(left, buffer)?,
                State::Bytes { left, length } => self.bytes(left, length, buffer)?,
            };
            match step {
                Step::Further => {}
                Step::Wait => return Ok(None),
                Step::Request(words) => return Ok(Some(words)),
            }
        }
    }

    fn start(&mut self, buffer: &mut BytesMut) -> Result<Step, WireError> {
        if buffer.first() != Some(&b'*') {
            return self.inline(buffer);
        }
        let Some(line) = self.length_line(buffer)? else {
            return Ok(Step::Wait);
        };
        match number(&buffer[line]) {
            Some(0) => self.forget(buffer),
            Some(left) if left <= self.limits.words => {
                self.words.reserve(left);
                self.state = State::Word { left };
            }
            _ => return Err(WireError::Words),
        }
        Ok(Step::Further)
    }

    fn word(&mut self, left: usize, buffer: &mut BytesMut) -> Result<Step, WireError> {
        if left == 0 {
            return Ok(Step::Request(self.cut(buffer)));
        }
        match buffer.get(self.at) {
            None => return Ok(Step::Wait),
            Some(b'$') => {}
            Some(&other) => return Err(WireError::Kind(other)),
        }
        let Some(line) = self.length_line(buffer)? else {
            return Ok(Step::Wait);
        };
        let length = number(&buffer[line]).filter(|length| *length <= self.limits.word);
        let length = length.ok_or(WireError::Length)?;
        if self.at + length > self.limits.request {
            return Err(WireError::LongRequest);
        }
        self.state = State::Bytes { left, length };
        Ok(Step::Further)
    }

    fn bytes(&mut self, left: usize, length: usize, buffer: &BytesMut) -> Result<Step, WireError> {
        let end = self.at + length;
        match buffer.get(end..end + 2) {
            None => return Ok(Step::Wait),
            Some(b"\r\n") => {}
            Some(_) => return Err(WireError::LineEnd),
        }
        self.words.push(self.at..end);
        self.at = end + 2;
        self.searched = self.at;
        self.state = State::Word { left: left - 1 };
        Ok(Step::Further)
    }

    fn inline(&mut self, buffer: &mut BytesMut) -> Result<Step, WireError> {
        let Some(end) = self.line_end(buffer) else {
            return match buffer.len() > self.limits.line {
                true => Err(WireError::LongInline),
                false => Ok(Step::Wait),
            };
        };
        if end > self.limits.line {
            return Err(WireError::LongInline);
        }
        let words = inline::words(&buffer[..end], self.limits.words)?;
        self.at = end + 1;
        self.forget(buffer);
        Ok(match words.is_empty() {
            true => Step::Further,
            false => Step::Request(words),
        })
    }

    /// The digits of the line that begins at `at`, without its first byte; then the reading stands behind the line.
    fn length_line(&mut self, buffer: &BytesMut) -> Result<Option<Range<usize>>, WireError> {
        let begin = self.at + 1;
        let Some(end) = self.line_end(buffer) else {
            return match buffer.len() - self.at > LENGTH_LINE {
                true => Err(WireError::LongLine),
                false => Ok(None),
            };
        };
        if end - self.at > LENGTH_LINE {
            return Err(WireError::LongLine);
        }
        if end == begin || buffer[end - 1] != b'\r' {
            return Err(WireError::LineEnd);
        }
        self.at = end + 1;
        self.searched = self.at;
        Ok(Some(begin..end - 1))
    }

    /// Where the next LF is. Looks only at bytes that it has not looked at before.
    fn line_end(&mut self, buffer: &BytesMut) -> Option<usize> {
        let new = buffer.get(self.searched..)?;
        let found = new.iter().position(|byte| *byte == b'\n');
        match found {
            Some(at) => Some(self.searched + at),
            None => {
                self.searched = buffer.len();
                None
            }
        }
    }

    /// Cuts the request off. Its words share the memory of the buffer.
    fn cut(&mut self, buffer: &mut BytesMut) -> Vec<Bytes> {
        let frame = buffer.split_to(self.at).freeze();
        let words = self.words.drain(..).map(|word| frame.slice(word)).collect();
        self.at = 0;
        self.searched = 0;
        self.state = State::Start;
        words
    }

    fn forget(&mut self, buffer: &mut BytesMut) {
        buffer.advance(self.at);
        self.at = 0;
        self.searched = 0;
    }
}

enum Step {
    Further,
    Wait,
    Request(Vec<Bytes>),
}

/// A length: digits alone, few enough to be no surprise.
fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 10 {
        return None;
    }
    digits.iter().try_fold(0, |number: usize, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(usize::from(digit))
    })
}

#[cfg(test)]
mod tests;
