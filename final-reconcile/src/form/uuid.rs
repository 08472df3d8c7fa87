//! How a UUID is written.

/// 32 digits with dashes, as a UUID is printed.
pub(crate) fn dashed(digits: &str) -> String {
    match (digits.len(), digits.is_ascii()) {
        (32, true) => {
            let parts = [
                &digits[..8],
                &digits[8..12],
                &digits[12..16],
                &digits[16..20],
                &digits[20..],
            ];
            parts.join("-")
        }
        _ => digits.to_owned(),
    }
}
