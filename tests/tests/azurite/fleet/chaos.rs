//! Everything that may happen to hosts, in random order, while events keep coming.
//!
//! `WEIR_CHAOS_SECONDS` makes it longer, `WEIR_CHAOS_SEED` repeats the dice of a run (the timing of the processes is their own). A
//! failure prints both, and the story so far.

use std::env;
use std::fmt::Display;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::stage;

const EXPIRY: Duration = Duration::from_secs(4);
const SECONDS: u64 = 40;
const SEED: u64 = 0x5eed_2013;
const OWNERS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// The story so far; told when the test panics.
struct Story {
    seed: u64,
    seconds: u64,
    began: Instant,
    steps: Vec<String>,
}

impl Story {
    fn step(&mut self, what: impl Display) {
        self.steps.push(format!("{:>6.1} s  {what}", self.began.elapsed().as_secs_f64()));
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the story so far:\n{}", self.steps.join("\n"));
            let (seed, seconds) = (self.seed, self.seconds);
            println!("again: WEIR_CHAOS_SEED={seed} WEIR_CHAOS_SECONDS={seconds} cargo xtask test --clients blobs");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_nothing_is_lost_and_no_checkpoint_goes_back() {
    let (seed, seconds) = (given("WEIR_CHAOS_SEED", SEED), given("WEIR_CHAOS_SECONDS", SECONDS));
    let mut story = Story { seed, seconds, began: Instant::now(), steps: Vec::new() };
    let mut random = StdRng::seed_from_u64(seed);
    let mut stage = stage(EXPIRY).await;
    let fleet = &mut stage.fleet;
    for owner in ["a", "b", "c"] {
        fleet.start(owner);
    }
    fleet.shared_by(&["a", "b", "c"]).await;
    story.began = Instant::now();
    while story.began.elapsed() < Duration::from_secs(seconds) {
        let (running, suspended) = (fleet.running(), fleet.suspended());
        let absent: Vec<_> = OWNERS.iter().filter(|o| !running.iter().chain(&suspended).any(|r| r == *o)).collect();
        match random.random_range(0..6) {
            0 if running.len() > 1 => {
                let owner = running.choose(&mut random).unwrap();
                story.step(format!("kill {owner}"));
                fleet.kill(owner);
            }
            1 if running.len() > 1 && suspended.is_empty() => {
                let owner = running.choose(&mut random).unwrap();
                story.step(format!("suspend {owner}"));
                fleet.suspend(owner);
            }
            2 if !suspended.is_empty() => {
                story.step(format!("resume {}", suspended[0]));
                fleet.resume(&suspended[0]);
            }
            3 if running.len() > 1 => {
                let owner = running.choose(&mut random).unwrap();
                story.step(format!("stop {owner}"));
                fleet.stop(owner).await;
            }
            4 => {
                let owner = running.choose(&mut random).unwrap();
                story.step(format!("restart {owner}"));
                fleet.stop(owner).await;
                fleet.start(owner);
            }
            5 => {
                let count = random.random_range(1..=absent.len().max(1));
                for owner in absent.iter().take(count) {
                    story.step(format!("start {owner}"));
                    fleet.start(owner);
                }
            }
            _ => continue,
        }
        if random.random_bool(0.4) {
            story.step("wait until everything has come out");
            fleet.catches_up().await;
        } else {
            // Part of the dice: what comes next falls anywhere into what the last step set going, up to past the expiry.
            let pause = EXPIRY.mul_f64(random.random_range(0.0..1.6));
            story.step(format!("{pause:.1?} pass"));
            tokio::time::sleep(pause).await;
        }
    }
    story.step("end");
    println!("{} steps, seed {seed}", story.steps.len());
    stage.fleet.end().await;
}

/// A number from the environment.
fn given<T: FromStr<Err: Display>>(name: &str, otherwise: T) -> T {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text} is no number: {error}")),
        Err(_) => otherwise,
    }
}
