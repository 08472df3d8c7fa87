//! Lists of values in a statement.
//!
//! Input: values. Output: their placeholders, in few different lengths.

/// Placeholders for so many values: `?, ?, ?`.
pub(crate) fn list(number: usize) -> String {
    let mut text = "?, ".repeat(number);
    text.truncate(text.len().saturating_sub(2));
    text
}

/// The values, filled up with the last one to one of a few lengths, so that the statement cache has few texts:
/// 5 values become 16. A value that stands in a list twice does no harm.
pub(crate) fn padded<T: Copy>(items: &[T]) -> Vec<T> {
    const SIZES: [usize; 5] = [1, 4, 16, 64, 512];
    let size = SIZES.into_iter().find(|size| *size >= items.len());
    let mut padded = items.to_vec();
    if let (Some(size), Some(last)) = (size, items.last()) {
        padded.resize(size, *last);
    }
    padded
}
