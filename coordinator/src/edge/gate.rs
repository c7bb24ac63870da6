//! Who calls, and whether they may: in front of every service.

use super::connections::Peer;
use super::identity;
use super::seldom::Seldom;
use super::tokens::Tokens;
use crate::metrics::{Metrics, Refusal};
use crate::role::Role;
use std::net::SocketAddr;
use std::sync::Arc;
use tonic::service::Interceptor;
use tonic::transport::server::TlsConnectInfo;
use tonic::{Request, Status};

/// What is asked of callers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Door {
    /// Whether TLS has made sure that they have a certificate.
    pub(super) certificates: bool,
    /// Tokens, one of which they must have.
    pub(super) tokens: Option<Tokens>,
}

/// Why a caller stays unknown. Only the log tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Unknown {
    #[error("no certificate")]
    NoCertificate,
    #[error("the certificate's organizational unit is neither client nor worker")]
    NoRole,
    #[error("no token")]
    NoToken,
    #[error("a token that is not known")]
    WrongToken,
    #[error("certificate and token have different roles")]
    TwoRoles,
}

impl Door {
    /// Who calls, and by what name if a token says it. Where both certificates and tokens are asked for, both are
    /// needed, and they must agree.
    fn caller(&self, request: &Request<()>) -> Result<(Role, &str), Unknown> {
        let certificate = self.certificates.then(|| of_certificate(request)).transpose()?;
        let token = self.tokens.as_ref().map(|tokens| of_token(tokens, request)).transpose()?;
        match (certificate, token) {
            (None, None) => Ok((Role::Anyone, "")),
            (Some(role), None) => Ok((role, "")),
            (None, Some(holder)) => Ok(holder),
            (Some(role), Some(holder)) if holder.0 == role => Ok(holder),
            (Some(_), Some(_)) => Err(Unknown::TwoRoles),
        }
    }
}

fn of_certificate(request: &Request<()>) -> Result<Role, Unknown> {
    let info = request.extensions().get::<TlsConnectInfo<Peer>>();
    let chain = info.and_then(TlsConnectInfo::peer_certs).ok_or(Unknown::NoCertificate)?;
    identity::role(chain.first().ok_or(Unknown::NoCertificate)?).ok_or(Unknown::NoRole)
}

fn of_token<'a>(tokens: &'a Tokens, request: &Request<()>) -> Result<(Role, &'a str), Unknown> {
    let header = request.metadata().get("authorization").ok_or(Unknown::NoToken)?.as_bytes();
    let (scheme, token) = header.split_at_checked("Bearer ".len()).ok_or(Unknown::WrongToken)?;
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return Err(Unknown::WrongToken);
    }
    tokens.holder(token).ok_or(Unknown::WrongToken)
}

/// What a service asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Client,
    Worker,
    /// Either of them.
    Known,
}

impl Need {
    fn allows(self, role: Role) -> bool {
        match self {
            Self::Client => role.is_client(),
            Self::Worker => role.is_worker(),
            Self::Known => true,
        }
    }
}

/// Stands in front of a service: lets through who may call it, and says in the request's extensions what [`Role`] they
/// have.
#[derive(Clone)]
pub(super) struct Gate {
    door: Arc<Door>,
    need: Need,
    metrics: Metrics,
    log: Arc<Seldom>,
}

impl Gate {
    pub(super) fn new(door: Door, metrics: Metrics) -> Self {
        Self { door: Arc::new(door), need: Need::Known, metrics, log: Arc::default() }
    }

    /// The same in front of another service.
    pub(super) fn needs(&self, need: Need) -> Self {
        Self { need, ..self.clone() }
    }

    fn refuse(&self, request: &Request<()>, why: &dyn std::fmt::Display, refusal: Refusal) -> Status {
        self.metrics.refused(refusal);
        if let Some(unsaid) = self.log.pass() {
            let (service, peer) = (self.need, address(request));
            tracing::warn!(%why, ?service, ?peer, unsaid, "a caller was refused");
        }
        match refusal {
            Refusal::Forbidden => Status::permission_denied("not allowed"),
            // The same whatever is wrong: it is nobody's business how far they came.
            _ => Status::unauthenticated("valid credentials are needed"),
        }
    }
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let (role, name) = match self.door.caller(&request) {
            Ok(caller) => caller,
            Err(why) => return Err(self.refuse(&request, &why, Refusal::Unauthenticated)),
        };
        if !self.need.allows(role) {
            let holder = if name.is_empty() { "the certificate's holder" } else { name };
            let why = format!("{holder} is a {}", role.name());
            return Err(self.refuse(&request, &why, Refusal::Forbidden));
        }
        request.extensions_mut().insert(role);
        Ok(request)
    }
}

/// Where a call comes from, as far as known.
fn address(request: &Request<()>) -> Option<SocketAddr> {
    let extensions = request.extensions();
    let peer = extensions.get::<TlsConnectInfo<Peer>>().map(TlsConnectInfo::get_ref).or_else(|| extensions.get());
    peer.and_then(|peer: &Peer| peer.address)
}

#[cfg(test)]
mod tests;
