//! Exact numbers as the binary log stores them: groups of nine digits, the sign in the first bit.
//!
//! Input: the bytes, precision and scale. Output: the text that SELECT gives.

use super::{
    short::Short,
    wire::{CannotRead, Wire},
};

/// How many bytes so many digits take that are no full group of nine.
const BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
const GROUP: usize = 9;
/// How many digits a DECIMAL has at most.
const MOST_DIGITS: u8 = 65;

/// How many bytes a value takes.
pub(super) fn size(precision: u8, scale: u8) -> usize {
    let part = |digits: usize| digits / GROUP * 4 + BYTES.get(digits % GROUP).copied().unwrap_or(0);
    part(usize::from(precision.saturating_sub(scale))) + part(usize::from(scale))
}

/// Reads a value.
pub(super) fn read(wire: &mut Wire<'_>, precision: u8, scale: u8) -> Result<Short, CannotRead> {
    if scale > precision || precision > MOST_DIGITS {
        return Err(CannotRead(format!(
            "there is no DECIMAL({precision},{scale})"
        )));
    }
    let mut bytes = [0_u8; 40];
    let size = size(precision, scale);
    let piece = wire.take(size)?;
    let Some(own) = bytes.get_mut(..size) else {
        return Err(CannotRead::new("a DECIMAL is too long"));
    };
    own.copy_from_slice(piece);
    let Some(first) = own.first_mut() else {
        return Err(CannotRead::new("a DECIMAL has no digits"));
    };
    // The sign is the first bit, turned round. All bits of a negative number are turned round as well.
    let negative = *first & 0x80 == 0;
    *first ^= 0x80;
    if negative {
        own.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let mut wire = Wire(own);
    let (whole, scale) = (usize::from(precision - scale), usize::from(scale));

    let mut text = Short::default();
    if negative {
        text.push(b'-');
    }
    let mut group = |text: &mut Short, count: usize, leading: bool| -> Result<(), CannotRead> {
        let number = wire.high_first(BYTES.get(count).copied().unwrap_or(4))?;
        let most = u32::try_from(count).map_or(u64::MAX, |count| 10_u64.pow(count));
        if number >= most {
            return Err(CannotRead::new("a DECIMAL has a group that is too large"));
        }
        if leading {
            text.digits(number, count);
        } else {
            text.number(number);
        }
        Ok(())
    };
    // The zeros before the first digit are left out.
    let empty = text.len();
    for count in std::iter::once(whole % GROUP)
        .filter(|count| *count > 0)
        .chain(std::iter::repeat_n(GROUP, whole / GROUP))
    {
        let begun = text.len() > empty;
        group(&mut text, count, begun)?;
    }
    if text.len() == empty {
        text.push(b'0');
    }
    if scale > 0 {
        text.push(b'.');
        for count in std::iter::repeat_n(GROUP, scale / GROUP)
            .chain(std::iter::once(scale % GROUP).filter(|count| *count > 0))
        {
            group(&mut text, count, true)?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8], precision: u8, scale: u8) -> String {
        let mut wire = Wire(bytes);
        let text = read(&mut wire, precision, scale).unwrap();
        assert!(wire.is_empty());
        text.as_str().to_owned()
    }

    #[test]
    fn digits_before_and_behind_the_point_are_read_with_their_sign() {
        // 1234567890.1234 and its negative, as DECIMAL(14,4): the example of the server's own sources.
        let plus = [0x81, 0x0D, 0xFB, 0x38, 0xD2, 0x04, 0xD2];
        let minus = plus.map(|byte: u8| !byte);
        assert_eq!(text(&plus, 14, 4), "1234567890.1234");
        assert_eq!(text(&minus, 14, 4), "-1234567890.1234");
        assert_eq!(text(&[0x80, 0x00], 3, 2), "0.00");
        assert_eq!(text(&[0x80, 0x05], 3, 2), "0.05");
        assert_eq!(text(&[0x85], 2, 0), "5");
    }

    #[test]
    fn hostile_digits_are_an_error() {
        assert!(read(&mut Wire(&[0xff, 0xff]), 3, 2).is_err());
        assert!(read(&mut Wire(&[0x80]), 14, 4).is_err());
        assert!(read(&mut Wire(&[0x80]), 2, 4).is_err());
        assert!(read(&mut Wire(&[]), 0, 0).is_err());
    }
}
