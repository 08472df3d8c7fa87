//! Calls over TLS.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::{addresses::Script, server::*, *};
use crate::CallerError;

/// A root of our own, in a file that goes when the test ends.
struct Root {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Root {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file =
            std::env::temp_dir().join(format!("final-webhook-{}-{name}.pem", std::process::id()));
        std::fs::write(&file, certificate.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            file,
        }
    }

    /// A server with a certificate for this name.
    async fn server(&self, name: &str) -> Server {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Server::start(move |visit| {
            let acceptor = acceptor.clone();
            async move {
                let (stream, visit) = visit.split();
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut visit = visit.with(stream);
                while visit.request().await.is_some() {
                    visit.write(OK).await;
                }
            }
        })
        .await
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

fn secure(server: &Server) -> Endpoint {
    local(&format!("https://{}/", server.address))
}

#[tokio::test]
async fn a_certificate_of_a_known_root_is_trusted() {
    let root = Root::new("known");
    let caller = caller().ca_file(&root.file).build().unwrap();
    let server = root.server("127.0.0.1").await;

    for key in ["1", "2"] {
        assert_eq!(
            caller.call(&secure(&server), &call(key)).await,
            CallOutcome::Done(200)
        );
    }
    assert_eq!((server.connections(), server.requests().len()), (1, 2));

    let server = root.server("shop.example").await;
    let script = Script::new(&[&["127.0.0.1"]]);
    let caller = self::caller()
        .ca_file(&root.file)
        .resolver(script)
        .build()
        .unwrap();
    for host in ["shop.example", "shop.example."] {
        let endpoint = local(&format!("https://{host}:{}/", server.address.port()));
        assert_eq!(
            caller.call(&endpoint, &call("3")).await,
            CallOutcome::Done(200),
            "{host}"
        );
    }
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_gets_no_request() {
    let (known, unknown) = (Root::new("trusted"), Root::new("unknown"));
    let caller = caller().ca_file(&known.file).build().unwrap();
    for server in [
        unknown.server("127.0.0.1").await,
        known.server("shop.example").await,
    ] {
        let why = why(caller.call(&secure(&server), &call("k")).await);
        assert!(matches!(why, NotDone::Tls { .. }), "{why}");
        assert!(why.to_string().contains("certificate"), "{why}");
        assert!(server.requests().is_empty());
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told() {
    let server = Server::start(|mut visit| async move {
        visit.write("HTTP/1.1 400 Plain\r\n\r\n").await;
        visit.closed().await;
    })
    .await;
    let why = why(caller()
        .build()
        .unwrap()
        .call(&secure(&server), &call("k"))
        .await);
    assert!(matches!(why, NotDone::Tls { .. }), "{why}");
}

#[tokio::test]
async fn a_handshake_that_hangs_ends_with_the_time_limit() {
    let server = Server::start(|mut visit| async move { visit.closed().await }).await;
    let endpoint = secure(&server).timeout(Duration::from_millis(300));

    let why = why(caller().build().unwrap().call(&endpoint, &call("k")).await);
    assert!(
        matches!(
            why,
            NotDone::Late {
                step: crate::Step::Connecting,
                ..
            }
        ),
        "{why}"
    );
    until(|| server.open() == 0).await;
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_does_not_use_up_the_time_of_a_slow_endpoint() {
    let server = Server::start(|mut visit| async move { visit.closed().await }).await;
    let limit = Duration::from_secs(1);
    let caller = caller().connect_timeout(limit).build().unwrap();

    let why = why(caller.call(&secure(&server), &call("k")).await);
    let step = crate::Step::Connecting;
    assert_eq!(why, NotDone::Late { limit, step });
    until(|| server.open() == 0).await;

    let slow = Server::start(move |mut visit| async move {
        visit.request().await;
        tokio::time::sleep(limit * 3 / 2).await;
        visit.write(OK).await;
    })
    .await;
    assert_eq!(
        caller.call(&local(&slow.url()), &call("k")).await,
        CallOutcome::Done(200)
    );
}

#[test]
fn a_file_without_a_certificate_is_named() {
    let root = Root::new("empty");
    std::fs::write(&root.file, "no certificate").unwrap();
    for file in [root.file.clone(), root.file.with_extension("missing")] {
        let error = caller().ca_file(&file).build().unwrap_err();
        assert!(matches!(&error, CallerError::CaFile { file: named, .. } if *named == file));
        assert!(
            error.to_string().contains(file.to_str().unwrap()),
            "{error}"
        );
    }
}
