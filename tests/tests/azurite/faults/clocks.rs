//! Clocks that disagree.

use weir_tests::fault_proxy::{Effect, Rule};

use super::{Witness, World, proxy, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_five_minutes_off_move_no_ownership() {
    let world = World::new(4).await;
    let (early, late) = (&world.proxy, proxy().await);
    // To one host the service's clock is five minutes late, to the other early: theirs are, as seen from the service.
    let whole = [early.add(Rule::all(Effect::ShiftClock(-300))), late.add(Rule::all(Effect::ShiftClock(300)))];
    let (guest, other) = (&world.guest, Witness::default());
    let hosts = [world.join("early", early, guest), world.join("late", &late, &other)];
    let share = |n: usize| hosts[n].processor().fleet.map_or(0, |f| f.held);
    until("two share", || (share(0), share(1)) == (2, 2)).await;
    let settled = world.generations().await;
    let renewals = |proxy: &weir_tests::fault_proxy::FaultProxy| {
        proxy.exchanges().iter().filter(|e| e.path.contains("/ownership/") && e.status == Some(201)).count()
    };
    // Each of the two partitions is renewed every third of the expiry: two expiries.
    let two_expiries = async || {
        let before = (renewals(early), renewals(&late));
        until("time has passed", || renewals(early) >= before.0 + 12 && renewals(&late) >= before.1 + 12).await;
    };
    two_expiries().await;
    assert_eq!(world.generations().await, settled);
    // And a front end whose `Date` is not the clock that blobs are stamped with.
    whole.iter().zip([early, &late]).for_each(|(rule, proxy)| proxy.lift(*rule));
    let front = [early.add(Rule::all(Effect::ShiftDate(-300))), late.add(Rule::all(Effect::ShiftDate(300)))];
    two_expiries().await;
    assert_eq!(world.generations().await, settled, "nobody took anything from anybody");
    assert!(early.hits(whole[0]) > 0 && late.hits(whole[1]) > 0 && early.hits(front[0]) > 0 && late.hits(front[1]) > 0);
    for host in hosts {
        assert!(host.stop().await.is_success());
    }
}
