//! What a caller says about the columns of a target.

use std::fmt;

use crate::{form::Wish, heartbeat::Heartbeat, table::SideTable};

/// Which columns belong together. Without any, all columns of both tables are compared by their names.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    pub(crate) keys: Vec<(String, String)>,
    pub(crate) columns: Vec<(String, Mapped)>,
    pub(crate) except: Vec<String>,
    pub(crate) rest: bool,
    pub(crate) heartbeat: Option<Heartbeat>,
}

impl Mapping {
    /// A column of the key: its name in the source and in the target. Without any, it is the source's primary key. On both
    /// sides a unique index has to have exactly the columns of the key.
    #[must_use]
    pub fn key(mut self, source: impl Into<String>, target: impl Into<String>) -> Self {
        self.keys.push((source.into(), target.into()));
        self
    }

    /// Columns that have the same name on both sides.
    #[must_use]
    pub fn same<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        let same = names
            .into_iter()
            .map(|name| (name.into(), Mapped::default()));
        self.columns.extend(same);
        self
    }

    /// A column of the source, and what it is in the target: a name, or a [`Mapped`] with a rule.
    #[must_use]
    pub fn column(mut self, source: impl Into<String>, target: impl Into<Mapped>) -> Self {
        self.columns.push((source.into(), target.into()));
        self
    }

    /// Beside the columns that are named, all others of both tables are compared by their names.
    #[must_use]
    pub fn rest(mut self) -> Self {
        self.rest = true;
        self
    }

    /// The same with names as the tables spell them.
    pub(crate) fn spelled(&self, source: &SideTable, target: &SideTable) -> Self {
        let key = |(from, to): &(String, String)| (source.spelled(from), target.spelled(to));
        let column = |(from, mapped): &(String, Mapped)| {
            let name = mapped.name.as_deref().map(|name| target.spelled(name));
            let wish = mapped.wish;
            (source.spelled(from), Mapped { name, wish })
        };
        let except = |name: &String| [source.spelled(name), target.spelled(name)];
        Self {
            keys: self.keys.iter().map(key).collect(),
            columns: self.columns.iter().map(column).collect(),
            except: self.except.iter().flat_map(except).collect(),
            rest: self.rest,
            heartbeat: self.heartbeat.clone(),
        }
    }

    /// Where the mirror of this target tells how far it is. A difference counts once the mirror has passed it, instead of
    /// after twice the [`settle`](crate::Job::settle).
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: Heartbeat) -> Self {
        self.heartbeat = Some(heartbeat);
        self
    }

    /// Columns of either side that are not compared, where all others are.
    #[must_use]
    pub fn except<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.except.extend(names.into_iter().map(Into::into));
        self
    }
}

/// A column of the target, and a rule for how it is compared.
#[derive(Clone, Default)]
pub struct Mapped {
    pub(crate) name: Option<String>,
    pub(crate) wish: Option<Wish>,
}

impl Mapped {
    /// The column of this name.
    pub fn to(name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            wish: None,
        }
    }

    /// Numbers are rounded to so many digits behind the point.
    #[must_use]
    pub fn decimal(self, scale: u32) -> Self {
        self.with(Wish::Decimal(scale))
    }

    /// Numbers are compared in so many digits, at most 15.
    #[must_use]
    pub fn digits(self, digits: u32) -> Self {
        self.with(Wish::Digits(digits))
    }

    /// Times are compared to so many digits of a second.
    #[must_use]
    pub fn precision(self, digits: u32) -> Self {
        self.with(Wish::Precision(digits))
    }

    /// Texts and 16 bytes are compared as UUIDs.
    #[must_use]
    pub fn uuid(self) -> Self {
        self.with(Wish::Uuid)
    }

    /// The texts that both servers print are compared.
    #[must_use]
    pub fn text(self) -> Self {
        self.with(Wish::Text)
    }

    /// The same, without spaces at the end.
    #[must_use]
    pub fn trimmed(self) -> Self {
        self.with(Wish::Trimmed)
    }

    fn with(mut self, wish: Wish) -> Self {
        self.wish = Some(wish);
        self
    }
}

impl From<&str> for Mapped {
    fn from(name: &str) -> Self {
        Self::to(name)
    }
}

impl From<String> for Mapped {
    fn from(name: String) -> Self {
        Self::to(name)
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapped({:?}, {:?})", self.name, self.wish)
    }
}
