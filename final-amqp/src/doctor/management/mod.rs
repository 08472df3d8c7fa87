//! What only RabbitMQ's management API tells: bindings and policies.
//!
//! Input: the URL of the API, and names of queues and exchanges. Output: findings, see [`limits`] and [`bindings`].

mod bindings;
mod http;
mod limits;

use std::{fmt, io};

use final_core::admin::doctor::{COULD_NOT_CHECK, Finding};
use lapin::uri::AMQPUri;
use serde_json::Value;

use self::http::{escape, get};
use crate::{names, options::Settings, uri};

/// A management API, and a login to it. `Debug` shows neither user nor password.
#[derive(Clone)]
pub(super) struct Management(AMQPUri);

impl Management {
    /// Reads `http://user:password@host:port`. Without a login, that of the broker's URL is used.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the URL, and repeats nothing of it.
    pub(super) fn new(url: &str, settings: &Settings) -> Result<Self, String> {
        let expected = "expected http://user:password@host:port, or https://";
        let (scheme, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => ("amqp", rest),
            (_, Some(rest)) => ("amqps", rest),
            _ => {
                return Err(format!(
                    "it starts with neither http:// nor https://; {expected}"
                ));
            }
        };
        let rest = rest.trim_end_matches('/');
        let host = rest.rsplit('@').next().unwrap_or(rest);
        let port = host.rsplit_once(':').map_or("", |(_, port)| port);
        if port.parse::<u16>().is_err() {
            return Err(format!("it has no port; {expected}"));
        }
        let mut api = uri::parse(&format!("{scheme}://{rest}"))
            .map_err(|_| format!("it cannot be read; {expected}"))?;
        if !rest.contains('@') {
            api.authority.userinfo = settings.uri.authority.userinfo.clone();
        }
        Ok(Self(api))
    }

    /// A service's queue, its dead letters, and their bindings.
    pub(super) async fn service(
        &self,
        settings: &Settings,
        service: &str,
        version: Option<&str>,
    ) -> Vec<Finding> {
        let queue = settings.queue.as_deref().unwrap_or(service);
        let letters = names::dead_letter_queue(queue);
        let found = async {
            let mut findings = Vec::new();
            if let Some(seen) = self.object(settings, "queues", queue, "").await? {
                findings.extend(limits::of_queue(queue, &seen, version));
                let bindings = self.list(settings, "queues", queue, "/bindings").await?;
                findings.extend(bindings::of_queue(service, queue, &bindings));
            }
            if let Some(seen) = self.object(settings, "queues", &letters, "").await? {
                findings.extend(limits::of_dead_letters(&letters, &seen, version));
                let exchange = names::dead_letter_exchange(queue);
                // Without the exchange there is nothing to be bound to.
                if self
                    .object(settings, "exchanges", &exchange, "")
                    .await?
                    .is_some()
                {
                    let bindings = self.list(settings, "queues", &letters, "/bindings").await?;
                    findings.extend(bindings::of_dead_letters(service, queue, &bindings));
                }
            }
            Ok::<_, io::Error>(findings)
        };
        found
            .await
            .unwrap_or_else(|error| vec![self.silent(service, &error)])
    }

    /// The bindings of a topic's exchange. An exchange that is missing is no matter of bindings.
    pub(super) async fn topic(&self, settings: &Settings, topic: &str) -> Option<Finding> {
        let found = async {
            if self
                .object(settings, "exchanges", topic, "")
                .await?
                .is_none()
            {
                return Ok(None);
            }
            let bindings = self
                .list(settings, "exchanges", topic, "/bindings/source")
                .await?;
            Ok::<_, io::Error>(bindings::of_topic(topic, &bindings))
        };
        found
            .await
            .unwrap_or_else(|error| Some(self.silent(topic, &error)))
    }

    fn silent(&self, name: &str, error: &io::Error) -> Finding {
        let address = uri::address(&self.0);
        COULD_NOT_CHECK.found(
            format!("bindings and policies of {name} could not be looked at by the management API at {address}: {error}"),
            "Check the port, the plugin rabbitmq_management, and that the user has the tag `monitoring`",
        )
    }

    async fn object(
        &self,
        settings: &Settings,
        kind: &str,
        name: &str,
        part: &str,
    ) -> io::Result<Option<Value>> {
        let vhost = escape(&settings.uri.vhost);
        let path = format!("/api/{kind}/{vhost}/{}{part}", escape(name));
        let (status, body) = get(settings, &self.0, &path).await?;
        match status {
            200 => serde_json::from_slice(&body)
                .map(Some)
                .map_err(|_| io::Error::other("the answer is no JSON")),
            404 => Ok(None),
            401 | 403 => Err(io::Error::other("the login may not read it")),
            status => Err(io::Error::other(format!(
                "it answered with status {status}"
            ))),
        }
    }

    async fn list(
        &self,
        settings: &Settings,
        kind: &str,
        name: &str,
        part: &str,
    ) -> io::Result<Vec<Value>> {
        Ok(match self.object(settings, kind, name, part).await? {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        })
    }
}

impl fmt::Debug for Management {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Management({})", uri::address(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Amqp;

    #[test]
    fn the_login_is_that_of_the_url_or_of_the_broker() {
        let amqp = Amqp::new("amqp://shop:s3cret@mq.example/%2f").unwrap();
        let login = |url: &str| {
            let api = Management::new(url, &amqp.settings)?;
            let Management(api) = &api;
            let login = &api.authority.userinfo;
            Ok::<_, String>((
                login.username.clone(),
                login.password.clone(),
                api.authority.port,
            ))
        };

        assert_eq!(
            login("http://mq.example:15672").unwrap(),
            ("shop".into(), "s3cret".into(), 15672)
        );
        assert_eq!(
            login("https://ops:p%40ss@mq.example:15671/").unwrap(),
            ("ops".into(), "p@ss".into(), 15671)
        );
        for wrong in [
            "mq.example:15672",
            "http://mq.example",
            "http://ops:t0psecret@mq.example:15672/a@b",
            "http://:1",
        ] {
            let error = login(wrong).unwrap_err();
            assert!(!error.contains("t0psecret"), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_login() {
        let amqp = Amqp::new("amqp://shop:s3cret@mq.example/%2f").unwrap();
        let api = Management::new("http://ops:t0psecret@mq.example:15672", &amqp.settings).unwrap();

        assert_eq!(format!("{api:?}"), "Management(mq.example:15672)");
    }
}
