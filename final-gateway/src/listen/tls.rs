//! TLS: a certificate and its key in PEM files, which may be replaced while the gateway runs.
//!
//! Input: two files. State: what was made of them, and when they were written. Output: an acceptor for each handshake.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// Why a certificate or its key cannot be used. Never has anything of the files' contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct TlsError {
    file: PathBuf,
    reason: String,
}

/// A certificate with its key. Files that change are read again within seconds; connections that are open keep what they
/// have. Clones share one.
#[derive(Clone)]
pub struct Tls {
    files: Arc<Files>,
    current: Arc<Mutex<Current>>,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    protocols: Vec<Vec<u8>>,
}

struct Current {
    config: Arc<ServerConfig>,
    written: Written,
}

/// When both files were written, and how long they are.
type Written = [Option<(SystemTime, u64)>; 2];

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("certificate", &self.files.certificate)
            .field("key", &self.files.key)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads a certificate, with the chain below it, and its private key. Both are files in PEM form.
    ///
    /// # Errors
    ///
    /// Names the file that cannot be used, and why.
    pub fn from_files(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let files = Files {
            certificate: certificate.into(),
            key: key.into(),
            protocols: Vec::new(),
        };
        files.read()
    }

    /// The same certificate for a protocol that is agreed on in the handshake, the first one preferred.
    pub(crate) fn with_protocols(&self, protocols: &[&[u8]]) -> Result<Self, TlsError> {
        let files = Files {
            certificate: self.files.certificate.clone(),
            key: self.files.key.clone(),
            protocols: protocols.iter().map(|name| name.to_vec()).collect(),
        };
        files.read()
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.lock();
        let current = current.unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current.config))
    }

    /// Reads the files again if they have changed. If they cannot be used, what there is stays.
    pub(super) async fn reload(&self) {
        let tls = self.clone();
        // Joins at once on the runtime's own threads; a panic in it changes nothing.
        let _ = tokio::task::spawn_blocking(move || tls.reload_now()).await;
    }

    fn reload_now(&self) {
        let written = self.files.written();
        {
            let current = self.current.lock();
            if current.unwrap_or_else(PoisonError::into_inner).written == written {
                return;
            }
        }
        let read = self.files.config();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // Also of files that cannot be used: they are complained of once.
        current.written = written;
        match read {
            Ok(config) => {
                current.config = config;
                tracing::info!(
                    target: "final::gateway",
                    certificate = %self.files.certificate.display(),
                    "the certificate was read again; new connections get it"
                );
            }
            Err(error) => tracing::warn!(
                target: "final::gateway",
                error = %error,
                "the certificate has changed and cannot be used; new connections get the one before"
            ),
        }
    }
}

impl Files {
    fn read(self) -> Result<Tls, TlsError> {
        // Before the files are read: what is written meanwhile is read again.
        let written = self.written();
        let config = self.config()?;
        Ok(Tls {
            files: Arc::new(self),
            current: Arc::new(Mutex::new(Current { config, written })),
        })
    }

    fn written(&self) -> Written {
        let of = |file: &Path| {
            let about = fs::metadata(file).ok()?;
            Some((about.modified().ok()?, about.len()))
        };
        [of(&self.certificate), of(&self.key)]
    }

    fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let certificate = |reason| TlsError::new(&self.certificate, reason);
        let key = |reason| TlsError::new(&self.key, reason);
        let pem = fs::read(&self.certificate).map_err(|error| certificate(error.to_string()))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.map_err(|_| certificate("this is no PEM file".to_owned()))?;
        if chain.is_empty() {
            return Err(certificate(
                "there is no certificate in it; PEM is expected, with BEGIN CERTIFICATE".to_owned(),
            ));
        }
        let pem = fs::read(&self.key).map_err(|error| key(error.to_string()))?;
        let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
            key("there is no private key in it; PEM is expected, with BEGIN PRIVATE KEY".to_owned())
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let built = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(chain, private)
            });
        let mut config =
            built.map_err(|error| key(format!("it does not fit the certificate: {error}")))?;
        config.alpn_protocols.clone_from(&self.protocols);
        Ok(Arc::new(config))
    }
}

impl TlsError {
    fn new(file: &Path, reason: String) -> Self {
        Self {
            file: file.to_owned(),
            reason,
        }
    }
}
