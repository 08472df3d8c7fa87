//! The table in `docs/benchmarks/peers.md`, between two comments. The words around it stay.

use std::{fs, path::Path};

use crate::{
    Result,
    contest::Outcome,
    row::{Row, Spread},
};

const OPEN: &str = "<!-- peers -->\n";
const CLOSE: &str = "<!-- /peers -->";

/// A line for the screen.
pub(crate) fn line(row: &Row) -> String {
    let ratio = row.ratio.map(ratio).unwrap_or_default();
    let Row { side, metric, .. } = row;
    format!(
        "  {side:<40} {metric:<60} {:>26}  {ratio}",
        rate(row.spread)
    )
}

/// Puts what was played into the document.
pub(crate) fn write(outcomes: &[Outcome]) -> Result<()> {
    let mut table = String::from(
        "| job | peer | ours, per second (min to max) | theirs | ours / theirs (min to max) |\n\
         | --- | --- | ---: | ---: | ---: |\n",
    );
    for it in outcomes {
        table += &format!(
            "| {} | {} | {} | {} | {} |\n",
            it.contest.job.name(),
            it.contest.peer,
            rate(it.ours),
            rate(it.theirs),
            ratio(it.ratio),
        );
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/benchmarks/peers.md");
    let document = fs::read_to_string(&path)?;
    let document = replaced(&document, &table)
        .ok_or("docs/benchmarks/peers.md has no block <!-- peers -->")?;
    Ok(fs::write(&path, document)?)
}

/// The document with another table.
fn replaced(document: &str, table: &str) -> Option<String> {
    let (before, rest) = document.split_once(OPEN)?;
    let (_, after) = rest.split_once(CLOSE)?;
    Some(format!("{before}{OPEN}\n{table}\n{CLOSE}{after}"))
}

fn rate(Spread { median, min, max }: Spread) -> String {
    format!("{} ({} to {})", grouped(median), grouped(min), grouped(max))
}

fn ratio(Spread { median, min, max }: Spread) -> String {
    format!("{median:.2} ({min:.2} to {max:.2})")
}

/// 12,345.
fn grouped(rate: f64) -> String {
    let plain = format!("{rate:.0}");
    let mut grouped = String::new();
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_replaced_and_the_words_around_it_stay() {
        let before = "words\n<!-- peers -->\nold\n<!-- /peers -->\nmore\n";
        let after = "words\n<!-- peers -->\n\nnew\n\n<!-- /peers -->\nmore\n";
        assert_eq!(replaced(before, "new\n").as_deref(), Some(after));
        assert_eq!(replaced("no such block", ""), None);
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(1_234_567.2), "1,234,567");
        assert_eq!(grouped(123.4), "123");
    }
}
