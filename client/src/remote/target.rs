//! Which coordinator, and who asks: the options that all commands share.

use crate::failure::Failure;
use crate::output::shell;
use crate::settings;
use lora_rates_proto::connect::Access;
use std::path::Path;

/// `--coordinator` with this value, or nothing, means this machine.
const HERE: &str = "local";

/// Where the searches are, as the command line says it.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct TargetArgs {
    /// Address of the coordinator, such as http://host:50051 or https://host:50051
    #[arg(long, env = "LORA_RATES_COORDINATOR", value_name = "URL", help_heading = "Coordinator")]
    coordinator: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// A coordinator, and who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its address.
    pub url: String,
    /// Certificates and token.
    pub access: Access,
}

impl TargetArgs {
    /// The coordinator; `None` if everything is to happen on this machine.
    pub(crate) fn elsewhere(self) -> Option<Target> {
        let url = self.coordinator.filter(|url| !url.is_empty() && url != HERE)?;
        Some(Target { url, access: self.access })
    }

    /// The coordinator.
    ///
    /// # Errors
    /// None is given.
    pub(crate) fn required(self) -> Result<Target, Failure> {
        let what = "give the address of the coordinator, such as http://host:50051, or set LORA_RATES_COORDINATOR";
        self.elsewhere().ok_or_else(|| Failure::usage(settings::Error::Missing { option: "coordinator", what }))
    }
}

impl Target {
    /// The options that lead there, for a command that is shown to the user.
    pub(crate) fn options(&self) -> String {
        let Access { tls_ca, tls_cert, tls_key, token_file, .. } = &self.access;
        let files = [("tls-ca", tls_ca), ("tls-cert", tls_cert), ("tls-key", tls_key), ("token-file", token_file)];
        let file = |(name, file): (&str, &Option<_>)| {
            let file: &Path = file.as_deref()?;
            Some(format!(" --{name} {}", shell::quoted(&file.display().to_string())))
        };
        let files: String = files.into_iter().filter_map(file).collect();
        format!("--coordinator {}{files}", shell::quoted(&self.url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_local_mean_this_machine() {
        let target = |url: Option<&str>| TargetArgs { coordinator: url.map(Into::into), ..TargetArgs::default() };
        for url in [None, Some(""), Some("local")] {
            assert_eq!(target(url).elsewhere(), None);
            assert!(target(url).required().unwrap_err().to_string().contains("--coordinator is missing"));
        }
        assert_eq!(target(Some("http://a:1")).required().unwrap().url, "http://a:1");
    }

    #[test]
    fn the_options_are_those_of_a_shell() {
        let access = Access { tls_ca: Some("my ca.pem".into()), token_file: Some("t".into()), ..Access::default() };
        let target = Target { url: "https://host:1".to_owned(), access };
        assert_eq!(target.options(), "--coordinator https://host:1 --tls-ca 'my ca.pem' --token-file t");
    }
}
