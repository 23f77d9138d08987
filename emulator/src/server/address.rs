//! The addresses that clients attach to.

/// A node of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// `$cbs`: tokens are put here.
    Cbs,
    /// `$management` of the namespace or of a hub: properties are read here.
    Management,
    /// A hub, or one of its partitions: events are sent here.
    Ingress { hub: String, partition: Option<String> },
    /// A partition in the view of a consumer group: events are read here.
    Egress { hub: String, group: String, partition: String },
}

impl Node {
    /// Reads an address, with or without scheme and host in front. Keywords match in any case, as in the service.
    pub(crate) fn parse(address: &str) -> Option<Self> {
        let path = match address.split_once("://") {
            Some((_, rest)) => rest.split_once('/')?.1,
            None => address,
        };
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let is = |part: &str, keyword: &str| part.eq_ignore_ascii_case(keyword);
        match parts[..] {
            [] | [""] => None,
            [.., node] if is(node, "$cbs") => Some(Self::Cbs),
            [.., node] if is(node, "$management") => Some(Self::Management),
            [hub] => Some(Self::Ingress { hub: hub.into(), partition: None }),
            [hub, partitions, id] if is(partitions, "Partitions") => {
                Some(Self::Ingress { hub: hub.into(), partition: Some(id.into()) })
            }
            [hub, groups, group, partitions, id] if is(groups, "ConsumerGroups") && is(partitions, "Partitions") => {
                Some(Self::Egress { hub: hub.into(), group: group.into(), partition: id.into() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_all_clients() {
        let ingress = |partition: Option<&str>| {
            Some(Node::Ingress { hub: "flights".into(), partition: partition.map(str::to_owned) })
        };
        for (address, node) in [
            ("$cbs", Some(Node::Cbs)),
            ("$management", Some(Node::Management)),
            ("flights/$management", Some(Node::Management)),
            ("amqps://localhost/flights/$management", Some(Node::Management)),
            ("flights", ingress(None)),
            ("/flights/", ingress(None)),
            ("amqps://localhost:5672/flights", ingress(None)),
            ("flights/Partitions/3", ingress(Some("3"))),
            ("sb://localhost/flights/partitions/3", ingress(Some("3"))),
            (
                "amqps://h/flights/ConsumerGroups/$Default/Partitions/0",
                Some(Node::Egress { hub: "flights".into(), group: "$Default".into(), partition: "0".into() }),
            ),
            ("", None),
            ("amqps://host", None),
            ("flights/nonsense/3", None),
            ("flights/ConsumerGroups/g/Partitions/0/1", None),
        ] {
            assert_eq!(Node::parse(address), node, "{address:?}");
        }
    }
}
