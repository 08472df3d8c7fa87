//! TLS with the server, by the rules of `sslmode`.
//!
//! Input: the mode and the files of the URL. Output: a connector, or the reason why there can be none. The crypto
//! library is ring, named in each builder, as everywhere in this workspace.

use std::{path::Path, sync::Arc};

use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
        SignatureScheme,
        client::{
            WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    },
};

use super::super::address::{SslMode, TlsFiles};

/// Makes the connector of a mode. Reads files, and so may wait for a disk.
pub(in super::super) fn connector(mode: SslMode, files: &TlsFiles) -> Result<TlsConnector, String> {
    let provider = Arc::new(ring::default_provider());
    let trust: Arc<dyn ServerCertVerifier> = match mode {
        SslMode::VerifyFull => strict(files, &provider)?,
        SslMode::VerifyCa => Arc::new(AnyName(strict(files, &provider)?)),
        SslMode::Disable | SslMode::Prefer | SslMode::Require => {
            Arc::new(Anyone(Arc::clone(&provider)))
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(trust);
    let config = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| unread("sslkey", key, &error.to_string()))?;
            builder
                .with_client_auth_cert(certificates("sslcert", certificate)?, key)
                .map_err(|error| error.to_string())?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The certificate comes from an authority of the file, or of the machine without one, and names the host.
fn strict(
    files: &TlsFiles,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    match &files.authorities {
        Some(file) => {
            for certificate in certificates("sslrootcert", file)? {
                roots
                    .add(certificate)
                    .map_err(|error| unread("sslrootcert", file, &error.to_string()))?;
            }
        }
        // A machine has roots that cannot be read, and those in use are others.
        None => {
            let native = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(native.certs);
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| {
            format!("there is no authority to trust ({error}); name a file in sslrootcert")
        })
}

fn certificates(setting: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unread = |error: String| unread(setting, file, &error);
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|error| unread(error.to_string()))?
        .collect();
    match found {
        Ok(found) if found.is_empty() => Err(unread("it has no certificate in PEM".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(unread(error.to_string())),
    }
}

fn unread(setting: &str, file: &Path, error: &str) -> String {
    format!(
        "the file {} of {setting} cannot be used: {error}",
        file.display()
    )
}

/// `verify-ca`: the authority counts, and the name does not.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at last, when the chain has been found good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// `require` and `prefer`: the connection is encrypted, with a server that may be any.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use final_tests::{
        WorkDir,
        servers::{Authority, TlsFiles as ServerFiles},
    };
    use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

    use super::*;

    /// Whether a client of that mode takes the server as `name`.
    async fn is_taken(
        server: &ServerFiles,
        mode: SslMode,
        files: &TlsFiles,
        name: &'static str,
    ) -> bool {
        let certificate = CertificateDer::from_pem_slice(server.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        // A machine may have no authorities at all.
        let Ok(connector) = connector(mode, files) else {
            return false;
        };
        let name = ServerName::try_from(name).unwrap();
        let (taken, _) = tokio::join!(connector.connect(name, ours), acceptor.accept(theirs));
        taken.is_ok()
    }

    #[tokio::test]
    async fn authority_and_name_are_checked_as_the_mode_says() {
        let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
        // Its certificate names localhost.
        let server = authority.for_server().unwrap();
        let dir = WorkDir::new("authorities").unwrap();
        dir.write("ours.pem", &authority.certificate()).unwrap();
        dir.write("other.pem", &stranger.certificate()).unwrap();
        let by = |file: &str| TlsFiles {
            authorities: Some(dir.join(file)),
            ..TlsFiles::default()
        };
        let (ours, other, machine) = (by("ours.pem"), by("other.pem"), TlsFiles::default());
        for (mode, files, name, expected) in [
            (SslMode::VerifyFull, &ours, "localhost", true),
            (SslMode::VerifyFull, &ours, "db.example", false),
            (SslMode::VerifyFull, &ours, "127.0.0.1", false),
            (SslMode::VerifyFull, &other, "localhost", false),
            (SslMode::VerifyFull, &machine, "localhost", false),
            (SslMode::VerifyCa, &ours, "db.example", true),
            (SslMode::VerifyCa, &ours, "127.0.0.1", true),
            (SslMode::VerifyCa, &other, "localhost", false),
            (SslMode::Require, &machine, "db.example", true),
            (SslMode::Prefer, &machine, "db.example", true),
        ] {
            let taken = is_taken(&server, mode, files, name).await;
            assert_eq!(taken, expected, "{mode} with {files:?} at {name}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_told_with_its_setting() {
        let files = TlsFiles {
            authorities: Some("/nowhere.pem".into()),
            ..TlsFiles::default()
        };
        let Err(error) = connector(SslMode::VerifyFull, &files) else {
            panic!();
        };
        assert!(error.contains("/nowhere.pem of sslrootcert"), "{error}");
    }
}
