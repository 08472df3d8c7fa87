//! A short text of digits and signs, made without the heap.
//!
//! Input: numbers and signs. State: up to 72 characters. Output: a text. Each row has many of them, so none is made
//! twice.

/// How long the longest one is: a DECIMAL of 65 digits with sign, zero and point.
const MOST: usize = 72;

/// A short text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short {
    characters: [u8; MOST],
    length: usize,
}

impl Default for Short {
    fn default() -> Self {
        Self {
            characters: [0; MOST],
            length: 0,
        }
    }
}

impl Short {
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// Appends an ASCII character. One beyond the end is left out.
    pub(super) fn push(&mut self, character: u8) {
        if let Some(place) = self.characters.get_mut(self.length) {
            *place = character & 0x7f;
            self.length += 1;
        }
    }

    /// Appends a number with so many digits, with zeros before it.
    pub(super) fn digits(&mut self, mut number: u64, count: usize) {
        let start = self.length;
        (0..count).for_each(|_| self.push(b'0'));
        let places = self
            .characters
            .get_mut(start..self.length)
            .unwrap_or_default();
        for place in places.iter_mut().rev() {
            // A remainder of ten is below ten.
            *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
        }
    }

    /// Appends a number as it is. Nothing for 0.
    pub(super) fn number(&mut self, number: u64) {
        let count = number.checked_ilog10().map_or(0, |digits| digits + 1);
        self.digits(number, usize::try_from(count).unwrap_or(0));
    }

    pub(super) fn as_str(&self) -> &str {
        let text = self.characters.get(..self.length).unwrap_or_default();
        // All of them are ASCII.
        std::str::from_utf8(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_with_their_zeros_or_without() {
        let mut text = Short::default();
        text.digits(7, 3);
        text.push(b'.');
        text.number(0);
        text.number(12_345);
        assert_eq!(text.as_str(), "007.12345");
        for _ in 0..200 {
            text.digits(99, 2);
        }
        assert_eq!(text.len(), MOST);
    }
}
