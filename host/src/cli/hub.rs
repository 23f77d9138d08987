//! Which hub a command means: by options, or as a processor of a configuration reads it.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::reach::Address;
use crate::azure::{Credential, Namespace};
use crate::config::{Config, NamespaceConfig, ProcessorConfig};

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct HubArgs {
    /// Host name of the namespace, such as fleet.servicebus.windows.net (local: not needed)
    #[arg(long, value_name = "HOST", help_heading = "Which hub", conflicts_with = "config")]
    pub(crate) namespace: Option<String>,
    /// Connect here instead, such as amqp://127.0.0.1:5672 for a local namespace
    #[arg(long, value_name = "URL", help_heading = "Which hub", conflicts_with = "config")]
    pub(crate) endpoint: Option<String>,
    /// Who asks for access: default, managed-identity, workload-identity, cli, none [default: none with a plain amqp://
    /// endpoint, else default]
    #[arg(long, value_name = "CREDENTIAL", help_heading = "Which hub", conflicts_with = "config")]
    pub(crate) credential: Option<Credential>,
    /// The event hub [with --config: the one that the processor reads]
    #[arg(long, value_name = "HUB", help_heading = "Which hub")]
    pub(crate) hub: Option<String>,
    /// Take namespace and hub from this configuration
    #[arg(long, value_name = "WEIR.TOML", help_heading = "Which hub")]
    pub(crate) config: Option<PathBuf>,
    /// Which processor of the configuration, when it has several
    #[arg(long, value_name = "NAME", help_heading = "Which hub", requires = "config")]
    pub(crate) processor: Option<String>,
}

/// A hub, found.
pub(crate) struct Hub {
    pub(crate) namespace: Namespace,
    pub(crate) address: Address,
    pub(crate) name: String,
    /// The group of the processor, when one was named.
    pub(crate) consumer_group: Option<String>,
}

impl HubArgs {
    pub(crate) fn find(&self) -> Result<Hub, Failure> {
        if let Some(file) = &self.config {
            let config = Config::load(file)?;
            let processor = processor(&config, self.processor.as_deref())?;
            return Ok(Hub {
                namespace: namespace(&processor.namespace)?,
                address: Address::of(&processor.namespace),
                name: self.hub.clone().unwrap_or_else(|| processor.event_hub.clone().into_inner()),
                consumer_group: Some(processor.consumer_group.clone().into_inner()),
            });
        }
        let Some(name) = self.hub.clone() else {
            return Err(Failure::usage(
                "which hub? Add --hub NAME with --endpoint or --namespace, or --config weir.toml",
            ));
        };
        let plain = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("amqp://"));
        let host = match (&self.namespace, &self.endpoint) {
            (Some(host), _) => host.as_str(),
            (None, Some(_)) if plain => "localhost",
            _ => {
                let why = "which namespace? Add --namespace fleet.servicebus.windows.net, or --endpoint amqp://127.0.0.1:5672 for a local one";
                return Err(Failure::usage(why));
            }
        };
        let credential = self.credential.unwrap_or(if plain { Credential::None } else { Credential::Default });
        let namespace =
            Namespace::new(host, self.endpoint.as_deref(), credential).map_err(|e| Failure::usage(e.to_string()))?;
        Ok(Hub { namespace, address: Address::new(host, self.endpoint.as_deref()), name, consumer_group: None })
    }
}

pub(crate) fn namespace(config: &NamespaceConfig) -> Result<Namespace, Failure> {
    let endpoint = config.endpoint.as_ref().map(|endpoint| endpoint.as_str());
    Namespace::new(&config.fully_qualified, endpoint, config.credential)
        .map_err(|error| Failure::usage(error.to_string()))
}

/// The processor that is meant: the named one, or the only one.
pub(crate) fn processor<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a ProcessorConfig, Failure> {
    let names = || config.processors.iter().map(|processor| processor.name.to_string()).collect::<Vec<_>>().join(", ");
    match (name, &config.processors[..]) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Failure::usage(format!("which processor? Add --processor with one of {}", names()))),
        (Some(name), all) => all.iter().find(|processor| *processor.name == name).ok_or_else(|| {
            Failure::usage(format!("there is no processor {name:?} in {}; it has {}", config.file.display(), names()))
        }),
    }
}
