//! Decimals and floats in canonical form, as the servers make them by SQL.
//!
//! Input: the text of a number, or a float. Output: the same text for equal numbers.
//!
//! A float is rounded by its shortest digits, which are those that a server prints. Rounding its exact binary value
//! would end elsewhere at a half.

/// A number as its sign, its digits, and how many of them stand behind the point.
struct Digits {
    negative: bool,
    digits: Vec<u8>,
    scale: i64,
}

impl Digits {
    /// Reads `-12.30e4`.
    fn read(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits: Vec<u8> = whole.bytes().chain(behind.bytes()).collect();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let scale = i64::try_from(behind.len()).ok()? - i64::from(exponent);
        Some(Self {
            negative,
            digits,
            scale,
        })
    }

    fn without_leading_zeros(mut self) -> Self {
        let zeros = self
            .digits
            .iter()
            .take_while(|digit| **digit == b'0')
            .count();
        self.digits.drain(..zeros);
        self
    }

    /// Leaves out the last digits. A half is rounded away from zero.
    fn drop_last(mut self, count: usize) -> Self {
        if count == 0 {
            return self;
        }
        self.scale -= i64::try_from(count).unwrap_or(i64::MAX);
        if count > self.digits.len() {
            self.digits.clear();
            return self;
        }
        let dropped = self.digits.split_off(self.digits.len() - count);
        if dropped.first().is_some_and(|digit| *digit >= b'5') {
            self.add_one();
        }
        self
    }

    fn add_one(&mut self) {
        for digit in self.digits.iter_mut().rev() {
            if *digit == b'9' {
                *digit = b'0';
            } else {
                *digit += 1;
                return;
            }
        }
        self.digits.insert(0, b'1');
    }

    fn is_zero(&self) -> bool {
        self.digits.iter().all(|digit| *digit == b'0')
    }

    fn sign(&self) -> &'static str {
        match self.negative && !self.is_zero() {
            true => "-",
            false => "",
        }
    }
}

/// More zeros than a number of any database has are a mistake.
const MOST_ZEROS: i64 = 20_000;

/// A number with so many digits behind the point. None if the text is no number.
pub(super) fn decimal(text: &str, scale: u32) -> Option<String> {
    let mut number = Digits::read(text)?;
    let scale = i64::from(scale);
    if (number.scale - scale).abs() > MOST_ZEROS {
        return None;
    }
    if number.scale > scale {
        let count = usize::try_from(number.scale - scale).ok()?;
        number = number.drop_last(count);
        number.scale = scale;
    }
    while number.scale < scale {
        number.digits.push(b'0');
        number.scale += 1;
    }
    let sign = number.sign();
    let mut number = number.without_leading_zeros();
    let scale = usize::try_from(scale).ok()?;
    while number.digits.len() <= scale {
        number.digits.insert(0, b'0');
    }
    let (whole, behind) = number.digits.split_at(number.digits.len() - scale);
    let point = if scale == 0 { "" } else { "." };
    Some(format!(
        "{sign}{}{point}{}",
        text_of(whole),
        text_of(behind)
    ))
}

/// A number without zeros at its end. None if the text is no number.
pub(super) fn plain(text: &str) -> Option<String> {
    let scale = u32::try_from(Digits::read(text)?.scale.max(0)).ok()?;
    let text = decimal(text, scale)?;
    if !text.contains('.') {
        return Some(text);
    }
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

/// A number in so many digits: its digits as a whole number without zeros at its end, `e`, and the power of ten.
pub(super) fn float(text: &str, digits: u32) -> Option<String> {
    let number = Digits::read(text)?.without_leading_zeros();
    if number.is_zero() {
        return Some("0".into());
    }
    let digits = usize::try_from(digits).ok()?;
    let dropped = number.digits.len().saturating_sub(digits);
    let mut number = number.drop_last(dropped);
    while number.digits.last() == Some(&b'0') {
        number.digits.pop();
        number.scale -= 1;
    }
    let (sign, power) = (number.sign(), -number.scale);
    Some(format!("{sign}{}e{power}", text_of(&number.digits)))
}

fn text_of(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_has_its_digits_behind_the_point() {
        let cases = [
            ("1.5", 2, "1.50"),
            ("-0.001", 2, "0.00"),
            ("-0.005", 2, "-0.01"),
            ("0.995", 2, "1.00"),
            ("12", 0, "12"),
            ("1.5e3", 1, "1500.0"),
            ("1e-7", 2, "0.00"),
            ("-9.99", 1, "-10.0"),
        ];
        for (text, scale, form) in cases {
            assert_eq!(decimal(text, scale).as_deref(), Some(form), "{text}");
        }
        assert_eq!(decimal("abc", 2), None);
        assert_eq!(decimal("1e999999999", 2), None);
    }

    #[test]
    fn an_exact_number_has_no_zeros_at_its_end() {
        let cases = [
            ("1.50", "1.5"),
            ("100", "100"),
            ("100.00", "100"),
            ("-0.0", "0"),
            ("1e2", "100"),
        ];
        for (text, form) in cases {
            assert_eq!(plain(text).as_deref(), Some(form), "{text}");
        }
    }

    #[test]
    fn a_float_is_rounded_by_its_shortest_digits() {
        let cases = [
            ("0", 15, "0"),
            ("-0", 15, "0"),
            ("0.1", 15, "1e-1"),
            ("100", 15, "1e2"),
            ("1e23", 15, "1e23"),
            ("9.999999999999999e22", 15, "1e23"),
            ("0.1234567890123455", 15, "123456789012346e-15"),
            ("-1.5e-7", 15, "-15e-8"),
            ("0.10000000149011612", 7, "1e-1"),
        ];
        for (text, digits, form) in cases {
            assert_eq!(float(text, digits).as_deref(), Some(form), "{text}");
        }
    }
}
