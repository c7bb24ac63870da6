//! What the operator says about who may connect, and what it comes to.

use super::Error;
use super::gate::Door;
use super::identity;
use super::tokens::Tokens;
use std::net::SocketAddr;
use std::path::PathBuf;
use tonic::transport::ServerTlsConfig;

/// Who may connect, and how. docs/security.md explains it.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Security")]
pub struct Security {
    /// The coordinator's certificate, with its chain (PEM): connections are encrypted then; needs --tls-key
    #[arg(long, env = "LORA_RATES_SERVER_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Key of the certificate (PEM)
    #[arg(long, env = "LORA_RATES_SERVER_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Certificate authority of clients and workers (PEM): who has no certificate from it is refused. The certificate's
    /// organizational unit (OU) says what its holder is: client or worker
    #[arg(long, env = "LORA_RATES_SERVER_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// File of bearer tokens, with lines `client NAME TOKEN` or `worker NAME TOKEN`: who has none of them is refused
    #[arg(long, env = "LORA_RATES_SERVER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Listen beyond the loopback without encryption, or without asking who calls
    #[arg(long, env = "LORA_RATES_INSECURE")]
    pub insecure: bool,
}

impl Security {
    /// Whether the coordinator may listen there.
    ///
    /// # Errors
    /// [`Error::Exposed`] for an address that other machines can reach, without encryption or without asking who calls.
    pub fn check(&self, address: SocketAddr) -> Result<(), Error> {
        if self.insecure || address.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        let exposed = |problem, fix| Err(Error::Exposed { address, problem, fix });
        if self.tls_cert.is_none() {
            return exposed("nothing is encrypted, tokens included", "--tls-cert and --tls-key");
        }
        if self.tls_client_ca.is_none() && self.token_file.is_none() {
            return exposed("nobody is asked who they are", "--tls-client-ca or --token-file");
        }
        Ok(())
    }

    /// Reads the files.
    ///
    /// # Errors
    /// When one of them is missing, can't be read or makes no sense.
    pub(crate) fn load(&self) -> Result<Loaded, Error> {
        let tls = match (&self.tls_cert, &self.tls_key, &self.tls_client_ca) {
            (Some(cert), Some(key), ca) => Some(identity::tls(cert, key, ca.as_deref())?),
            (None, None, None) => None,
            (None, None, Some(_)) => return Err(Error::NoIdentity),
            _ => return Err(Error::HalfIdentity),
        };
        let tokens = self.token_file.as_deref().map(Tokens::read).transpose()?;
        Ok(Loaded { tls, door: Door { certificates: self.tls_client_ca.is_some(), tokens } })
    }
}

/// [`Security`] with its files read.
pub(crate) struct Loaded {
    pub(crate) tls: Option<ServerTlsConfig>,
    pub(crate) door: Door,
}

#[cfg(test)]
mod tests {
    use super::{Error, Security};

    fn with(options: &[&str]) -> Security {
        let file = |option: &str| options.contains(&option).then(|| option.into());
        Security {
            tls_cert: file("cert"),
            tls_key: file("key"),
            tls_client_ca: file("ca"),
            token_file: file("token"),
            insecure: options.contains(&"insecure"),
        }
    }

    #[test]
    fn the_loopback_needs_no_protection() {
        for address in ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            with(&[]).check(address.parse().unwrap()).unwrap();
            with(&["token"]).check(address.parse().unwrap()).unwrap();
        }
    }

    #[test]
    fn other_addresses_need_encryption_and_to_know_who_calls() {
        let address = "0.0.0.0:50051".parse().unwrap();
        let refused = |options: &[&str]| {
            let error = with(options).check(address).unwrap_err();
            assert!(matches!(error, Error::Exposed { .. }));
            error.to_string()
        };
        assert!(refused(&[]).contains("--tls-cert and --tls-key"), "{}", refused(&[]));
        assert!(refused(&["token"]).contains("tokens included"), "{}", refused(&["token"]));
        assert!(refused(&["cert", "key"]).contains("--tls-client-ca or --token-file"));
        assert!(refused(&[]).contains("--insecure"));
        for enough in [&["insecure"][..], &["cert", "key", "token"], &["cert", "key", "ca"], &["token", "insecure"]] {
            with(enough).check(address).unwrap();
        }
        assert!(with(&[]).check("192.168.1.5:1".parse().unwrap()).is_err());
        assert!(with(&[]).check("[::]:1".parse().unwrap()).is_err());
    }

    #[test]
    fn options_that_need_others_say_so() {
        assert!(matches!(with(&["cert"]).load().err(), Some(Error::HalfIdentity)));
        assert!(matches!(with(&["key", "ca"]).load().err(), Some(Error::HalfIdentity)));
        assert!(matches!(with(&["ca"]).load().err(), Some(Error::NoIdentity)));
    }
}
