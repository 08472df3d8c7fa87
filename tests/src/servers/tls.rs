//! Certificates for tests: an authority made on the spot, and what it signs.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use super::TlsFiles;
use crate::{Error, Result};

/// A new certificate authority. Two of them do not trust each other.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one.
    pub fn new() -> Result<Self> {
        // Each authority has its own name. With equal names, the signature of the other authority would be
        // reported as a forgery.
        let mut params = named(&crate::unique("final test authority"), &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(cannot)?;
        Ok(Self {
            issuer: CertifiedIssuer::self_signed(params, key).map_err(cannot)?,
        })
    }

    /// The certificate that clients have to trust, as PEM.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate and key for a client of this name, as PEM.
    pub fn for_client(&self, name: &str) -> Result<(String, String)> {
        self.issue(named(name, &[])?, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// The files of a server at `localhost`. The certificate does not name 127.0.0.1, although the server is
    /// there too.
    pub fn for_server(&self) -> Result<TlsFiles> {
        let params = named("localhost", &["localhost"])?;
        let (certificate, key) = self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)?;
        Ok(TlsFiles {
            authority: self.certificate(),
            certificate,
            key,
            clients_must: false,
        })
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<(String, String)> {
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().map_err(cannot)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(cannot)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

fn named(name: &str, hosts: &[&str]) -> Result<CertificateParams> {
    let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).map_err(cannot)?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn cannot(cause: rcgen::Error) -> Error {
    Error::new(
        format!("cannot make a certificate: {cause}"),
        "check the names given for it; this needs nothing from the machine",
    )
}
