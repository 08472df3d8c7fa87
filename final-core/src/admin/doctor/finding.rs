//! A finding: what weakens a promise, why it does, and how it is mended.
//!
//! Input: a [`Diagnosis`], which is the part that is always the same, and what was seen. Output: a [`Finding`].

use std::fmt;

/// How bad a finding is. The worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// A promise does not hold, or messages do not move.
    Error,
    /// A promise will not hold under some condition, or something will be in the way later.
    Warning,
    /// Worth knowing. Nothing has to be done.
    Note,
}

impl Level {
    /// Its name, in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something that weakens a promise.
///
/// Texts have no line breaks. In `mend` and `what`, texts between backticks are to be typed as they are: SQL, or a
/// command. No text has a password in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Its name, for programs: it stays the same in all releases.
    pub name: &'static str,
    /// What was seen, and where.
    pub what: String,
    /// Why it weakens a promise.
    pub why: String,
    /// What to do about it.
    pub mend: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            level,
            name,
            what,
            why,
            mend,
        } = self;
        write!(f, "{level} {name}: {what}. {why}. {mend}.")
    }
}

/// What all findings of one name have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// How bad it is.
    pub level: Level,
    /// The name of its findings.
    pub name: &'static str,
    /// Why it weakens a promise.
    pub why: &'static str,
}

impl Diagnosis {
    /// A diagnosis of this level and name.
    #[must_use]
    pub const fn new(level: Level, name: &'static str, why: &'static str) -> Self {
        Self { level, name, why }
    }

    /// A finding: what was seen, and what to do about it.
    #[must_use]
    pub fn found(&self, what: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding {
            level: self.level,
            name: self.name,
            what: what.into(),
            why: self.why.to_owned(),
            mend: mend.into(),
        }
    }
}

/// Something that could not be looked at, and that may be wrong.
pub const COULD_NOT_CHECK: Diagnosis = Diagnosis::new(
    Level::Note,
    "could_not_check",
    "What cannot be looked at may be wrong without a word",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_level_comes_first() {
        let mut levels = [Level::Note, Level::Error, Level::Warning];
        levels.sort_unstable();

        assert_eq!(levels, [Level::Error, Level::Warning, Level::Note]);
        assert_eq!(format!("{:>8}|", Level::Note), "    note|");
    }

    #[test]
    fn a_finding_reads_as_sentences() {
        let finding = COULD_NOT_CHECK.found("the role may not look", "Let it");

        assert_eq!(
            finding.to_string(),
            "note could_not_check: the role may not look. What cannot be looked at may be wrong without a word. Let it."
        );
    }
}
