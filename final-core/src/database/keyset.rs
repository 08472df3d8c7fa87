//! Pages of a table by its key.
//!
//! Input: the columns of the order, and their values in the last row of the page before. Output: the condition
//! for the next page. Each page begins after that row, so it does not matter which rows come and go meanwhile.

use super::Value;

/// The condition that rows come after a row with these values of these columns, as a template, and its
/// values. Without values: all rows.
///
/// The columns are those of the ORDER BY, and together they must be unique. Written out, because not every
/// database reads `(a, b) > (?, ?)` by an index.
///
/// ```
/// use final_core::database::after;
///
/// let (condition, values) = after(&["topic", "id"], Some(&["a".into(), 7_i64.into()]));
/// assert_eq!(condition, "(topic > ? OR (topic = ? AND (id > ?)))");
/// assert_eq!(values, ["a".into(), "a".into(), 7_i64.into()]);
/// assert_eq!(after(&["id"], None).0, "1 = 1");
/// ```
#[must_use]
pub fn after<'a>(columns: &[&str], last: Option<&[Value<'a>]>) -> (String, Vec<Value<'a>>) {
    let Some(last) = last else {
        return ("1 = 1".to_owned(), Vec::new());
    };
    let mut values = Vec::with_capacity(2 * last.len());
    let mut condition = String::new();
    let pairs = columns.len().min(last.len());
    for (place, (column, value)) in columns.iter().zip(last).enumerate() {
        condition.push_str(&format!("({column} > ?"));
        values.push(value.clone());
        if place + 1 < pairs {
            condition.push_str(&format!(" OR ({column} = ? AND "));
            values.push(value.clone());
        }
    }
    condition.push_str(&")".repeat((2 * pairs).saturating_sub(1)));
    (condition, values)
}
