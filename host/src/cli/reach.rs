//! Whether a namespace can be reached at all. Asked before the SDK is: it reports a closed port as a link that ended, which
//! says neither where nor what to do.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::NamespaceConfig;

/// How long a namespace may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a namespace takes connections.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    /// `host:port`.
    place: String,
    /// The same for messages, which never show what came from the environment.
    shown: String,
    /// Without TLS, and so a local namespace.
    plain: bool,
}

impl Address {
    /// Of a namespace, or of the endpoint that stands in for it.
    pub(crate) fn new(fully_qualified_namespace: &str, endpoint: Option<&str>) -> Self {
        let (scheme, rest) =
            endpoint.and_then(|url| url.split_once("://")).unwrap_or(("amqps", fully_qualified_namespace));
        let authority = rest.split(['/', '?']).next().unwrap_or(rest);
        let plain = scheme == "amqp";
        // The digits behind the last colon of `[::1]` are no port.
        let port = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let place = match port {
            Some(_) => authority.to_owned(),
            None => format!("{authority}:{}", if plain { 5672 } else { 5671 }),
        };
        Self { shown: place.clone(), place, plain }
    }

    /// Of a namespace as it is configured.
    pub(crate) fn of(config: &NamespaceConfig) -> Self {
        let endpoint = config.endpoint.as_ref();
        let address = Self::new(&config.fully_qualified, endpoint.map(|endpoint| endpoint.as_str()));
        match endpoint {
            Some(endpoint) if endpoint.is_secret() => Self { shown: format!("{endpoint:?}"), ..address },
            _ => address,
        }
    }

    /// Connects and hangs up. The error is a clause for a person: where, why, what to do.
    pub(crate) async fn reach(&self) -> Result<(), String> {
        let why = match timeout(PATIENCE, TcpStream::connect(&self.place)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => "nothing listens there".into(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer in {PATIENCE:?}"),
        };
        Err(self.sentence(&why))
    }

    fn sentence(&self, why: &str) -> String {
        let Self { shown, plain, .. } = self;
        let port = self.place.rsplit_once(':').map_or("5671", |(_, port)| port);
        let remedy = match plain {
            true => {
                format!("start one (`weir emulator --listen {shown} --hub NAME:PARTITIONS`), or correct the endpoint")
            }
            false => format!("check the name, and that this network lets connections to port {port} out"),
        };
        format!("can't reach the namespace at {shown}: {why}; {remedy}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_namespace_unless_an_endpoint_stands_in() {
        for (endpoint, place, plain) in [
            (None, "fleet.servicebus.windows.net:5671", false),
            (Some("amqp://127.0.0.1:4000"), "127.0.0.1:4000", true),
            (Some("amqp://localhost/"), "localhost:5672", true),
            (Some("amqp://[::1]:4000/"), "[::1]:4000", true),
            (Some("amqps://gateway.example"), "gateway.example:5671", false),
        ] {
            let address = Address::new("fleet.servicebus.windows.net", endpoint);
            assert_eq!((&*address.place, address.plain), (place, plain), "{endpoint:?}");
        }
    }

    #[test]
    fn the_remedy_fits_the_kind_of_namespace() {
        let local = Address::new("localhost", Some("amqp://127.0.0.1:4000")).sentence("nothing listens there");
        assert_eq!(
            local,
            "can't reach the namespace at 127.0.0.1:4000: nothing listens there; start one (`weir emulator --listen \
             127.0.0.1:4000 --hub NAME:PARTITIONS`), or correct the endpoint"
        );
        let service = Address::new("fleet.servicebus.windows.net", None).sentence("no answer in 10s");
        assert!(
            service.ends_with("check the name, and that this network lets connections to port 5671 out"),
            "{service}"
        );
    }
}
