//! What is left on the screen of a terminal, after everything that was written to it.

/// The lines of the screen, without blanks at their ends. It knows the sequences that `final` writes: colours, up,
/// and what clears.
pub fn screen(shown: &str) -> Vec<String> {
    let (mut lines, mut row, mut column) = (vec![Vec::new()], 0, 0);
    let mut letters = shown.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\r' => column = 0,
            '\n' => (row, column) = (row + 1, 0),
            '\u{1b}' => {
                assert_eq!(letters.next(), Some('['), "{shown:?}");
                let mut number = String::new();
                let end = letters.by_ref().find(|letter| {
                    let is_end = letter.is_ascii_alphabetic();
                    number.extend((!is_end).then_some(letter));
                    is_end
                });
                match (end, number.as_str()) {
                    (Some('m'), _) => {}
                    (Some('H'), "") => (row, column) = (0, 0),
                    (Some('J'), "2") => lines.iter_mut().for_each(Vec::clear),
                    (Some('K'), "2") => lines[row].clear(),
                    (Some('K'), "" | "0") => lines[row].truncate(column),
                    (Some('A'), up) => row -= up.parse().unwrap_or(1).min(row),
                    other => panic!("the screen knows no {other:?} in {shown:?}"),
                }
            }
            letter => {
                let line: &mut Vec<char> = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = letter;
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    let lines = lines.into_iter().map(String::from_iter);
    lines
        .map(|line: String| line.trim_end().to_owned())
        .collect()
}
