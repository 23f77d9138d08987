//! The stories, and what must come of them.

use std::collections::BTreeMap;

use super::rules::{Rule, Rules};
use super::weather::Mood;
use super::world::World;

/// Seeds that CI tries.
const SEEDS: u64 = 10_000;
/// Seeds in which the lack of a rule must show.
const UNTIL_CAUGHT: u64 = 20_000;

fn told(seed: u64, rules: Rules, tell: bool) -> World {
    told_as(seed, Mood::of(seed), rules, tell)
}

fn told_as(seed: u64, mood: Mood, rules: Rules, tell: bool) -> World {
    let mut world = World::new(seed, mood, rules, tell);
    world.run();
    world
}

/// Tells the story again, in words.
fn complain(seed: u64, mood: Mood, rules: Rules) -> ! {
    let world = told_as(seed, mood, rules, true);
    let story = world.story.unwrap_or_default().join("\n");
    let violation = world.violation.map(|(number, text)| format!("invariant {number}: {text}"));
    panic!(
        "{story}\n{}\nseed {seed}; again: WEIR_PROTOCOL_SEED={seed} cargo test --workspace --lib -- protocol::tests::replay \
         --nocapture",
        violation.unwrap_or_else(|| "it holds".into())
    );
}

/// From the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

/// Runs this for each seed, on all processors.
fn on_all_processors<T: Send>(seeds: u64, each: impl Fn(u64) -> Option<T> + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let each = &each;
    std::thread::scope(|scope| {
        let part =
            |t: u64| scope.spawn(move || (t..seeds).step_by(threads as usize).filter_map(each).collect::<Vec<T>>());
        let parts: Vec<_> = (0..threads).map(part).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    })
}

#[test]
fn a_seed_tells_one_story() {
    for seed in 0..64 {
        let (once, again) = (told(seed, Rules::ALL, true), told(seed, Rules::ALL, true));
        assert!(once.story.as_ref().is_some_and(|story| story.len() > 5), "seed {seed}");
        assert_eq!(once.story, again.story, "seed {seed}");
        let silent = told(seed, Rules::ALL, false);
        assert_eq!(
            (silent.now, silent.violation),
            (once.now, once.violation),
            "seed {seed}: listening changes nothing"
        );
    }
}

#[test]
fn every_story_holds() {
    let seeds = number("WEIR_PROTOCOL_SEEDS").unwrap_or(SEEDS);
    let failed = on_all_processors(seeds, |seed| told(seed, Rules::ALL, false).violation.map(|_| seed));
    if let Some(seed) = failed.iter().min() {
        complain(*seed, Mood::of(*seed), Rules::ALL);
    }
}

/// Tells one seed's story, if one is named.
#[test]
fn replay() {
    let Some(seed) = number("WEIR_PROTOCOL_SEED") else { return };
    let world = told(seed, Rules::ALL, true);
    for line in world.story.iter().flatten() {
        println!("{line}");
    }
    assert_eq!(world.violation, None);
}

/// The stories have what they are told for: moves, repeats, lost races.
#[test]
fn the_stories_are_worth_telling() {
    let mut moods: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for seed in 0..400 {
        let world = told(seed, Rules::ALL, false);
        let (tenancies, repeats) = moods.entry(format!("{:?}", Mood::of(seed))).or_default();
        *tenancies += world.stores.iter().map(|s| s.checkpoint.generation.unwrap_or_default() as usize).sum::<usize>();
        *repeats += world.histories.iter().map(|h| h.repeats()).sum::<usize>();
    }
    let of = |mood: Mood| moods.get(&format!("{mood:?}")).copied().unwrap_or_default();
    assert!(of(Mood::Calm).0 > 40, "{moods:?}");
    assert_eq!(of(Mood::Calm).1, 0, "{moods:?}");
    assert!(of(Mood::Death).0 > 40 && of(Mood::Death).1 > 0, "{moods:?}");
    for mood in [Mood::Storm, Mood::Wild] {
        assert!(of(mood).0 > 100 && of(mood).1 > 20, "{mood:?}: {moods:?}");
    }
}

/// Without these rules, this invariant must be seen to break.
#[track_caller]
fn is_caught(missing: &[Rule], invariants: &[u8], mood: Mood) {
    let rules = Rules::without(missing);
    for seed in 0..UNTIL_CAUGHT {
        if let Some((number, _)) = told_as(seed, mood, rules, false).violation
            && number != 0
        {
            eprintln!("without {missing:?}: invariant {number} breaks with seed {seed}");
            if !invariants.contains(&number) {
                complain(seed, mood, rules);
            }
            return;
        }
    }
    panic!("without {missing:?} nothing breaks in {UNTIL_CAUGHT} stories");
}

#[test]
fn without_conditions_on_checkpoints_they_go_back() {
    is_caught(&[Rule::CommitByCondition, Rule::Fence, Rule::Reconcile], &[1, 3], Mood::Wild);
}

#[test]
fn a_condition_alone_is_not_enough_if_conflicts_are_overwritten() {
    is_caught(&[Rule::Reconcile], &[1, 3, 5], Mood::Wild);
}

#[test]
fn without_acknowledgements_a_checkpoint_covers_too_much() {
    is_caught(&[Rule::AcknowledgedPrefix], &[2], Mood::Wild);
}

#[test]
fn state_and_position_apart_apply_an_event_twice() {
    is_caught(&[Rule::OneWrite, Rule::StateNumber], &[3, 5], Mood::Wild);
}

#[test]
fn memory_that_outlives_its_tenancy_applies_an_event_twice() {
    is_caught(&[Rule::Forget], &[3], Mood::Wild);
}

#[test]
fn a_link_that_begins_at_the_checkpoint_applies_an_event_twice() {
    is_caught(&[Rule::ResumeAfterLast], &[1, 3], Mood::Wild);
}

#[test]
fn outputs_after_the_commit_are_lost() {
    is_caught(&[Rule::OutputsFirst], &[4], Mood::Wild);
}

#[test]
fn a_foreign_checkpoint_under_a_state_skips_events() {
    is_caught(&[Rule::StateNumber], &[3], Mood::Foreign);
}

#[test]
fn a_release_without_a_drain_repeats_events() {
    is_caught(&[Rule::DrainFirst], &[6], Mood::Calm);
}

#[test]
fn the_dead_are_missed() {
    is_caught(&[Rule::TakeOver], &[7], Mood::Death);
}

#[test]
fn records_that_nobody_renews_are_taken_from_the_living_unless_their_signs_stand() {
    is_caught(&[Rule::SignsStand], &[6], Mood::Calm);
}

#[test]
fn a_generation_is_no_mark_to_know_a_commit_by() {
    is_caught(&[Rule::OwnMark], &[1, 3, 5], Mood::Deleted);
}

/// The story that showed it: the record is deleted before the first checkpoint, generations begin anew, and the old owner's late commit
/// stands where the new one's was to be.
#[test]
fn a_late_commit_of_an_equal_generation_is_not_taken_for_ones_own() {
    const SEED: u64 = 8402;
    let told = |rules| told_as(SEED, Mood::Deleted, rules, false).violation;
    assert_eq!(told(Rules::ALL), None);
    assert!(told(Rules::without(&[Rule::OwnMark])).is_some_and(|(number, _)| number != 0));
}

/// The others are for progress: safety doesn't hang on them, not even on all of them.
#[test]
fn the_rules_of_progress_carry_no_safety() {
    let progress = [
        Rule::ClaimByCondition,
        Rule::ReadAfterClaim,
        Rule::Fence,
        Rule::OwnerLevel,
        Rule::ReclaimStolen,
        Rule::NewerGeneration,
        Rule::GenerationAbove,
    ];
    let each = progress.iter().map(std::slice::from_ref).chain([&progress[..]]);
    for missing in each {
        let rules = Rules::without(missing);
        let mood = |seed: u64| if seed.is_multiple_of(4) { Mood::Deleted } else { Mood::Wild };
        let broken = |seed| told_as(seed, mood(seed), rules, false).violation.filter(|(number, _)| *number != 0);
        let broken = on_all_processors(600, |seed| broken(seed).map(|violation| (seed, violation)));
        assert_eq!(broken, [], "without {missing:?}");
    }
}

/// What they are for: an older tenancy never makes the rightful owner's commit fail.
#[test]
fn a_zombie_beats_the_owner_only_without_fence_and_generation() {
    let beaten = |missing: &[Rule]| {
        let rules = Rules::without(missing);
        let beaten = on_all_processors(1_500, |seed| Some(told_as(seed, Mood::Wild, rules, false).beaten));
        beaten.into_iter().sum::<usize>()
    };
    assert_eq!(beaten(&[]), 0);
    assert!(beaten(&[Rule::Fence]) > 0, "without the fence");
    assert!(beaten(&[Rule::NewerGeneration]) > 0, "without a look at the generation");
}
