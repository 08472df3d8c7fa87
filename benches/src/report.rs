//! The table, and `docs/benchmarks/results.md`.
//!
//! The document has a block per scenario, between two comments. A run replaces the blocks of the
//! scenarios it has played and leaves the words around them.

use std::{fs, path::Path};

use crate::{
    Result, machine,
    plot::Plot,
    row::{Must, Row, Spread},
};

/// A line for the screen.
pub(crate) fn line(row: &Row) -> String {
    let verdict = match row.holds() {
        Some(true) => "ok",
        Some(false) => "SHORT",
        None => "",
    };
    format!(
        "  {:<16} {:<9} {:<34} {:>30}  {:<24} {} {verdict}",
        row.side,
        row.db,
        row.metric,
        spread(row.spread),
        row.ratio.map(ratio).unwrap_or_default(),
        row.must.map(must).unwrap_or_default(),
    )
}

/// Puts what a scenario has shown into the document.
pub(crate) fn write(scenario: &str, rows: &[Row], plots: &[Plot]) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks");
    let mut text = String::from(
        "| side | database | what | median (min to max) | ratio (min to max) | must | |\n\
         | --- | --- | --- | ---: | ---: | --- | --- |\n",
    );
    for row in rows {
        let holds = match row.holds() {
            Some(true) => "holds",
            Some(false) => "**falls short**",
            None => "",
        };
        text += &format!(
            "| {} | {} | {} | {} | {} | {} | {holds} |\n",
            row.side,
            row.db,
            row.metric,
            spread(row.spread),
            row.ratio.map(ratio).unwrap_or_default(),
            row.must.map(must).unwrap_or_default(),
        );
    }
    for plot in plots {
        plot.write(&folder)?;
        text += &format!("\n![{}]({}.svg)\n", plot.title, plot.name);
    }
    let path = folder.join("results.md");
    let mut document = fs::read_to_string(&path)?;
    let machine = machine::describe()
        .iter()
        .map(|line| format!("- {line}\n"))
        .collect::<String>();
    for (name, block) in [("machine", &machine), (scenario, &text)] {
        document = replaced(&document, name, block)
            .ok_or_else(|| format!("docs/benchmarks/results.md has no block <!-- {name} -->"))?;
    }
    fs::write(&path, document)?;
    Ok(())
}

/// The document with another text between `<!-- name -->` and `<!-- /name -->`.
fn replaced(document: &str, name: &str, block: &str) -> Option<String> {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = document.split_once(&open)?;
    let (_, after) = rest.split_once(&close)?;
    Some(format!("{before}{open}\n{block}\n{close}{after}"))
}

fn spread(spread: Spread) -> String {
    let Spread { median, min, max } = spread;
    if min == max {
        return number(median);
    }
    format!("{} ({} to {})", number(median), number(min), number(max))
}

fn ratio(ratio: Spread) -> String {
    format!("{:.3} ({:.3} to {:.3})", ratio.median, ratio.min, ratio.max)
}

fn must(must: Must) -> String {
    match must {
        Must::RatioAtLeast(least) => format!("ratio ≥ {least}"),
        Must::RatioAtMost(most) => format!("ratio ≤ {most}"),
        Must::AtLeast(least) => format!("≥ {least}"),
        Must::AtMost(most) => format!("≤ {most}"),
        Must::Below(most) => format!("< {most}"),
    }
}

/// With as many digits as say something.
fn number(number: f64) -> String {
    let digits = match number.abs() {
        it if it >= 100.0 || it == 0.0 => 0,
        it if it >= 10.0 => 1,
        it if it >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{number:.digits$}");
    if digits > 0 {
        return text;
    }
    let negative = text.starts_with('-');
    let plain = text.trim_start_matches('-');
    let mut grouped = String::new();
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if negative {
        format!("-{grouped}")
    } else {
        grouped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_replaced_and_the_words_around_it_stay() {
        let before = "words\n<!-- tx -->\nold\n<!-- /tx -->\nmore\n";
        let after = replaced(before, "tx", "new\n");
        assert_eq!(
            after.as_deref(),
            Some("words\n<!-- tx -->\n\nnew\n\n<!-- /tx -->\nmore\n")
        );
        assert_eq!(replaced(before, "relay", ""), None);
    }

    #[test]
    fn large_numbers_are_grouped_and_small_ones_keep_their_digits() {
        assert_eq!(number(1_234_567.8), "1,234,568");
        assert_eq!(number(0.1234), "0.123");
        assert_eq!(number(12.34), "12.3");
    }
}
