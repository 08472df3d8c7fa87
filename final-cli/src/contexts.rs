//! Names for databases: the file of contexts.
//!
//! Input: the file `FINAL_CONTEXTS`, else `final/contexts.toml` in the user's folder of configuration; the name of
//! a context. Output: its database and broker, and whether it is in production.
//!
//! ```toml
//! [shop]
//! database_url_file = "/run/secrets/shop-database"
//! rabbitmq_url = "amqps://ops@mq.example/%2f"
//! service = "shop"
//! production = true
//! ```

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::exit::Failure;

/// A context: names for what stands on the command line otherwise. Its `Debug` has no URL.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// The name of its table in the file.
    #[serde(skip)]
    pub(crate) name: String,
    database_url: Option<String>,
    database_url_file: Option<PathBuf>,
    rabbitmq_url: Option<String>,
    rabbitmq_url_file: Option<PathBuf>,
    /// The certificate of the authority of RabbitMQ, where the machine does not trust it.
    pub(crate) rabbitmq_ca: Option<PathBuf>,
    /// The service that is meant where a command names none.
    pub(crate) service: Option<String>,
    /// Whether every change asks for the name of the context.
    #[serde(default)]
    pub(crate) production: bool,
}

impl Context {
    /// Looks a context up in the file.
    pub(crate) fn find(name: &str) -> Result<Self, Failure> {
        let file = file()?;
        let text = fs::read_to_string(&file).map_err(|error| {
            Failure::usage(format!(
                "the contexts cannot be read from {}: {error}; write the file, or set FINAL_CONTEXTS to \
                 another one",
                file.display()
            ))
        })?;
        Self::read(name, &text, &file)
    }

    fn read(name: &str, text: &str, file: &Path) -> Result<Self, Failure> {
        let shown = file.display();
        let mut contexts: BTreeMap<String, Self> = toml::from_str(text).map_err(|error| {
            // Not the whole error: it quotes the line, which may have a password.
            let line = error
                .span()
                .map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            Failure::usage(format!(
                "{shown}, line {line}: {}; a context is a table with `database_url` or `database_url_file`, \
                 and, as needed, `rabbitmq_url` or `rabbitmq_url_file`, `rabbitmq_ca`, `service`, `production`",
                error.message()
            ))
        })?;
        let Some(mut context) = contexts.remove(name) else {
            let names: Vec<String> = contexts.into_keys().collect();
            return Err(Failure::usage(format!(
                "{shown} has no context {name:?}; it has: {}",
                names.join(", ")
            )));
        };
        name.clone_into(&mut context.name);
        Ok(context)
    }

    /// The URL of its database, if it has one.
    pub(crate) fn database_url(&self) -> Result<Option<String>, Failure> {
        self.url(
            "database_url",
            self.database_url.as_ref(),
            self.database_url_file.as_ref(),
        )
    }

    /// The URL of its RabbitMQ, if it has one.
    pub(crate) fn rabbitmq_url(&self) -> Result<Option<String>, Failure> {
        self.url(
            "rabbitmq_url",
            self.rabbitmq_url.as_ref(),
            self.rabbitmq_url_file.as_ref(),
        )
    }

    fn url(
        &self,
        field: &str,
        url: Option<&String>,
        file: Option<&PathBuf>,
    ) -> Result<Option<String>, Failure> {
        let Self { name, .. } = self;
        match (url, file) {
            (Some(_), Some(_)) => Err(Failure::usage(format!(
                "the context {name:?} has both `{field}` and `{field}_file`; keep one of them"
            ))),
            (None, Some(file)) => match fs::read_to_string(file) {
                Ok(url) => Ok(Some(url.trim().to_owned())),
                Err(error) => Err(Failure::usage(format!(
                    "`{field}_file` of the context {name:?} cannot be read from {}: {error}",
                    file.display()
                ))),
            },
            (url, None) => Ok(url.cloned()),
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("name", &self.name)
            .field("production", &self.production)
            .finish_non_exhaustive()
    }
}

fn file() -> Result<PathBuf, Failure> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(file) = set("FINAL_CONTEXTS") {
        return Ok(file.into());
    }
    let config = set("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".config")));
    config
        .map(|config| config.join("final/contexts.toml"))
        .ok_or_else(|| {
            Failure::usage("a context is named and HOME is not set; set FINAL_CONTEXTS to the file of contexts")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Context, String> {
        Context::read(name, text, Path::new("contexts.toml")).map_err(|failure| match failure {
            Failure::Usage(text) => text,
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn a_context_is_a_table_of_the_file() {
        let text = "[a]\ndatabase_url = \"sqlite:a.db\"\n[b]\ndatabase_url = \"sqlite:b.db\"\nproduction = true\n";
        let context = read("b", text).expect("a context");
        assert_eq!(
            context.database_url().expect("a URL").as_deref(),
            Some("sqlite:b.db")
        );
        assert!(context.production);
        let error = read("c", text).expect_err("no such context");
        assert!(
            error.ends_with("has no context \"c\"; it has: a, b"),
            "{error}"
        );
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_without_the_line_itself() {
        let wrong = [
            (
                "[a]\ndatabase_url = \"postgres://u:secret@h/d\"\nprodution = true\n",
                "line 3: unknown field",
            ),
            (
                "[a]\n\ndatabase_url = postgres://u:secret@h/d\n",
                "line 3: ",
            ),
        ];
        for (text, part) in wrong {
            let error = read("a", text).expect_err("a mistake");
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_context_is_shown_without_its_urls() {
        let text = "[a]\ndatabase_url = \"postgres://u:secret@h/d\"\n";
        assert!(!format!("{:?}", read("a", text)).contains("secret"));
    }
}
