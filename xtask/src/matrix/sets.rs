//! Which servers there are to test with, each set as a release of Debian has them.

/// The servers of one release of Debian.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerSet {
    /// The release.
    pub(super) name: &'static str,
    /// The packages with its servers.
    pub(super) packages: &'static [&'static str],
}

/// What the tests need beside the servers.
pub(super) const TOOLS: [&str; 10] = [
    "libfaketime",
    "util-linux",
    "procps",
    "iproute2",
    "python3-pika",
    "python3-kombu",
    "python3-celery",
    "python3-msgpack",
    "python3-yaml",
    // Its amqplib is in the repository's folder, which is there inside too.
    "nodejs",
];

pub(super) const SETS: [ServerSet; 2] = [
    ServerSet {
        name: "trixie",
        packages: &["postgresql", "mariadb-server", "rabbitmq-server"],
    },
    ServerSet {
        name: "sid",
        // Not `mysql-server`, which starts one when it is installed.
        packages: &["postgresql", "mysql-server-core", "rabbitmq-server"],
    },
];

/// What a table calls a server, and the packages whose version is the server's, as `dpkg-query` knows them.
pub(super) const SERVERS: [(&str, &str); 5] = [
    ("PostgreSQL", "postgresql-[0-9]*"),
    ("MariaDB", "mariadb-server"),
    ("MySQL", "mysql-server-core"),
    ("RabbitMQ", "rabbitmq-server"),
    ("Erlang", "erlang-base"),
];

/// `17.12` of `1:17.12+dfsg-0+deb13u1`.
pub(super) fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, it)| it);
    let version = version.rsplit_once('-').map_or(version, |(it, _)| it);
    version.split(['+', '~']).next().unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_shown_without_what_debian_adds() {
        assert_eq!(upstream("1:11.8.9-0+deb13u1"), "11.8.9");
        assert_eq!(upstream("1:27.3.4.1+dfsg-1"), "27.3.4.1");
        assert_eq!(upstream("17.12"), "17.12");
    }
}
