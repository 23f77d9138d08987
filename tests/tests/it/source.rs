//! What every [`EventSource`] must do, run against the local namespace. A new source is one more line at the end.

mod faults;
mod reading;
mod values;

use std::sync::Arc;
use std::time::Duration;

use weir_emulator::Emulator;
use weir_host::azure::{Credential, Namespace, Timeouts};
use weir_host::seams::EventSource;

/// Makes the source under test, for a hub and consumer group.
type Make = fn(&Emulator, &str, &str) -> Arc<dyn EventSource>;

macro_rules! conformance {
    ($name:ident, $make:expr, $($theme:ident::{$($case:ident),* $(,)?}),* $(,)?) => {
        mod $name {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$theme::$case($make).await;
                }
            )*)*
        }
    };
    ($name:ident, $make:expr) => {
        conformance!($name, $make,
            reading::{
                starts_where_it_is_told,
                goes_on_behind_the_last_event,
                waits_for_what_comes,
                knows_partitions_and_positions,
                names_what_is_not_there,
                loses_nothing_when_a_receive_is_dropped,
                stops_the_service_by_not_receiving,
                gives_back_what_it_holds,
            },
            values::{hands_over_every_type, hands_over_every_body, hands_over_the_largest_bodies},
            faults::{
                is_contiguous_over_every_end_of_a_link,
                says_when_it_is_stolen,
                says_when_it_is_refused,
                lets_busy_services_pass,
                gives_up_in_time,
            },
        );
    };
}

/// Short waits, so that tests of them don't take long.
const TIMEOUTS: Timeouts = Timeouts { open: Duration::from_secs(3), manage: Duration::from_secs(3) };

fn sdk(emulator: &Emulator, hub: &str, group: &str) -> Arc<dyn EventSource> {
    let namespace = Namespace::new("localhost", Some(&emulator.endpoint()), Credential::None).unwrap();
    Arc::new(namespace.source(hub, group, TIMEOUTS))
}

conformance!(azure_sdk, super::sdk);
