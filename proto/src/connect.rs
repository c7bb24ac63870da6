//! Connections to a coordinator: with or without TLS, with or without a token.

use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How often an idle connection is probed, and how long the answer may take: a peer that is cut off is noticed.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));

/// Why there can be no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address makes no sense.
    #[error("{url:?} is no address of a coordinator; give one like http://host:50051 or https://host:50051")]
    Url {
        /// What was given.
        url: String,
    },
    /// A certificate, key or token can't be read.
    #[error("can't read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file that should hold certificates.
    #[error("--tls-ca: {} holds no certificate in PEM form", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
    },
    /// A token that no header can hold.
    #[error("{} holds no token: it must be one line of printable ASCII characters", path.display())]
    Token {
        /// The file.
        path: PathBuf,
    },
    /// Options that need https.
    #[error("{option} needs an https:// address, and {url} is none: without encryption it would be no secret")]
    NeedsTls {
        /// The option.
        option: &'static str,
        /// The address.
        url: String,
    },
    /// A certificate without key, or the other way round.
    #[error("--tls-cert and --tls-key go together: give both or neither")]
    HalfIdentity,
    /// Certificates or a key that are none.
    #[error("the certificates for {url} can't be used: {reason}")]
    Certificates {
        /// The address.
        url: String,
        /// What is wrong with them.
        reason: String,
    },
    /// The coordinator can't be reached, or its certificate is not one that is trusted.
    #[error("can't connect to {url}: {reason}")]
    Connect {
        /// The address.
        url: String,
        /// All that is known of why.
        reason: String,
    },
}

impl Error {
    /// Whether the same may succeed in a moment.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }
}

/// Who is spoken to, and who speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct Access {
    /// Certificate authority that the coordinator's certificate must come from (PEM) [default: the system's]
    #[cfg_attr(
        feature = "clap",
        arg(
            long = "tls-ca",
            alias = "tls_ca",
            env = "LORA_RATES_TLS_CA",
            value_name = "FILE",
            help_heading = "Security"
        )
    )]
    pub tls_ca: Option<PathBuf>,
    /// Own certificate, where the coordinator asks for one (PEM); needs --tls-key
    #[cfg_attr(
        feature = "clap",
        arg(
            long = "tls-cert",
            alias = "tls_cert",
            env = "LORA_RATES_TLS_CERT",
            value_name = "FILE",
            help_heading = "Security"
        )
    )]
    pub tls_cert: Option<PathBuf>,
    /// Key of the own certificate (PEM)
    #[cfg_attr(
        feature = "clap",
        arg(
            long = "tls-key",
            alias = "tls_key",
            env = "LORA_RATES_TLS_KEY",
            value_name = "FILE",
            help_heading = "Security"
        )
    )]
    pub tls_key: Option<PathBuf>,
    /// File that holds the bearer token, where the coordinator asks for one
    #[cfg_attr(
        feature = "clap",
        arg(
            long = "token-file",
            alias = "token_file",
            env = "LORA_RATES_TOKEN_FILE",
            value_name = "FILE",
            help_heading = "Security"
        )
    )]
    pub token_file: Option<PathBuf>,
}

/// Adds the token to every call.
#[derive(Clone, Debug, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A connection to a coordinator; cheap to clone.
pub type Connection = InterceptedService<Channel, Bearer>;

/// A connection without a token, over a channel that exists.
#[must_use]
pub fn plain(channel: Channel) -> Connection {
    InterceptedService::new(channel, Bearer::default())
}

/// Whether the address is one of this machine, where a token in the clear is no risk.
fn is_loopback(endpoint: &Endpoint) -> bool {
    matches!(endpoint.uri().host(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// Connects.
///
/// # Errors
/// [`Error`].
pub async fn connect(url: &str, access: &Access) -> Result<Connection, Error> {
    let bad = || Error::Url { url: url.to_owned() };
    let mut endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| bad())?;
    let tls = match endpoint.uri().scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(bad()),
    };
    if endpoint.uri().host().is_none_or(str::is_empty) {
        return Err(bad());
    }
    endpoint = endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1)
        .keep_alive_while_idle(true);
    let token = token(access)?;
    if tls {
        endpoint = endpoint
            .tls_config(tls_config(access)?)
            .map_err(|error| Error::Certificates { url: url.to_owned(), reason: causes(&error) })?;
    } else {
        let options = [("--tls-ca", &access.tls_ca), ("--tls-cert", &access.tls_cert), ("--tls-key", &access.tls_key)];
        let given = options.into_iter().find(|(_, file)| file.is_some()).map(|(option, _)| option);
        let leaked = (token.is_some() && !is_loopback(&endpoint)).then_some("--token-file");
        if let Some(option) = given.or(leaked) {
            return Err(Error::NeedsTls { option, url: url.to_owned() });
        }
    }
    let channel = endpoint.connect().await.map_err(|error| refused(url, &error))?;
    Ok(InterceptedService::new(channel, Bearer(token)))
}

fn refused(url: &str, error: &dyn std::error::Error) -> Error {
    Error::Connect { url: url.to_owned(), reason: causes(error) }
}

/// All of an error's causes in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !reason.contains(&text) {
            reason = format!("{reason}: {text}");
        }
        cause = error.source();
    }
    reason
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })
}

fn tls_config(access: &Access) -> Result<ClientTlsConfig, Error> {
    let mut config = ClientTlsConfig::new().timeout(CONNECT);
    config = match &access.tls_ca {
        Some(path) => {
            let pem = read(path)?;
            // TLS would take it without a word, and then trust nobody.
            if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
                return Err(Error::NotPem { path: path.clone() });
            }
            config.ca_certificate(Certificate::from_pem(pem))
        }
        None => config.with_native_roots(),
    };
    match (&access.tls_cert, &access.tls_key) {
        (Some(cert), Some(key)) => Ok(config.identity(Identity::from_pem(read(cert)?, read(key)?))),
        (None, None) => Ok(config),
        _ => Err(Error::HalfIdentity),
    }
}

fn token(access: &Access) -> Result<Option<MetadataValue<Ascii>>, Error> {
    let Some(path) = &access.token_file else { return Ok(None) };
    let text = String::from_utf8(read(path)?).unwrap_or_default();
    let bad = || Error::Token { path: path.clone() };
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(bad());
    }
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| bad())?;
    value.set_sensitive(true);
    Ok(Some(value))
}
