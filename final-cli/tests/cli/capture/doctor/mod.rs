//! `final capture doctor`: each finding is made, is seen and nothing else, and is gone once its own words were followed.

mod mariadb;
mod postgres;

use final_tests::WorkDir;
use serde_json::Value;

use crate::program::{program, run};

/// A configuration, and what the doctor says of it.
struct Doctor {
    dir: WorkDir,
    /// `mysql = '…'` or `postgres = '…'`, and more keys of the source.
    source: String,
    tables: Vec<String>,
    /// Rules for columns.
    columns: String,
}

impl Doctor {
    fn new(source: impl Into<String>) -> Self {
        Self {
            dir: WorkDir::new("doctor").expect("a folder"),
            source: source.into(),
            tables: vec!["shop.*".to_owned()],
            columns: String::new(),
        }
    }

    fn tables(mut self, tables: &[&str]) -> Self {
        self.tables = tables.iter().map(|&table| table.to_owned()).collect();
        self
    }

    /// A column that is to be masked.
    fn masks(mut self, column: &str) -> Self {
        self.columns = format!("[[select.columns]]\ntables = 'shop.*'\nmask = ['{column}']\n");
        self
    }

    /// Asserts that exactly these are found, the worst first.
    async fn finds(&self, names: &[&str]) -> Vec<Value> {
        let Self {
            source,
            tables,
            columns,
            ..
        } = self;
        let config = format!(
            "name = 'shop'\n[source]\n{source}\n[select]\ntables = {tables:?}\n{columns}\
             [target]\nlog = 'sqlite:log.db'\n"
        );
        let file = self.dir.write("capture.toml", &config).expect("written");
        let file = file.display().to_string();
        let args = ["capture", "doctor", "--json", "--config", &file];
        let ran = run(&mut program(), args).await;
        let found = ran.json();
        let seen: Vec<&str> = found
            .iter()
            .map(|finding| finding["name"].as_str().expect("a name"))
            .collect();
        assert_eq!(seen, names, "{config}\n{ran:#?}");
        let is_alarm = |finding: &Value| finding["level"] != "note";
        ran.ends_with(match found.iter().any(is_alarm) {
            true => 3,
            false => 0,
        });
        found
    }
}

/// What a finding says to type: it stands between backticks.
fn typed(finding: &Value) -> Vec<String> {
    let mend = finding["mend"].as_str().expect("words");
    let typed = mend.split('`').skip(1).step_by(2);
    typed.map(str::to_owned).collect()
}
