//! The command line.

use crate::Result;

/// What to run, and how to tell of it.
#[derive(Debug)]
pub(crate) struct Args {
    /// In the order of the documentation, each once.
    pub(crate) scenarios: Vec<&'static str>,
    /// One line per result on stdout.
    pub(crate) json: bool,
    /// Seconds in place of minutes, to see that everything runs. Nothing is written down, and no
    /// time is judged; counts are.
    pub(crate) smoke: bool,
    /// Only these databases.
    pub(crate) databases: Vec<String>,
    /// So many rows in place of the usual number, where a scenario compares tables.
    pub(crate) rows: Option<u64>,
}

impl Args {
    /// `known`: the names of all scenarios.
    pub(crate) fn parse(
        words: impl Iterator<Item = String>,
        known: Vec<&'static str>,
    ) -> Result<Self> {
        let mut args = Self {
            scenarios: Vec::new(),
            json: false,
            smoke: false,
            databases: Vec::new(),
            rows: None,
        };
        let mut named = Vec::new();
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--json" => args.json = true,
                "--smoke" => args.smoke = true,
                "--db" => match words.next() {
                    Some(db) if ["postgres", "mariadb", "sqlite"].contains(&db.as_str()) => {
                        args.databases.push(db);
                    }
                    _ => return Err("--db takes postgres, mariadb or sqlite".into()),
                },
                "--rows" => match words.next().map(|rows| rows.replace('_', "").parse()) {
                    Some(Ok(rows)) => args.rows = Some(rows),
                    _ => return Err("--rows takes a number".into()),
                },
                name => named.push(name.to_owned()),
            }
        }
        if let Some(unknown) = named.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(format!(
                "there is no scenario {unknown:?}; use some of: {}",
                known.join(" ")
            )
            .into());
        }
        args.scenarios = known;
        if !named.is_empty() {
            args.scenarios
                .retain(|name| named.iter().any(|n| n == name));
        }
        Ok(args)
    }

    /// Whether a database takes part.
    pub(crate) fn wants(&self, db: &str) -> bool {
        self.databases.is_empty() || self.databases.iter().any(|it| it == db)
    }
}
