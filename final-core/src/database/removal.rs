//! Removing rows by their numbers.
//!
//! Input: a table, and the numbers of rows that the transaction has locked. Output: a DELETE that waits for no row of
//! another session.

use super::{
    Dialect, Value,
    lists::{list, padded},
};

/// The template of a DELETE of rows by their column `seq`, and its values. With a group, where the key of the table
/// begins with `group_name`.
pub(crate) fn removal<'a>(
    dialect: Dialect,
    table: &str,
    group: Option<&'a str>,
    seqs: &[i64],
) -> (String, Vec<Value<'a>>) {
    let seqs = padded(seqs);
    let numbers = seqs.len();
    let (seqs, group) = (seqs.into_iter().map(Value::from), group.map(Value::from));
    match dialect {
        // Where most of a small table is meant, MySQL would rather go through all of it, and wait for rows that others
        // have locked or inserted. A DELETE takes no hint, so it is a join that looks up each row by the key.
        Dialect::MySql => {
            let numbers = vec!["SELECT CAST(? AS SIGNED) AS seq"; numbers].join(" UNION ALL ");
            let of_group = group.as_ref().map_or("", |_| "r.group_name = ? AND ");
            let delete = format!(
                "DELETE r FROM ({numbers}) AS l STRAIGHT_JOIN {table} AS r ON {of_group}r.seq = l.seq"
            );
            (delete, seqs.chain(group).collect())
        }
        Dialect::Postgres | Dialect::Sqlite => {
            let numbers = list(numbers);
            let of_group = group.as_ref().map_or("", |_| "group_name = ? AND ");
            let delete = format!("DELETE FROM {table} WHERE {of_group}seq IN ({numbers})");
            (delete, group.into_iter().chain(seqs).collect())
        }
    }
}
