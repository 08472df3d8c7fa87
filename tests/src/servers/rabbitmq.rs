//! RabbitMQ, with its management API.

use std::{fs, net::TcpStream, ops::Deref, os::unix::fs::PermissionsExt, path::PathBuf};

use super::{Recipe, Server, Setup, find, probe};
use crate::{
    Error, Port, Result, WorkDir,
    process::{Launch, Signal},
};

/// Keeps the port for other nodes off the network.
const LOOPBACK: &str = "-kernel inet_dist_use_interface {127,0,0,1}";

/// Versions before 3.13 do not know Khepri.
#[cfg(feature = "clients")]
const DECLARATIONS_ON_DISK: &str = "case catch rabbit_khepri:is_enabled() of \
     true -> ok; _ -> mnesia:sync_log() end.";

/// A RabbitMQ of one's own: user and password `guest`, virtual host `/`.
#[derive(Debug, Clone)]
pub struct RabbitMq {
    server: Server,
    node: Node,
    tls: Option<u16>,
}

/// Where a node is and how `rabbitmqctl` reaches it.
#[derive(Debug, Clone)]
struct Node {
    programs: PathBuf,
    name: String,
    home: PathBuf,
    port: u16,
    api: u16,
}

impl RabbitMq {
    /// Starts one for a test.
    #[cfg(feature = "clients")]
    pub async fn start() -> Result<Self> {
        Self::start_with(Setup::default()).await
    }

    /// Starts one that also speaks TLS, with a certificate for `localhost` from this authority.
    #[cfg(feature = "clients")]
    pub async fn start_with_tls(authority: &super::Authority) -> Result<Self> {
        Self::start_with(Setup {
            tls: Some(authority.for_server()?),
            ..Setup::default()
        })
        .await
    }

    /// Starts one with a setup of one's own.
    #[cfg(feature = "clients")]
    pub async fn start_with(setup: Setup) -> Result<Self> {
        crate::beside(move || Self::start_blocking(setup)).await
    }

    /// Makes a data folder, starts the node and waits until it answers.
    pub fn start_blocking(setup: Setup) -> Result<Self> {
        Blueprint::draw(setup)?.launch(&[], &cookie())
    }

    /// The node's name in its cluster.
    pub fn node_name(&self) -> &str {
        &self.node.name
    }

    /// Its management API: `http://guest:guest@127.0.0.1:port`.
    pub fn api_url(&self) -> String {
        format!("http://guest:guest@127.0.0.1:{}", self.node.api)
    }

    /// Where clients connect with TLS; for a node that was started with it.
    pub fn tls_url(&self) -> Result<String> {
        let port = self.tls.ok_or_else(|| {
            Error::new(
                "this RabbitMQ speaks no TLS",
                "start it with RabbitMq::start_with_tls",
            )
        })?;
        Ok(format!("amqps://guest:guest@localhost:{port}/%2f"))
    }

    /// Runs `rabbitmqctl` on this node and returns what it printed; 1-2 s each, for what the
    /// management API cannot do.
    pub fn ctl_blocking(&self, args: &[&str]) -> Result<String> {
        self.node
            .environment(Launch::new(self.node.programs.join("rabbitmqctl")))
            .args(["--quiet", "--node", &self.node.name])
            .args(args)
            .run()
    }

    /// Runs `rabbitmqctl` on this node and returns what it printed; 1-2 s each, for what the
    /// [management](Self::management) API cannot do.
    #[cfg(feature = "clients")]
    pub async fn ctl(&self, args: &[&str]) -> Result<String> {
        let rabbit = self.clone();
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        crate::beside(move || {
            rabbit.ctl_blocking(&args.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .await
    }

    /// Waits until every declaration and policy it has answered is on disk. Without Khepri it answers before
    /// that, and a node that is killed then comes back without them. Khepri answers afterwards.
    #[cfg(feature = "clients")]
    pub async fn declarations_on_disk(&self) -> Result<()> {
        let said = self.ctl(&["eval", DECLARATIONS_ON_DISK]).await?;
        if said.trim() == "ok" {
            return Ok(());
        }
        Err(Error::new(
            format!(
                "RabbitMQ did not write its declarations to the disk: {}",
                said.trim()
            ),
            "see where this version of RabbitMQ keeps its declarations",
        ))
    }

    /// Raises or clears the memory alarm, which blocks every connection that publishes.
    #[cfg(feature = "clients")]
    pub async fn memory_alarm(&self, raised: bool) -> Result<()> {
        let limit = if raised { "1" } else { "2GiB" };
        self.alarm(&["set_vm_memory_high_watermark", "absolute", limit], raised)
            .await
    }

    /// The same as if the disk were full.
    #[cfg(feature = "clients")]
    pub async fn disk_alarm(&self, raised: bool) -> Result<()> {
        let limit = if raised { "1000000000000000" } else { "50MB" };
        self.alarm(&["set_disk_free_limit", limit], raised).await
    }

    #[cfg(feature = "clients")]
    async fn alarm(&self, limit: &[&str], raised: bool) -> Result<()> {
        self.ctl(limit).await?;
        let api = self.management();
        crate::eventually(
            "the alarm changes",
            std::time::Duration::from_secs(20),
            async || match api.has_alarm().await {
                Ok(now) if now == raised => Ok(()),
                Ok(now) => Err(format!("alarm: {now}")),
                Err(error) => Err(error.to_string()),
            },
        )
        .await;
        Ok(())
    }

    /// Closes every connection, with a reason clients see.
    #[cfg(feature = "clients")]
    pub async fn close_all_connections(&self, reason: &str) -> Result<()> {
        self.ctl(&["close_all_connections", reason]).await.map(drop)
    }

    /// Its management API.
    #[cfg(feature = "clients")]
    pub fn management(&self) -> super::Management {
        super::Management::local(self.node.api)
    }
}

/// A node that is about to start: its names and ports are reserved.
#[derive(Debug)]
pub(super) struct Blueprint {
    node: Node,
    dir: WorkDir,
    ports: Vec<Port>,
    distribution: Port,
    tls_port: Option<u16>,
    setup: Setup,
}

impl Blueprint {
    pub(super) fn draw(setup: Setup) -> Result<Self> {
        let programs = find::rabbitmq()?;
        let dir = super::folder("rabbitmq", setup.lifetime)?;
        let port = Port::prefer(setup.port)?;
        let api = Port::prefer(setup.port.map(|port| port + 1))?;
        let tls_port = setup.tls.as_ref().map(|_| Port::free()).transpose()?;
        let node = Node {
            programs,
            // Not the machine's name: RabbitMQ stores its data under the node's name and has to find it
            // again.
            name: format!("final{}@localhost", port.number()),
            home: dir.folder("home", None)?,
            port: port.number(),
            api: api.number(),
        };
        Ok(Self {
            node,
            dir,
            tls_port: tls_port.as_ref().map(Port::number),
            ports: [Some(port), Some(api), tls_port]
                .into_iter()
                .flatten()
                .collect(),
            distribution: Port::free()?,
            setup,
        })
    }

    #[cfg(feature = "clients")]
    pub(super) fn name(&self) -> &str {
        &self.node.name
    }

    /// Starts it, in a cluster with nodes that know the same cookie.
    pub(super) fn launch(self, peers: &[String], cookie: &str) -> Result<RabbitMq> {
        let Self {
            node,
            dir,
            ports,
            distribution,
            tls_port,
            setup,
        } = self;
        let clients_must = setup.tls.as_ref().is_some_and(|files| files.clients_must);
        write_cookie(&dir, cookie)?;
        dir.write("plugins", "[rabbitmq_management].\n")?;
        dir.write("empty", "")?;
        let mut text = configuration(&node, &dir, tls_port, clients_must);
        if !peers.is_empty() {
            text += "cluster_formation.peer_discovery_backend = classic_config\n";
        }
        for (n, peer) in peers.iter().enumerate() {
            text += &format!(
                "cluster_formation.classic_config.nodes.{} = {peer}\n",
                n + 1
            );
        }
        dir.write("rabbitmq.conf", &text)?;
        if let Some(files) = &setup.tls {
            files.write(&dir, None)?;
        }
        let recipe = RabbitMqRecipe {
            node: node.clone(),
            distribution,
            ports,
            dir,
            args: setup.args,
        };
        let server = Server::launch(recipe, setup.lifetime)?;
        Ok(RabbitMq {
            server,
            node,
            tls: tls_port,
        })
    }
}

impl Deref for RabbitMq {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Node {
    /// The environment of the node and of `rabbitmqctl`. Nothing is read from `/etc` or the user's home.
    fn environment(&self, launch: Launch) -> Launch {
        let dir = self.home.parent().unwrap_or(&self.home);
        launch
            .env("HOME", &self.home)
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_CONF_ENV_FILE", dir.join("empty"))
            .env("RABBITMQ_LOG_BASE", dir.join("logs"))
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
    }
}

#[derive(Debug)]
struct RabbitMqRecipe {
    node: Node,
    distribution: Port,
    /// All ports on which it listens. It opens them one by one.
    ports: Vec<Port>,
    dir: WorkDir,
    args: Vec<String>,
}

impl Recipe for RabbitMqRecipe {
    fn name(&self) -> &'static str {
        "RabbitMQ"
    }

    fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.node.port)
    }

    fn dir(&self) -> &WorkDir {
        &self.dir
    }

    /// `RABBITMQ_ALLOW_INPUT` makes the script become the Erlang machine in place of watching over
    /// it, so that our child is the node; `-noinput` takes back what it also does.
    fn launch(&self) -> Launch {
        let launch = Launch::new(self.node.programs.join("rabbitmq-server")).args(&self.args);
        self.node
            .environment(launch)
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                format!("-noinput {LOOPBACK}"),
            )
            .env("RABBITMQ_DIST_PORT", self.distribution.number().to_string())
            .env("RABBITMQ_MNESIA_BASE", self.dir.join("data"))
            .env("RABBITMQ_PID_FILE", self.dir.join("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.dir.join("plugins"))
            .env("RABBITMQ_CONFIG_FILE", self.dir.join("rabbitmq.conf"))
    }

    fn is_ready(&self) -> bool {
        let listens = |port: &Port| TcpStream::connect(("127.0.0.1", port.number())).is_ok();
        probe::rabbitmq(self.node.port) && self.ports.iter().all(listens)
    }

    fn stop_signal(&self) -> Signal {
        Signal::TERM
    }
}

fn configuration(node: &Node, dir: &WorkDir, tls: Option<u16>, clients_must: bool) -> String {
    let mut lines = vec![
        format!("listeners.tcp.1 = 127.0.0.1:{}", node.port),
        "management.tcp.ip = 127.0.0.1".into(),
        format!("management.tcp.port = {}", node.api),
        // An absolute limit, because other programs use the memory of the machine too.
        "vm_memory_high_watermark.absolute = 2GiB".into(),
        "disk_free_limit.absolute = 50MB".into(),
    ];
    if let Some(port) = tls {
        let file = |name| dir.join(name).display().to_string();
        lines.extend([
            format!("listeners.ssl.1 = 127.0.0.1:{port}"),
            format!("ssl_options.cacertfile = {}", file("authority.pem")),
            format!("ssl_options.certfile = {}", file("server.pem")),
            format!("ssl_options.keyfile = {}", file("server.key")),
            // A client may show a certificate; one from another authority is refused.
            "ssl_options.verify = verify_peer".into(),
            format!("ssl_options.fail_if_no_peer_cert = {clients_must}"),
        ]);
    }
    lines.join("\n") + "\n"
}

/// The secret that Erlang nodes know each other by.
pub(super) fn cookie() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Erlang refuses a file that others can read.
fn write_cookie(dir: &WorkDir, cookie: &str) -> Result<()> {
    let cookie = dir.write("home/.erlang.cookie", cookie)?;
    fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400))
        .map_err(Error::io("cannot protect", &cookie))
}
