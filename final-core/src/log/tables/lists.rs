//! Lists of values in a statement.

/// `?, ?, ?`, as many as there are.
pub(crate) fn list(number: usize) -> String {
    let mut text = "?, ".repeat(number);
    text.truncate(text.len().saturating_sub(2));
    text
}

/// A list that is filled up with its last, so that there are few texts in the statement cache.
pub(crate) fn padded<T: Copy>(items: &[T]) -> Vec<T> {
    const SIZES: [usize; 5] = [1, 4, 16, 64, 512];
    let size = SIZES.into_iter().find(|size| *size >= items.len());
    let mut padded = items.to_vec();
    if let (Some(size), Some(last)) = (size, items.last()) {
        padded.resize(size, *last);
    }
    padded
}
