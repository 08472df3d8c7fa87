use std::{path::Path, process::Command, time::Duration};

use final_tests::WorkDir;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tokio_util::sync::CancellationToken;

use super::*;

const FULL: &[u8] = b"-ERR full\r\n";

/// An entrance whose visitors hear back what they say. `panic` makes the task panic.
struct Echo {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Echo {
    async fn open(listen: Listen) -> Self {
        let entrance = Entrance::open(&listen, &[b"echo"], FULL).await.unwrap();
        let address = entrance.address();
        let stop = CancellationToken::new();
        let running = entrance.run(stop.clone(), async |visitor: Visitor| {
            let mut stream = visitor.stream;
            let mut bytes = [0; 64];
            while let Ok(read) = stream.read(&mut bytes).await {
                assert_ne!(&bytes[..read], b"panic");
                if read == 0 || stream.write_all(&bytes[..read]).await.is_err() {
                    break;
                }
            }
        });
        let task = tokio::spawn(running);
        Self {
            address,
            stop,
            task,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

async fn is_answered(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> bool {
    let mut heard = [0; 5];
    stream.write_all(b"hello").await.is_ok()
        && stream.read_exact(&mut heard).await.is_ok()
        && heard == *b"hello"
}

async fn to_the_end(mut stream: TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let read = timeout(Duration::from_secs(30), stream.read_to_end(&mut heard)).await;
    let _ = read.expect("the end in time");
    heard
}

fn limits(change: impl FnOnce(&mut ListenLimits)) -> ListenLimits {
    let mut limits = ListenLimits::default();
    change(&mut limits);
    limits
}

#[tokio::test]
async fn an_address_that_is_taken_or_foreign_is_a_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = Entrance::open(&Listen::at(&*address), &[], FULL)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot listen at {address}: another process listens there; stop it or choose another port"
        )
    );
    let error = Entrance::open(&Listen::at("192.0.2.1:0"), &[], FULL)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("this machine does not have the address"),
        "{error}"
    );
    let error = Entrance::open(&Listen::at("nonsense"), &[], FULL)
        .await
        .unwrap_err();
    assert!(
        error.to_string().starts_with("cannot listen at nonsense: "),
        "{error}"
    );
}

#[tokio::test]
async fn beyond_the_limit_a_client_reads_why_and_a_place_that_is_left_is_given_again() {
    let listen = Listen::at("127.0.0.1:0").limits(limits(|limits| limits.connections = 2));
    let echo = Echo::open(listen).await;
    let mut one = echo.connect().await;
    let mut two = echo.connect().await;
    assert!(is_answered(&mut one).await && is_answered(&mut two).await);
    let mut three = echo.connect().await;
    // What it has sent is not read, and the answer comes all the same.
    three.write_all(b"hello").await.unwrap();
    assert_eq!(to_the_end(three).await, FULL);
    drop(one);
    let again = async { while !is_answered(&mut echo.connect().await).await {} };
    timeout(Duration::from_secs(20), again).await.unwrap();
    assert!(is_answered(&mut two).await);
}

#[tokio::test]
async fn a_panic_ends_one_connection() {
    let echo = Echo::open(Listen::at("127.0.0.1:0")).await;
    let mut other = echo.connect().await;
    let mut one = echo.connect().await;
    one.write_all(b"panic").await.unwrap();
    assert_eq!(to_the_end(one).await, b"");
    assert!(is_answered(&mut other).await && is_answered(&mut echo.connect().await).await);
}

#[tokio::test]
async fn at_the_stop_connections_have_a_while_and_are_then_cut() {
    let listen = Listen::at("127.0.0.1:0")
        .limits(limits(|limits| limits.ending = Duration::from_millis(200)));
    let echo = Echo::open(listen).await;
    let mut one = echo.connect().await;
    assert!(is_answered(&mut one).await);
    echo.stop.cancel();
    assert!(is_answered(&mut one).await, "it was cut at once");
    let started = Instant::now();
    echo.task.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(to_the_end(one).await, b"");
    assert!(TcpStream::connect(echo.address).await.is_err());
}

/// Plays in a process of its own, whose limit of open files is low.
#[tokio::test]
async fn a_process_without_a_file_left_takes_connections_again_when_some_end() {
    const INSIDE: &str = "FINAL_TEST_FEW_FILES";
    if std::env::var_os(INSIDE).is_none() {
        let name =
            "listen::tests::a_process_without_a_file_left_takes_connections_again_when_some_end";
        let own = std::env::current_exe().unwrap();
        let script = format!("ulimit -n 48 && exec \"$0\" --exact {name} --nocapture");
        let mut inside = Command::new("sh");
        inside.args(["-c", &script]).arg(own).env(INSIDE, "1");
        let output = tokio::task::spawn_blocking(move || inside.output())
            .await
            .unwrap()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("1 passed"),
            "{output:?}"
        );
        return;
    }
    let echo = Echo::open(Listen::at("127.0.0.1:0")).await;
    // Both ends of a connection are files of this process: its own end fails to open at last.
    let mut clients = Vec::new();
    while let Ok(client) = TcpStream::connect(echo.address).await {
        clients.push(client);
        assert!(clients.len() < 100);
    }
    // One of them has not been taken: there was no file for it.
    tokio::time::sleep(Duration::from_millis(150)).await;
    clients.truncate(5);
    for client in &mut clients {
        assert!(
            timeout(Duration::from_secs(20), is_answered(client))
                .await
                .unwrap()
        );
    }
    let again = async { while !is_answered(&mut echo.connect().await).await {} };
    timeout(Duration::from_secs(20), again).await.unwrap();
}

/// Writes a certificate for localhost and its key. Returns the certificate.
fn certify(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.pem();
    std::fs::write(folder.join("cert.pem"), &certificate).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    certificate
}

async fn tls_connect(
    address: std::net::SocketAddr,
    trusted: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap();
    roots.add(trusted).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(std::sync::Arc::new(config));
    let stream = TcpStream::connect(address).await?;
    connector
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_used_for_new_connections() {
    let folder = WorkDir::new("listen").unwrap();
    let first = certify(folder.path());
    let tls = Tls::from_files(folder.join("cert.pem"), folder.join("key.pem")).unwrap();
    let echo = Echo::open(Listen::at("127.0.0.1:0").tls(tls)).await;
    let mut old = tls_connect(echo.address, &first).await.unwrap();
    assert!(is_answered(&mut old).await);
    // Files that cannot be used change nothing.
    std::fs::write(folder.join("key.pem"), "nonsense").unwrap();
    let tls = Tls::from_files(folder.join("cert.pem"), folder.join("key.pem"));
    let error = tls.unwrap_err().to_string();
    assert!(
        error.ends_with("there is no private key in it; PEM is expected, with BEGIN PRIVATE KEY"),
        "{error}"
    );
    assert!(tls_connect(echo.address, &first).await.is_ok());
    let second = certify(folder.path());
    let again = async { while tls_connect(echo.address, &second).await.is_err() {} };
    timeout(Duration::from_secs(60), again).await.unwrap();
    assert!(is_answered(&mut old).await);
    let mut new = tls_connect(echo.address, &second).await.unwrap();
    assert!(is_answered(&mut new).await);
}

#[tokio::test]
async fn a_client_without_tls_and_one_that_says_nothing_are_closed() {
    let folder = WorkDir::new("listen").unwrap();
    let trusted = certify(folder.path());
    let tls = Tls::from_files(folder.join("cert.pem"), folder.join("key.pem")).unwrap();
    let limits = limits(|limits| limits.handshake = Duration::from_millis(300));
    let echo = Echo::open(Listen::at("127.0.0.1:0").tls(tls).limits(limits)).await;
    let mut plain = echo.connect().await;
    plain.write_all(b"PING\r\n").await.unwrap();
    let silent = echo.connect().await;
    let both = async {
        let heard = to_the_end(plain).await;
        assert!(!heard.starts_with(b"PING"));
        assert_eq!(to_the_end(silent).await, b"");
    };
    timeout(Duration::from_secs(20), both).await.unwrap();
    assert!(is_answered(&mut tls_connect(echo.address, &trusted).await.unwrap()).await);
}
