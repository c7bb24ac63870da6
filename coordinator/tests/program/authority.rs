//! Certificates, made for each test.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use std::path::{Path, PathBuf};

/// A certificate authority.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    name: String,
}

/// Files of a certificate and its key.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// A new one, that keeps its files in this folder.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), issuer.pem()).unwrap();
        Self { issuer, folder: folder.to_owned(), name: name.to_owned() }
    }

    /// Its own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// A certificate of a coordinator of this host name.
    pub(crate) fn server(&self, host: &str) -> Issued {
        self.issue("server", CertificateParams::new(vec![host.to_owned()]).unwrap())
    }

    /// One that has expired.
    pub(crate) fn expired_server(&self, host: &str) -> Issued {
        self.issue("expired-server", expired(CertificateParams::new(vec![host.to_owned()]).unwrap()))
    }

    /// A certificate of a client or a worker.
    pub(crate) fn member(&self, unit: &str) -> Issued {
        self.issue(unit, member(unit))
    }

    /// One that has expired.
    pub(crate) fn expired_member(&self, unit: &str) -> Issued {
        self.issue(&format!("expired-{unit}"), expired(member(unit)))
    }

    fn issue(&self, file: &str, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |part| self.folder.join(format!("{}-{file}{part}.pem", self.name));
        std::fs::write(path(""), certificate.pem()).unwrap();
        std::fs::write(path("-key"), key.serialize_pem()).unwrap();
        Issued { cert: path(""), key: path("-key") }
    }
}

fn member(unit: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "somebody");
    params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn expired(mut params: CertificateParams) -> CertificateParams {
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    params
}
