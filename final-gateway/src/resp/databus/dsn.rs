//! `key:secret@group/topic=T&role=pub|sub[&color=C]`.

use std::fmt;

/// A login, as a client wrote it. Nothing of it is checked but its form.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Dsn<'a> {
    pub(crate) key: &'a str,
    pub(crate) secret: &'a str,
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) role: Role,
    /// Empty for no colour.
    pub(crate) color: &'a str,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Pub,
    Sub,
}

/// Why a text is no login. The texts are databus's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DsnError {
    #[error("invalid dsn params")]
    Form,
    #[error("command not support")]
    Role,
}

/// By hand: the secret must not end up in a log.
impl fmt::Debug for Dsn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dsn")
            .field("key", &self.key)
            .field("group", &self.group)
            .field("topic", &self.topic)
            .field("role", &self.role)
            .field("color", &self.color)
            .finish_non_exhaustive()
    }
}

impl<'a> Dsn<'a> {
    /// Reads a login. Names of parameters are in any case and order, values are taken as they are; of a name that comes
    /// twice the last value counts, and unknown names are passed over.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, DsnError> {
        let text = std::str::from_utf8(text).map_err(|_| DsnError::Form)?;
        let is_once = |sign| text.matches(sign).count() == 1;
        if !(is_once('@') && is_once('/') && is_once(':')) {
            return Err(DsnError::Form);
        }
        let (login, place) = text.split_once('@').ok_or(DsnError::Form)?;
        let (key, secret) = login.split_once(':').ok_or(DsnError::Form)?;
        let (group, parameters) = place.split_once('/').ok_or(DsnError::Form)?;
        let (mut topic, mut role, mut color) = ("", "", "");
        for parameter in parameters.split('&') {
            let Some((name, value)) = parameter.split_once('=') else {
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "topic" => topic = value,
                "role" => role = value,
                "color" => color = value,
                _ => {}
            }
        }
        let role = match role {
            "pub" => Role::Pub,
            "sub" => Role::Sub,
            _ => return Err(DsnError::Role),
        };
        Ok(Self {
            key,
            secret,
            group,
            topic,
            role,
            color,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_has_its_parameters_in_any_order_and_case() {
        let dsn = Dsn::parse(b"k:s@g/ROLE=sub&Color=red&x&y=1&topic=a=b&role=pub").unwrap();
        let expected = Dsn {
            key: "k",
            secret: "s",
            group: "g",
            topic: "a=b",
            role: Role::Pub,
            color: "red",
        };
        assert_eq!(dsn, expected);
    }

    #[test]
    fn a_login_without_its_form_or_role_is_refused() {
        for text in [
            "",
            "k:s@g",
            "k:s@g/t@/role=pub",
            "k:s:x@g/topic=t&role=pub",
            "k@s:g/topic=t&role=pub",
            "k/s:g@topic=t&role=pub",
            "ks@g:/topic=t&role=pub",
        ] {
            assert_eq!(Dsn::parse(text.as_bytes()), Err(DsnError::Form), "{text}");
        }
        assert_eq!(Dsn::parse(b"k:\xff@g/role=pub"), Err(DsnError::Form));
        for role in ["", "PUB", "pubsub"] {
            let text = format!("k:s@g/topic=t&role={role}");
            assert_eq!(Dsn::parse(text.as_bytes()), Err(DsnError::Role), "{role}");
        }
    }

    #[test]
    fn the_secret_is_not_in_the_debug_form() {
        let dsn = Dsn::parse(b"k:hunter2@g/topic=t&role=pub").unwrap();
        assert!(!format!("{dsn:?}").contains("hunter2"));
    }
}
