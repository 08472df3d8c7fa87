//! Headers: short texts that travel beside the payload.

use std::{collections::BTreeMap, sync::Arc};

/// The headers of a message, each a name and a text.
///
/// Names are compared as they are written. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<BTreeMap<String, String>>>);

impl Headers {
    /// The value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.as_ref()?.get(name).map(String::as_str)
    }

    /// All headers, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .flat_map(|map| map.iter())
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a header, replacing one of the same name.
    pub(crate) fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let map = self.0.get_or_insert_with(Arc::default);
        Arc::make_mut(map).insert(name.into(), value.into());
    }

    /// Names and values together, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }

    /// As the outbox stores them: a JSON object, or nothing where there are none.
    pub(crate) fn to_json(&self) -> Option<String> {
        let map = self.0.as_ref().filter(|map| !map.is_empty())?;
        // A map of strings cannot fail to serialize.
        serde_json::to_string(map.as_ref()).ok()
    }

    /// Reads what [`to_json`](Self::to_json) wrote, or says why it cannot.
    ///
    /// serde's own text would repeat the value it stumbles over, and reasons are logged.
    pub(crate) fn from_json(text: Option<&str>) -> Result<Self, String> {
        let Some(text) = text else {
            return Ok(Self::default());
        };
        let map: BTreeMap<String, String> = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("not a JSON object of texts, at line {line} column {column}")
        })?;
        Ok(Self((!map.is_empty()).then(|| Arc::new(map))))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let mut all = Self::default();
        for (name, value) in headers {
            all.insert(name, value);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_repeated() {
        for text in [
            r#"{"card":4111}"#,
            r#""4111""#,
            r#"["4111"]"#,
            "4111",
            "{4111",
        ] {
            let error = Headers::from_json(Some(text)).unwrap_err();

            assert!(!error.contains("4111"), "{error}");
        }
    }
}
