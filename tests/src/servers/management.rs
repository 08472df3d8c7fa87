//! RabbitMQ's management API: users, vhosts, queues and connections, in milliseconds.
//!
//! Counts of messages come from statistics that lag by seconds, and those of quorum queues lag even
//! when asked of the queue itself: tests assert by consuming.

use serde_json::{Value, json};

use super::http::{self, Answer, escape};
use crate::{Error, Result};

/// A management API and a login to it.
#[derive(Debug, Clone)]
pub struct Management {
    address: String,
    user: String,
    password: String,
}

impl Management {
    /// The API at `http://user:password@host:port`.
    pub fn at(url: &str) -> Result<Self> {
        let parts = || {
            let (login, address) = url.strip_prefix("http://")?.rsplit_once('@')?;
            let (user, password) = login.split_once(':')?;
            let address = address.trim_end_matches('/');
            address.contains(':').then(|| Self {
                address: address.into(),
                user: user.into(),
                password: password.into(),
            })
        };
        parts().ok_or_else(|| {
            Error::new(
                "the management URL has another form than expected",
                "write it as http://user:password@host:port",
            )
        })
    }

    /// The API of a server of ours.
    pub(super) fn local(port: u16) -> Self {
        let [user, password] = ["guest"; 2].map(Into::into);
        Self {
            address: format!("127.0.0.1:{port}"),
            user,
            password,
        }
    }

    /// Its URL, with the login.
    pub fn url(&self) -> String {
        let Self {
            address,
            user,
            password,
        } = self;
        format!("http://{user}:{password}@{address}")
    }

    /// Makes a virtual host that this login may use.
    pub async fn add_vhost(&self, vhost: &str) -> Result<()> {
        self.change("PUT", format!("/api/vhosts/{}", escape(vhost)), Value::Null)
            .await?;
        self.set_permissions(&self.user, vhost, [".*"; 3]).await
    }

    /// Removes a virtual host with all that is in it; its connections are closed.
    pub async fn delete_vhost(&self, vhost: &str) -> Result<()> {
        self.change(
            "DELETE",
            format!("/api/vhosts/{}", escape(vhost)),
            Value::Null,
        )
        .await
    }

    /// The same without a runtime.
    pub fn delete_vhost_blocking(&self, vhost: &str) -> Result<()> {
        self.send("DELETE", &format!("/api/vhosts/{}", escape(vhost)), "")
            .map(drop)
    }

    /// Makes a user without permissions, or changes its password.
    pub async fn add_user(&self, user: &str, password: &str) -> Result<()> {
        let body = json!({ "password": password, "tags": "" });
        self.change("PUT", format!("/api/users/{}", escape(user)), body)
            .await
    }

    /// Removes a user; its connections stay until they are closed.
    pub async fn delete_user(&self, user: &str) -> Result<()> {
        self.change(
            "DELETE",
            format!("/api/users/{}", escape(user)),
            Value::Null,
        )
        .await
    }

    /// Says which names (regular expressions) a user may configure, write and read.
    pub async fn set_permissions(
        &self,
        user: &str,
        vhost: &str,
        [configure, write, read]: [&str; 3],
    ) -> Result<()> {
        let path = format!("/api/permissions/{}/{}", escape(vhost), escape(user));
        let body = json!({ "configure": configure, "write": write, "read": read });
        self.change("PUT", path, body).await
    }

    /// Sets a limit of a virtual host: `max-connections` or `max-queues`.
    pub async fn set_vhost_limit(&self, vhost: &str, limit: &str, value: u32) -> Result<()> {
        let path = format!("/api/vhost-limits/{}/{limit}", escape(vhost));
        self.change("PUT", path, json!({ "value": value })).await
    }

    /// Takes a limit of a virtual host away.
    pub async fn clear_vhost_limit(&self, vhost: &str, limit: &str) -> Result<()> {
        let path = format!("/api/vhost-limits/{}/{limit}", escape(vhost));
        self.change("DELETE", path, Value::Null).await
    }

    /// Sets a limit of a user: `max-connections` or `max-channels`.
    pub async fn set_user_limit(&self, user: &str, limit: &str, value: u32) -> Result<()> {
        let path = format!("/api/user-limits/{}/{limit}", escape(user));
        self.change("PUT", path, json!({ "value": value })).await
    }

    /// Takes a limit of a user away.
    pub async fn clear_user_limit(&self, user: &str, limit: &str) -> Result<()> {
        let path = format!("/api/user-limits/{}/{limit}", escape(user));
        self.change("DELETE", path, Value::Null).await
    }

    /// Sets a policy for the queues whose names match, such as `{"max-length": 1}`.
    pub async fn set_policy(
        &self,
        vhost: &str,
        name: &str,
        pattern: &str,
        definition: Value,
    ) -> Result<()> {
        let path = format!("/api/policies/{}/{}", escape(vhost), escape(name));
        let body = json!({ "pattern": pattern, "definition": definition, "apply-to": "queues" });
        self.change("PUT", path, body).await
    }

    /// Sets a policy that counts where no other does.
    pub async fn set_weak_policy(
        &self,
        vhost: &str,
        name: &str,
        pattern: &str,
        definition: Value,
    ) -> Result<()> {
        let path = format!("/api/policies/{}/{}", escape(vhost), escape(name));
        let body = json!({
            "pattern": pattern, "definition": definition, "apply-to": "queues", "priority": -1
        });
        self.change("PUT", path, body).await
    }

    /// Removes a policy.
    pub async fn delete_policy(&self, vhost: &str, name: &str) -> Result<()> {
        let path = format!("/api/policies/{}/{}", escape(vhost), escape(name));
        self.change("DELETE", path, Value::Null).await
    }

    /// The first number of RabbitMQ's version.
    pub async fn major(&self) -> Result<u32> {
        let overview = self.get("/api/overview".to_owned()).await?;
        let version = overview["rabbitmq_version"].as_str().unwrap_or_default();
        let major = version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok());
        major.ok_or_else(|| {
            Error::new(
                format!("RabbitMQ tells the version {version:?}"),
                "look at its management API",
            )
        })
    }

    /// The names of the queues.
    pub async fn queues(&self, vhost: &str) -> Result<Vec<String>> {
        self.names(format!(
            "/api/queues/{}?disable_stats=true&enable_queue_totals=true",
            escape(vhost)
        ))
        .await
    }

    /// Everything that the API tells of one queue: type, arguments, consumers, …
    pub async fn queue(&self, vhost: &str, queue: &str) -> Result<Value> {
        self.get(format!("/api/queues/{}/{}", escape(vhost), escape(queue)))
            .await
    }

    /// The names of the exchanges, without the built-in ones.
    pub async fn exchanges(&self, vhost: &str) -> Result<Vec<String>> {
        let mut names = self
            .names(format!("/api/exchanges/{}", escape(vhost)))
            .await?;
        names.retain(|name| !name.is_empty() && !name.starts_with("amq."));
        Ok(names)
    }

    /// Deletes a queue while it has consumers.
    pub async fn delete_queue(&self, vhost: &str, queue: &str) -> Result<()> {
        let path = format!("/api/queues/{}/{}", escape(vhost), escape(queue));
        self.change("DELETE", path, Value::Null).await
    }

    /// Deletes an exchange while clients publish to it.
    pub async fn delete_exchange(&self, vhost: &str, exchange: &str) -> Result<()> {
        let path = format!("/api/exchanges/{}/{}", escape(vhost), escape(exchange));
        self.change("DELETE", path, Value::Null).await
    }

    /// The names of the open connections; a new one shows up after a moment.
    pub async fn connections(&self, vhost: &str) -> Result<Vec<String>> {
        self.names(format!("/api/vhosts/{}/connections", escape(vhost)))
            .await
    }

    /// The names of the open channels; a new one shows up after some seconds.
    pub async fn channels(&self, vhost: &str) -> Result<Vec<String>> {
        self.names(format!("/api/vhosts/{}/channels", escape(vhost)))
            .await
    }

    /// Closes the open connections as an operator does, and returns how many there were.
    pub async fn close_connections(&self, vhost: &str) -> Result<usize> {
        let names = self.connections(vhost).await?;
        for name in &names {
            self.change(
                "DELETE",
                format!("/api/connections/{}", escape(name)),
                Value::Null,
            )
            .await?;
        }
        Ok(names.len())
    }

    /// Whether a memory or disk alarm blocks publishers.
    pub async fn has_alarm(&self) -> Result<bool> {
        let api = self.clone();
        let answer = crate::beside(move || {
            http::request(
                &api.address,
                &api.login(),
                "GET",
                "/api/health/checks/alarms",
                "",
            )
        })
        .await?;
        Ok(answer.status != 200)
    }

    async fn names(&self, path: String) -> Result<Vec<String>> {
        let list = self.get(path).await?;
        let names = list.as_array().into_iter().flatten();
        Ok(names
            .filter_map(|item| item["name"].as_str().map(Into::into))
            .collect())
    }

    async fn get(&self, path: String) -> Result<Value> {
        let api = self.clone();
        let answer = crate::beside(move || api.send("GET", &path, "")).await?;
        serde_json::from_str(&answer.body).map_err(|cause| {
            Error::new(
                format!("the management API answered {:?}: {cause}", answer.body),
                "look at the API's documentation at /api/index.html of the same address",
            )
        })
    }

    async fn change(&self, method: &'static str, path: String, body: Value) -> Result<()> {
        let api = self.clone();
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        crate::beside(move || api.send(method, &path, &body))
            .await
            .map(drop)
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let answer = http::request(&self.address, &self.login(), method, path, body)?;
        match answer.status {
            200..300 => Ok(answer),
            404 if method == "DELETE" => Ok(answer),
            status => Err(Error::new(
                format!("{method} {path} was refused with {status}: {}", answer.body),
                "check the names, and that the user is an administrator",
            )),
        }
    }

    fn login(&self) -> String {
        format!("{}:{}", self.user, self.password)
    }
}
