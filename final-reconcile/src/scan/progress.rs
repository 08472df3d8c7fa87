//! How far a scan is, as it is stored: JSON.
//!
//! A text that cannot be read is an error. A scan that began anew would leave rows out in silence. A position of another
//! column or key says nothing about the new one.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::gaps::Gaps;

/// Fresh ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FreshIds {
    /// The source's column with the ids.
    pub(crate) column: String,
    /// The last id that was compared.
    pub(crate) last: i64,
    /// Ids below it that were not there.
    pub(crate) gaps: Gaps,
}

/// Updated rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UpdateWindow {
    /// The source's column with the times.
    pub(crate) column: String,
    /// The largest value of the column that was compared.
    pub(crate) seen: String,
    /// When it was read, by the source's clock.
    pub(crate) at: String,
    /// Whether all that could still come with a value up to it has come.
    pub(crate) is_quiet: bool,
}

/// A sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SweepProgress {
    /// When it began, by the clock of the state's database.
    pub(crate) begun: i64,
    /// The columns of the key, and their forms. None before the first chunk.
    pub(crate) key: Option<String>,
    /// The key up to which it has compared, in hexadecimal digits.
    pub(crate) after: Option<String>,
    /// How many rows it has compared.
    pub(crate) rows: u64,
    /// Whether it is at its end.
    pub(crate) is_over: bool,
}

/// Where the mirror stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MirrorStand {
    /// The time of its heartbeat, in UTC.
    pub(crate) at: Option<String>,
    /// How many milliseconds it was behind when it was looked at.
    pub(crate) lag: Option<u64>,
}

macro_rules! stored {
    ($($type:ident)*) => {$(
        impl $type {
            /// Reads it.
            pub(crate) fn read(text: &str) -> Result<Self, String> {
                read(text)
            }

            /// As it is stored.
            pub(crate) fn text(&self) -> String {
                serde_json::to_string(self).unwrap_or_default()
            }
        }
    )*};
}
stored! { FreshIds UpdateWindow SweepProgress MirrorStand }

fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        format!(
            "the stored position of the scan cannot be read: {error}; set its column to NULL in final_reconcile_jobs, and \
             run a comparison of the whole table"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_and_a_broken_one_is_an_error() {
        let mut ids = FreshIds {
            column: "id".into(),
            last: 9,
            ..FreshIds::default()
        };
        ids.gaps.add(3, 5, 100);
        assert_eq!(FreshIds::read(&ids.text()), Ok(ids));
        let window = UpdateWindow {
            column: "changed_at".into(),
            seen: "2024-02-29 10:00:00".into(),
            at: "2024-02-29 10:00:01".into(),
            is_quiet: false,
        };
        assert_eq!(UpdateWindow::read(&window.text()), Ok(window));
        assert!(SweepProgress::read("{").is_err());
    }
}
