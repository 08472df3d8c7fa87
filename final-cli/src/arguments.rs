//! The options that many commands share.

use clap::Args;

/// The heading of the options that say where.
const PLACE: &str = "Which database";

/// Which database is meant.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Its URL. Other users of the machine see it, so put a URL with a password into a context or DATABASE_URL
    #[arg(long, value_name = "URL", global = true, conflicts_with = "context", help_heading = PLACE)]
    pub(crate) database_url: Option<DatabaseUrl>,

    /// A name in the file of contexts, ~/.config/final/contexts.toml or FINAL_CONTEXTS
    #[arg(long, value_name = "NAME", global = true, help_heading = PLACE)]
    pub(crate) context: Option<String>,
}

/// A URL whose `Debug` shows nothing of it.
#[derive(Clone)]
pub(crate) struct DatabaseUrl(pub(crate) String);

impl From<&str> for DatabaseUrl {
    fn from(url: &str) -> Self {
        Self(url.into())
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatabaseUrl")
    }
}

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct FormatArgs {
    /// Writes one JSON object a line in place of a table
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Which service is meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ServiceArgs {
    /// The service; not needed where the database has one only
    #[arg(long, short, value_name = "NAME", global = true)]
    pub(crate) service: Option<String>,
}
