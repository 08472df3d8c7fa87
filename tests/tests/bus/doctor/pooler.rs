//! A pooler between a service and PostgreSQL, as PgBouncer is one.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use final_core::admin::doctor::Doctor;
use sqlx::{PgPool, postgres::PgConnectOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Patient, shows};

/// Lends a session of the server to each transaction, and takes it back afterwards.
#[derive(Clone)]
struct Pooler {
    server: (String, u16),
    idle: Arc<Mutex<Vec<TcpStream>>>,
    /// As `pool_mode = session`.
    keeps: Arc<AtomicBool>,
}

/// A message of the protocol: its letter, and what follows it.
type Message = (u8, Vec<u8>);

async fn read(stream: &mut TcpStream) -> io::Result<Message> {
    let letter = stream.read_u8().await?;
    let length = stream.read_u32().await? as usize;
    let mut rest = vec![0; length - 4];
    stream.read_exact(&mut rest).await?;
    Ok((letter, rest))
}

async fn write(stream: &mut TcpStream, (letter, rest): &Message) -> io::Result<()> {
    stream.write_u8(*letter).await?;
    stream
        .write_u32(u32::try_from(rest.len() + 4).expect("small"))
        .await?;
    stream.write_all(rest).await
}

const READY: u8 = b'Z';
const OUTSIDE: u8 = b'I';

impl Pooler {
    /// In front of a server that asks for no password. Returns its port as well.
    async fn start(options: &PgConnectOptions) -> (Self, u16) {
        let pooler = Self {
            server: (options.get_host().to_owned(), options.get_port()),
            idle: Arc::default(),
            keeps: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let accepting = pooler.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let pooler = accepting.clone();
                // It ends with the client.
                tokio::spawn(async move { pooler.serve(client).await });
            }
        });
        (pooler, port)
    }

    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let length = client.read_u32().await? as usize;
        let mut startup = vec![0; length - 4];
        client.read_exact(&mut startup).await?;
        let mut server = Some(self.log_in(&startup, Some(&mut client)).await?);
        self.give_back(&mut server);
        loop {
            let message = read(&mut client).await?;
            if message.0 == b'X' {
                return Ok(());
            }
            if server.is_none() {
                let idle = self.idle.lock().expect("lock").pop();
                server = Some(match idle {
                    Some(idle) => idle,
                    None => self.log_in(&startup, None).await?,
                });
            }
            let lent = server.as_mut().expect("a session");
            write(lent, &message).await?;
            if ![b'Q', b'S'].contains(&message.0) {
                continue;
            }
            loop {
                let answer = read(lent).await?;
                write(&mut client, &answer).await?;
                if answer.0 == READY {
                    if answer.1 == [OUTSIDE] {
                        self.give_back(&mut server);
                    }
                    break;
                }
            }
        }
    }

    fn give_back(&self, server: &mut Option<TcpStream>) {
        if !self.keeps.load(Ordering::SeqCst) {
            self.idle.lock().expect("lock").extend(server.take());
        }
    }

    /// Makes a session of the server. The client is told what the server says.
    async fn log_in(
        &self,
        startup: &[u8],
        mut client: Option<&mut TcpStream>,
    ) -> io::Result<TcpStream> {
        let mut server = TcpStream::connect((self.server.0.as_str(), self.server.1)).await?;
        server
            .write_u32(u32::try_from(startup.len() + 4).expect("small"))
            .await?;
        server.write_all(startup).await?;
        loop {
            let message = read(&mut server).await?;
            if let Some(client) = client.as_deref_mut() {
                write(client, &message).await?;
            }
            if message.0 == READY {
                return Ok(server);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_pooler_is_told() {
    let patient = Patient::<sqlx::Postgres>::new().await;
    let direct = patient.pool.connect_options().as_ref().clone();
    let (pooler, port) = Pooler::start(&direct).await;
    let pooled = direct.host("127.0.0.1").port(port);
    let pooled = PgPool::connect_lazy_with(pooled.ssl_mode(sqlx::postgres::PgSslMode::Disable));

    let [finding] = shows(Doctor::new(pooled.clone()), ["transaction_pooler"]).await;

    assert!(finding.mend.contains("`pool_mode = session`"), "{finding}");
    pooler.keeps.store(true, Ordering::SeqCst);
    shows(Doctor::new(pooled), []).await;
    patient.shows([]).await;
}
