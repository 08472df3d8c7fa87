//! An endpoint that is called over HTTP.

use final_reconcile::Job;
use final_webhook::{Endpoint, SigningSecret};
use serde::Deserialize;

use crate::config::{Period, Secret, WebAddress};

/// An endpoint for alerts.
#[derive(Debug, Deserialize)]
#[serde(try_from = "EndpointFields")]
pub(super) struct AlertConfig(pub(super) Endpoint);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointFields {
    url: WebAddress,
    #[serde(default)]
    secret: Option<Secret>,
    #[serde(default)]
    timeout: Option<Period>,
    #[serde(default)]
    private: bool,
}

impl TryFrom<EndpointFields> for AlertConfig {
    type Error = String;

    fn try_from(fields: EndpointFields) -> Result<Self, String> {
        let EndpointFields {
            url,
            secret,
            timeout,
            private,
        } = fields;
        let endpoint = endpoint(&url, secret.as_ref(), timeout, private)?;
        let (limit, longest) = (endpoint.time_limit(), Job::LONGEST_ALERT);
        if limit > longest {
            return Err(format!(
                "a call for an alert may take {longest:?} at most; write timeout = \"{longest:?}\" or less"
            ));
        }
        Ok(Self(endpoint))
    }
}

/// An endpoint of its parts. An error is what is wrong, a semicolon, and the cure.
pub(super) fn endpoint(
    url: &WebAddress,
    secret: Option<&Secret>,
    timeout: Option<Period>,
    private: bool,
) -> Result<Endpoint, String> {
    let endpoint = Endpoint::new(url.expose())
        .map_err(|error| format!("{error}; write http://host:port/path or https://host/path"))?;
    let mut endpoint = endpoint.allow_private(private);
    if let Some(secret) = secret {
        let secret = SigningSecret::new(secret.expose())
            .map_err(|error| format!("{error}; write a longer secret"))?;
        endpoint = endpoint.secret(secret);
    }
    if let Some(timeout) = timeout {
        endpoint = endpoint.timeout(timeout.0);
    }
    Ok(endpoint)
}
