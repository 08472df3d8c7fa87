//! Changes frames that lapin cannot read, without changing their length.
//!
//! Input: the payload of a method frame or content header frame. Output: the same payload with readable texts
//! and tables of limited depth.
//!
//! RabbitMQ passes on what producers send: texts that are not UTF-8, and tables within tables as deep as fit
//! into a frame. lapin ends the connection at such a text. lapin reads tables by recursion, and a deep table
//! overflows the stack, which aborts the process. In both cases the broker delivers the same message again
//! after every reconnect and restart, to every instance.

/// Replaces each byte that is not UTF-8: the substitute character of ASCII. Names with control characters are
/// refused, so no name of this crate contains it.
pub(crate) const SUBSTITUTE: char = '\x1a';

/// How deep tables and arrays may be nested. lapin survives some 200 levels in a debug build;
/// RabbitMQ's own `x-death` needs three.
const MAX_DEPTH: usize = 32;

/// Mends the payload of a method frame.
pub(super) fn method(payload: &mut [u8]) {
    let mut cursor = Cursor::new(payload);
    // If the payload cannot be read to its end, it is left as it is: RabbitMQ wrote it.
    let _ = match (cursor.number(2), cursor.number(2)) {
        // connection.close and channel.close: RabbitMQ may cut their text within a character.
        (Some(10), Some(50)) | (Some(20), Some(40)) => cursor.skip(2).and_then(|()| cursor.text()),
        // basic.deliver: consumer, tag and redelivered, exchange, routing key.
        (Some(60), Some(60)) => cursor
            .text()
            .and_then(|()| cursor.skip(9))
            .and_then(|()| cursor.text())
            .and_then(|()| cursor.text()),
        _ => Some(()),
    };
}

/// Mends the payload of a content header frame: the properties of a message.
pub(super) fn content_header(payload: &mut [u8]) {
    // Class, weight and size of the body come first. What cannot be read is left as it is.
    let mut cursor = Cursor::new(payload);
    let _ = cursor.skip(12).and_then(|()| cursor.properties());
}

pub(super) struct Cursor<'a> {
    bytes: &'a mut [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Mends the properties. The flags say which of the fourteen are present.
    fn properties(&mut self) -> Option<()> {
        let flags = self.number(2)?;
        for property in 0..14 {
            if flags & (0x8000 >> property) == 0 {
                continue;
            }
            match property {
                2 => self.table()?,
                // Delivery mode and priority.
                3 | 4 => self.skip(1)?,
                // Timestamp.
                9 => self.skip(8)?,
                _ => self.text()?,
            }
        }
        Some(())
    }

    /// Mends a table and everything in it. A table or array that is nested too deep becomes a byte array, which
    /// has the same form under another type letter.
    fn table(&mut self) -> Option<()> {
        let mut open = [(0, false); MAX_DEPTH];
        open[0] = (self.end_of_counted()?, false);
        let mut depth = 0;
        loop {
            let (end, is_array) = open[depth];
            if self.at >= end {
                match depth.checked_sub(1) {
                    Some(outer) => depth = outer,
                    None => return (self.at == end).then_some(()),
                }
                continue;
            }
            if !is_array {
                self.text()?;
            }
            let kind_at = self.at;
            match u8::try_from(self.number(1)?).ok()? {
                kind @ (b'F' | b'A') => {
                    let end = self.end_of_counted()?;
                    if let Some(inner) = open.get_mut(depth + 1) {
                        *inner = (end, kind == b'A');
                        depth += 1;
                    } else {
                        self.bytes[kind_at] = b'x';
                        self.at = end;
                    }
                }
                kind => self.plain_value(kind)?,
            }
        }
    }

    /// Skips a value that contains no other values.
    fn plain_value(&mut self, kind: u8) -> Option<()> {
        match kind {
            b'V' => Some(()),
            b't' | b'b' | b'B' => self.skip(1),
            b's' | b'U' | b'u' => self.skip(2),
            b'I' | b'i' | b'f' => self.skip(4),
            b'D' => self.skip(5),
            b'L' | b'l' | b'd' | b'T' => self.skip(8),
            b'S' | b'x' => self.end_of_counted().map(|end| self.at = end),
            _ => None,
        }
    }

    /// Skips a value of any kind.
    pub(super) fn value(&mut self) -> Option<()> {
        match u8::try_from(self.number(1)?).ok()? {
            b'F' | b'A' => self.end_of_counted().map(|end| self.at = end),
            kind => self.plain_value(kind),
        }
    }

    /// Mends a short text: a length of one byte, and that many bytes.
    pub(super) fn text(&mut self) -> Option<()> {
        let length = self.number(1)?;
        let from = self.at;
        self.skip(length)?;
        let mut text = &mut self.bytes[from..self.at];
        while let Err(error) = std::str::from_utf8(text) {
            let bad = error.valid_up_to();
            let end = error.error_len().map_or(text.len(), |length| bad + length);
            text[bad..end].fill(SUBSTITUTE as u8);
            text = &mut text[end..];
        }
        Some(())
    }

    /// Reads a length of four bytes, and returns where the counted bytes end.
    pub(super) fn end_of_counted(&mut self) -> Option<usize> {
        let length = self.number(4)?;
        let end = self.at.checked_add(length)?;
        (end <= self.bytes.len()).then_some(end)
    }

    pub(super) fn number(&mut self, width: usize) -> Option<usize> {
        let from = self.at;
        self.skip(width)?;
        let digits = &self.bytes[from..self.at];
        Some(digits.iter().fold(0, |n, &byte| n << 8 | usize::from(byte)))
    }

    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        let end = self.at.checked_add(count)?;
        (end <= self.bytes.len()).then(|| self.at = end)
    }
}
