//! Whom a caller trusts over TLS.
//!
//! Input: the roots of the machine, and files with further ones. Output: a configuration for connections, or the
//! reason why there can be none.

use std::{path::PathBuf, sync::Arc};

use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::CallerError;

/// Reads all roots. Without one, calls over TLS fail with a text that says so, and others work.
pub(crate) fn trust(files: &[PathBuf]) -> Result<Trust, CallerError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    // A machine has roots that cannot be read, and those in use are others.
    roots.add_parsable_certificates(native.certs);
    for file in files {
        let unread = |error: String| CallerError::CaFile {
            file: file.clone(),
            error,
        };
        let certificates =
            CertificateDer::pem_file_iter(file).map_err(|error| unread(error.to_string()))?;
        let before = roots.len();
        for certificate in certificates {
            let certificate = certificate.map_err(|error| unread(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| unread(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(unread("it has no certificate in PEM".to_owned()));
        }
    }
    if roots.is_empty() {
        return Ok(Trust::Nobody);
    }
    // ring by name: another crate of the program may have made another library the default of the process.
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|error| CallerError::Tls {
            error: error.to_string(),
        })?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Trust::Roots(Arc::new(config)))
}

#[derive(Clone)]
pub(crate) enum Trust {
    Roots(Arc<ClientConfig>),
    /// There is no root on this machine, and none was given.
    Nobody,
}
