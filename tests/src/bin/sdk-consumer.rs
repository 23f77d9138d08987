//! The bare consumer of the benchmark `pipeline` as a process: reads everything once for each line of its input, and says what that took, in
//! nanoseconds of CPU time and on the clock.

use std::io::{self, BufRead as _};

use weir_tests::consumer::{consume, measure, runtime};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, hub, partitions, events] = arguments.as_slice() else {
        panic!("usage: sdk-consumer ENDPOINT HUB PARTITIONS EVENTS");
    };
    let partitions = partitions.parse().unwrap_or_else(|_| panic!("`{partitions}` is no number of partitions"));
    let events = events.parse().unwrap_or_else(|_| panic!("`{events}` is no number of events"));
    let runtime = runtime("consumer");
    for _ in io::stdin().lock().lines().map_while(Result::ok) {
        let (cpu, clock) = measure(|| runtime.block_on(consume(endpoint, hub, partitions, events)));
        println!("{} {}", cpu.as_nanos(), clock.as_nanos());
    }
}
