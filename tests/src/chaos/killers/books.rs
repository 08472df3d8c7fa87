//! What became of each message: all journals and all dead letters together.
//!
//! Input: the numbers that were published, the journals of the processes, and the dead letters. Output: a
//! [`Verdict`], with everything that broke a promise as text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::PathBuf,
};

use super::HandlerFate;

/// A message may be given up after so many runs, and not before.
const ENOUGH_RUNS: usize = 3;

/// The messages of a run.
#[derive(Debug, Default)]
pub(super) struct KillerBooks {
    pub(super) published: BTreeSet<i64>,
    pub(super) journals: Vec<PathBuf>,
    pub(super) letters: Vec<Letter>,
    pub(super) aborts: usize,
    pub(super) restarts: usize,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    /// Its message, if it is one of ours.
    pub(super) number: Option<i64>,
    /// The reason that the bus has written. RabbitMQ writes none.
    pub(super) reason: Option<String>,
}

/// How often handlers began with a message, and ended.
#[derive(Debug, Default, Clone, Copy)]
struct Runs {
    begun: usize,
    handled: usize,
}

/// The result of a run. `Display` writes it as Markdown.
#[derive(Debug, Default)]
pub struct Verdict {
    rows: Vec<(&'static str, usize)>,
    problems: Vec<String>,
}

impl KillerBooks {
    /// Notes dead letters as they come.
    pub(super) fn add(&mut self, letters: Vec<Letter>) {
        self.letters.extend(letters);
    }

    /// Messages that are neither handled nor dead-lettered.
    pub(super) fn open(&self) -> io::Result<Vec<i64>> {
        let (runs, dead) = (self.runs()?, self.dead());
        let is_open = |number: &&i64| {
            let is_handled = runs.get(number).is_some_and(|runs| runs.handled > 0);
            !is_handled && !dead.contains_key(number)
        };
        Ok(self.published.iter().filter(is_open).copied().collect())
    }

    fn runs(&self) -> io::Result<BTreeMap<i64, Runs>> {
        let mut all = BTreeMap::<_, Runs>::new();
        for journal in &self.journals {
            let text = match fs::read_to_string(journal) {
                // The process did not live long enough to make one.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read?,
            };
            for line in text.lines() {
                let Some((what, number)) = line.split_once(' ') else {
                    continue;
                };
                let Ok(number) = number.parse() else { continue };
                let runs = all.entry(number).or_default();
                match what {
                    "began" => runs.begun += 1,
                    _ => runs.handled += 1,
                }
            }
        }
        Ok(all)
    }

    fn dead(&self) -> BTreeMap<i64, &Letter> {
        let letters = self.letters.iter();
        letters
            .filter_map(|letter| Some((letter.number?, letter)))
            .collect()
    }

    /// Compares everything at the end.
    pub(super) fn close(&self, seed: u64, mut problems: Vec<String>) -> io::Result<Verdict> {
        let (runs, dead) = (self.runs()?, self.dead());
        let begun = |number: &i64| runs.get(number).map_or(0, |runs| runs.begun);
        let is_handled = |number: &i64| runs.get(number).is_some_and(|runs| runs.handled > 0);
        let is_poison = |number: &i64| HandlerFate::of(seed, *number).is_poison();
        let select = |wanted: &dyn Fn(&i64) -> bool| -> Vec<i64> {
            let numbers = self.published.iter();
            numbers.filter(|number| wanted(number)).copied().collect()
        };

        let poison = select(&is_poison);
        let handled = select(&is_handled);
        let lost = select(&|number| !is_handled(number) && !dead.contains_key(number));
        let known = runs.keys().chain(dead.keys());
        let invented: BTreeSet<_> = known
            .filter(|number| !self.published.contains(number))
            .copied()
            .collect();
        let unknown = self.letters.iter().filter(|letter| letter.number.is_none());
        let given_up: Vec<_> = dead.keys().filter(|number| !is_poison(number)).collect();
        let untried = given_up.iter().filter(|number| begun(number) == 0);
        let too_early = given_up
            .iter()
            .filter(|number| (1..ENOUGH_RUNS).contains(&begun(number)));
        let (untried, too_early) = (untried.count(), too_early.count());
        let both = dead.keys().filter(|number| is_handled(number)).count();
        let longest = poison.iter().map(begun).max().unwrap_or(0);
        let by_broker = self.letters.iter().filter(|letter| letter.reason.is_none());
        let repeats = runs.values().map(|runs| runs.handled.saturating_sub(1));

        let mut wrong = |what: &str, count: usize| {
            if count > 0 {
                problems.push(format!("{what}: {count}"));
            }
        };
        wrong("lost or stuck", lost.len());
        wrong("invented", invented.len() + unknown.count());
        wrong("dead-lettered without a run", untried);
        wrong("dead-lettered after one or two runs", too_early);
        Ok(Verdict {
            rows: vec![
                ("messages published", self.published.len()),
                ("… handled", handled.len()),
                ("… whose handler always kills its process", poison.len()),
                (
                    "… of these dead-lettered",
                    dead.keys().filter(|number| is_poison(number)).count(),
                ),
                ("most runs of one of these", longest),
                ("processes that a handler has killed", self.aborts),
                (
                    "processes that were shut down and started again",
                    self.restarts,
                ),
                ("**lost or stuck**", lost.len()),
                ("**invented**", invented.len()),
                ("**dead-lettered without a run**", untried),
                ("**dead-lettered after one or two runs**", too_early),
                (
                    "other innocent messages dead-lettered",
                    given_up.len() - untried - too_early,
                ),
                ("handled, and dead-lettered too", both),
                ("dead letters of RabbitMQ's own", by_broker.count()),
                ("handled again", repeats.sum()),
            ],
            problems,
        })
    }
}

impl Verdict {
    /// Everything that went wrong. Empty if every promise was kept.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | number |\n| --- | ---: |")?;
        for (what, number) in &self.rows {
            writeln!(f, "| {what} | {number} |")?;
        }
        for problem in &self.problems {
            writeln!(f, "\nWRONG: {problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkDir;

    const SEED: u64 = 27;
    /// With this seed it always kills its process.
    const POISON: i64 = 43;

    fn verdict(journal: &str, dead: &[i64]) -> Vec<String> {
        let dir = WorkDir::new("books").unwrap();
        let path = dir.join("journal");
        fs::write(&path, journal).unwrap();
        let letters = dead.iter().map(|number| Letter {
            number: Some(*number),
            reason: None,
        });
        let books = KillerBooks {
            published: [0, 1, POISON].into(),
            journals: vec![path, dir.join("of a process that died at once")],
            letters: letters.collect(),
            ..KillerBooks::default()
        };
        books.close(SEED, Vec::new()).unwrap().problems
    }

    #[test]
    fn the_books_agree_where_each_message_ends_as_it_should() {
        let journal = "began 0\nhandled 0\nbegan 43\nbegan 1\nbegan 1\nhandled 1\nbegan 43\n";

        assert_eq!(verdict(journal, &[POISON]), [] as [&str; 0]);
    }

    #[test]
    fn what_is_lost_invented_or_given_up_too_early_is_told() {
        let journal = "began 0\nhandled 0\nhandled 7\n";
        assert_eq!(
            verdict(journal, &[POISON]),
            ["lost or stuck: 1", "invented: 1"]
        );

        let journal = "began 0\nhandled 0\n";
        let told = ["dead-lettered without a run: 1"];
        assert_eq!(verdict(journal, &[1, POISON]), told);

        let journal = "began 0\nhandled 0\nbegan 1\nbegan 1\n";
        let told = ["dead-lettered after one or two runs: 1"];
        assert_eq!(verdict(journal, &[1, POISON]), told);

        let journal = "began 0\nhandled 0\nbegan 1\nbegan 1\nbegan 1\n";
        assert_eq!(verdict(journal, &[1, POISON]), [] as [&str; 0]);
    }
}
