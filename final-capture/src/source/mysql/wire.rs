//! Reads numbers and pieces out of bytes of the binary log.
//!
//! Input: bytes that a server sent. State: what is left of them. Output: values, or [`CannotRead`] if the bytes end
//! too early. Nothing here can panic, whatever the bytes are.

/// Why bytes of the binary log cannot be read. The reader adds the position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CannotRead(pub(super) String);

impl CannotRead {
    /// With a text.
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// What is left of some bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire<'a>(pub(super) &'a [u8]);

impl<'a> Wire<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], CannotRead> {
        match self.0.split_at_checked(count) {
            Some((piece, rest)) => {
                self.0 = rest;
                Ok(piece)
            }
            None => Err(CannotRead(format!(
                "it ends {} bytes too early",
                count - self.0.len()
            ))),
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8, CannotRead> {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                Ok(byte)
            }
            None => Err(CannotRead::new("it ends 1 byte too early")),
        }
    }

    /// A number of `bytes` bytes, at most 8, the lowest first.
    pub(super) fn low_first(&mut self, bytes: usize) -> Result<u64, CannotRead> {
        let piece = self.take(bytes)?;
        Ok(piece
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// A number of `bytes` bytes, at most 8, the highest first.
    pub(super) fn high_first(&mut self, bytes: usize) -> Result<u64, CannotRead> {
        let piece = self.take(bytes)?;
        Ok(piece
            .iter()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// A number whose first byte tells how many bytes it has.
    pub(super) fn lenenc(&mut self) -> Result<u64, CannotRead> {
        match self.u8()? {
            small @ 0..=250 => Ok(u64::from(small)),
            252 => self.low_first(2),
            253 => self.low_first(3),
            254 => self.low_first(8),
            other => Err(CannotRead(format!("{other} begins no length"))),
        }
    }

    /// A length as [`lenenc`](Self::lenenc), for this machine.
    pub(super) fn length(&mut self) -> Result<usize, CannotRead> {
        usize::try_from(self.lenenc()?).map_err(|_| CannotRead::new("a length is too large"))
    }
}

/// Whether bit number `at` is set, counted from the lowest bit of the first byte.
pub(super) fn bit(bits: &[u8], at: usize) -> bool {
    bits.get(at / 8)
        .is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_both_directions_and_never_past_the_end() {
        let bytes = [1, 2, 3, 252, 4, 1];
        let mut wire = Wire(&bytes);
        assert_eq!(wire.low_first(2).unwrap(), 0x0201);
        assert_eq!(wire.u8().unwrap(), 3);
        assert_eq!(wire.lenenc().unwrap(), 0x0104);
        assert!(wire.is_empty());
        assert!(wire.u8().is_err());
        assert!(wire.take(1).is_err());
        assert_eq!(Wire(&[1, 2, 3]).high_first(3).unwrap(), 0x01_0203);
        assert!(Wire(&[251]).lenenc().is_err(), "NULL is no length");
    }
}
