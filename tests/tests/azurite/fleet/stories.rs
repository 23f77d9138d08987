//! What happens to hosts, one thing at a time. Whatever it is, the history must be sound ([`Fleet::end`]); planned moves repeat nothing.
//!
//! [`Fleet::end`]: weir_tests::fleet::Fleet::end

use std::time::Duration;

use super::{Stage, stage};

/// Where somebody has to be found dead.
const SHORT: Duration = Duration::from_secs(4);
/// Where nobody may be, whatever else the machine does.
const PATIENT: Duration = Duration::from_secs(9);

impl Stage {
    async fn start(&mut self, owners: &[&str]) {
        for owner in owners {
            self.fleet.start(owner);
        }
        self.fleet.shared_by(owners).await;
        self.fleet.catches_up().await;
    }

    async fn end_without_repeats(self) {
        let findings = self.fleet.end().await;
        assert_eq!((findings.repeats, findings.lost_unharmed), (0, 0), "planned moves repeat nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_partitions_of_a_killed_host_go_on_elsewhere() {
    let mut stage = stage(SHORT).await;
    stage.start(&["a", "b", "c"]).await;
    stage.fleet.kill("b");
    stage.fleet.shared_by(&["a", "c"]).await;
    stage.fleet.catches_up().await;
    stage.fleet.start("b");
    stage.fleet.shared_by(&["a", "b", "c"]).await;
    stage.fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_wakes_up_after_its_expiry_commits_nothing_any_more() {
    let mut stage = stage(SHORT).await;
    stage.start(&["a", "b", "c"]).await;
    let asleep = stage.fleet.tenancies("c");
    assert!(!asleep.is_empty());
    stage.fleet.suspend("c");
    stage.fleet.shared_by(&["a", "b"]).await;
    stage.fleet.catches_up().await;
    stage.fleet.resume("c");
    stage.fleet.forgets("c", &asleep).await;
    stage.fleet.shared_by(&["a", "b", "c"]).await;
    stage.fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_stopped_hands_over_without_repeats() {
    let mut stage = stage(PATIENT).await;
    stage.start(&["a", "b", "c"]).await;
    stage.fleet.stop("a").await;
    stage.fleet.shared_by(&["b", "c"]).await;
    stage.fleet.catches_up().await;
    stage.end_without_repeats().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_the_same_names_repeats_nothing() {
    let mut stage = stage(PATIENT).await;
    let all = ["a", "b", "c"];
    stage.start(&all).await;
    for owner in all {
        stage.fleet.stop(owner).await;
        stage.fleet.start(owner);
        stage.fleet.shared_by(&all).await;
    }
    stage.fleet.catches_up().await;
    stage.end_without_repeats().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_becomes_four_and_four_become_two_without_repeats() {
    let mut stage = stage(PATIENT).await;
    stage.start(&["a"]).await;
    for owner in ["b", "c", "d"] {
        stage.fleet.start(owner);
    }
    stage.fleet.shared_by(&["a", "b", "c", "d"]).await;
    stage.fleet.catches_up().await;
    for owner in ["a", "d"] {
        stage.fleet.stop(owner).await;
    }
    stage.fleet.shared_by(&["b", "c"]).await;
    stage.fleet.catches_up().await;
    stage.end_without_repeats().await;
}
