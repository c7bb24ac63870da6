//! Certificates: the coordinator's own, and what those of callers say.

use super::Error;
use crate::role::Role;
use std::path::Path;
use std::time::Duration;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// TLS with these files; with `client_ca` callers must show a certificate from it.
///
/// # Errors
/// When a file can't be read or is not what it should be.
pub(super) fn tls(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<ServerTlsConfig, Error> {
    let chain = certificates("--tls-cert", cert)?;
    let secret = read("--tls-key", key)?;
    if !blocks(&secret).any(|block| block.label.ends_with("PRIVATE KEY")) {
        return Err(Error::NotPem { option: "--tls-key", path: key.to_owned(), expected: "private key" });
    }
    let config = ServerTlsConfig::new().identity(Identity::from_pem(chain, secret)).timeout(HANDSHAKE);
    Ok(match client_ca {
        Some(path) => config.client_ca_root(Certificate::from_pem(certificates("--tls-client-ca", path)?)),
        None => config,
    })
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { option, path: path.to_owned(), source })
}

/// A file of certificates, all of them legible; says so when one is not valid today.
fn certificates(option: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = read(option, path)?;
    let mut count = 0;
    for block in blocks(&bytes).filter(|block| block.label == "CERTIFICATE") {
        let bad = |_| Error::NotPem { option, path: path.to_owned(), expected: "legible certificate" };
        let validity = block.parse_x509().map_err(bad)?.validity().clone();
        if !validity.is_valid() {
            let (from, until) = (validity.not_before, validity.not_after);
            tracing::warn!(option, path = %path.display(), %from, %until, "a certificate is not valid today");
        }
        count += 1;
    }
    if count == 0 {
        return Err(Error::NotPem { option, path: path.to_owned(), expected: "certificate" });
    }
    Ok(bytes)
}

fn blocks(bytes: &[u8]) -> impl Iterator<Item = Pem> {
    Pem::iter_from_buffer(bytes).map_while(Result::ok)
}

/// What a certificate's holder is: its subject's organizational unit. `None` when it says neither, or both.
pub(super) fn role(certificate: &[u8]) -> Option<Role> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut found = None;
    for unit in certificate.subject().iter_organizational_unit() {
        let role = Role::from_name(unit.as_str().ok()?);
        if let (Some(first), Some(second)) = (found, role)
            && first != second
        {
            return None;
        }
        found = found.or(role);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::role;
    use crate::role::Role;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn certificate(unit: Option<&str>) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "worker");
        if let Some(unit) = unit {
            params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_organizational_unit_says_what_its_holder_is() {
        assert_eq!(role(&certificate(Some("worker"))), Some(Role::Worker));
        assert_eq!(role(&certificate(Some("client"))), Some(Role::Client));
        assert_eq!(role(&certificate(Some("Worker"))), None);
        assert_eq!(role(&certificate(Some("workers"))), None);
        assert_eq!(role(&certificate(None)), None);
        assert_eq!(role(b"no certificate"), None);
    }
}
