//! Fleets of real processes: named stories, and their parts in random order.

mod chaos;
mod stories;

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use weir_tests::fleet::Fleet;

/// A story and its place on the machine.
struct Stage {
    fleet: Fleet,
    _place: SemaphorePermit<'static>,
}

/// Begins a story as soon as there is room: more hosts than processors say more about the machine than about the fleet.
async fn stage(expiry: Duration) -> Stage {
    static PLACES: Semaphore = Semaphore::const_new(2);
    let place = PLACES.acquire().await.unwrap();
    Stage { fleet: Fleet::begin(&crate::account(), expiry).await, _place: place }
}
