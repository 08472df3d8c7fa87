//! `final gateway --demo`: a gateway on a SQLite file, with commands to try.
//!
//! Input: nothing. State: a file, with an app whose secret is made anew at each start. Output: lines that work when
//! they are typed as they stand.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use final_core::BoxError;
use final_gateway::{
    Gateway, Listen,
    rights::{AppLimits, AppSecret, Apps, Grant, Operations},
};

use super::{
    config::GatewayConfig,
    node::{GatewayService, engine},
};
use crate::service::{self, RunArgs, ServiceOptions};

const APP: &str = "demo";
const TOPIC: &str = "hello";

/// Where the demo listens, if these ports are free; anywhere else otherwise.
const RESP: &str = "127.0.0.1:6205";
const HTTP: &str = "127.0.0.1:6206";

pub(super) fn run(file: Option<PathBuf>, run: RunArgs) -> ExitCode {
    let name = format!("final-gateway-demo-{}.db", std::process::id());
    let file = file.unwrap_or_else(|| env::temp_dir().join(name));
    let mut options = run.over(ServiceOptions::default());
    if options.log == ServiceOptions::default().log {
        // The commands are what a newcomer is to see.
        options.log = "warn".to_owned();
    }
    service::main("gateway", options, async move || {
        let service = start(&file).await?;
        Ok::<_, BoxError>(service)
    })
}

async fn start(file: &Path) -> Result<GatewayService, BoxError> {
    let address = format!("sqlite:{}?mode=rwc", file.display());
    let config = GatewayConfig::of_database(&address)?.config;
    let engine = engine(&config.database, None, &config.log, None)?;
    let mut gateway = Gateway::new("demo", engine);
    gateway = gateway
        .resp(Listen::at(free_or(RESP)))
        .http(Listen::at(free_or(HTTP)));
    gateway.migrate().await?;
    let apps = gateway.apps().ok_or("the demo has no tables of apps")?;
    let secret = secret(&apps).await?;
    let service = GatewayService::start(gateway).await?;
    let addresses = service.addresses;
    let (Some(resp), Some(http)) = (addresses.resp, addresses.http) else {
        return Err("the demo does not listen".into());
    };
    println!("{}", lines(file, resp, http, secret.reveal()));
    Ok(service)
}

/// The app of the demo, with a new secret: nobody has written the last one down.
async fn secret(apps: &Apps) -> Result<AppSecret, BoxError> {
    let is_there = apps.list().await?.iter().any(|app| app.key == APP);
    let secret = match is_there {
        true => apps.rotate(APP, Duration::ZERO).await?,
        false => apps.create(APP, AppLimits::default()).await?,
    };
    apps.allow(APP, Grant::new(APP, "*", Operations::BOTH)?)
        .await?;
    Ok(secret)
}

/// The address, or any free port where another program has this one.
fn free_or(address: &'static str) -> &'static str {
    match std::net::TcpListener::bind(address) {
        Ok(_) => address,
        Err(_) => "127.0.0.1:0",
    }
}

fn lines(file: &Path, resp: SocketAddr, http: SocketAddr, secret: &str) -> String {
    let dsn = format!("{APP}:{secret}@{APP}/topic={TOPIC}");
    let redis = format!("redis-cli --no-auth-warning -p {}", resp.port());
    let curl = format!("curl -sS -u {APP}:{secret}");
    format!(
        "The gateway is ready. Its messages are in {file}.\n\n\
         # publish by redis-cli\n\
         {redis} -a '{dsn}&role=pub' SET key '{{\"from\":\"redis-cli\"}}'\n\
         # publish by curl\n\
         {curl} -H 'content-type: application/json' -d '{{\"from\":\"curl\"}}' \
         http://{http}/v1/topics/{TOPIC}/messages\n\
         # consume by redis-cli; messages without a commit come again\n\
         {redis} -a '{dsn}&role=sub' MGET ''\n\
         # consume by curl\n\
         {curl} 'http://{http}/v1/groups/{APP}/messages?topic={TOPIC}&wait=5s'\n\n\
         Ctrl-C ends it.",
        file = file.display()
    )
}
