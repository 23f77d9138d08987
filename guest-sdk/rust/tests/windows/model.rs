//! What windows promise, written as plainly as can be.

use std::collections::BTreeMap;

use super::probe::{Input, Kind, Seen, Shape};

struct Open {
    start: i64,
    end: i64,
    key: String,
    ids: Vec<u32>,
    early: u32,
    shown: usize,
}

impl Open {
    fn seen(&self, early: u32) -> Seen {
        let mut ids = self.ids.clone();
        ids.sort_unstable();
        Seen::Window { start: self.start, end: self.end, key: self.key.clone(), early, ids }
    }
}

/// One pass over the events, each window in a list. Early results of one moment are in no particular order.
pub(crate) fn one_by_one(shape: &Shape, inputs: &[Input]) -> Vec<Seen> {
    let mut open: Vec<Open> = Vec::new();
    let mut seen = Vec::new();
    let mut greatest: Option<i64> = None;
    for input in inputs {
        let watermark = |greatest: i64| greatest - shape.out_of_orderness as i64;
        let before = greatest.map(watermark);
        let now = watermark(greatest.map_or(input.time, |greatest| greatest.max(input.time)));
        greatest = greatest.max(Some(input.time));
        let closed = now - shape.lateness as i64;

        let (mut over, rest): (Vec<Open>, Vec<Open>) = open.into_iter().partition(|open| open.end <= closed);
        over.sort_by(|a, b| (a.end, &a.key).cmp(&(b.end, &b.key)));
        seen.extend(over.iter().map(|open| open.seen(0)));
        open = rest;

        if let (Some(every), Some(before)) = (shape.early_every, before)
            && before.div_euclid(every as i64) != now.div_euclid(every as i64)
        {
            for open in open.iter_mut().filter(|open| open.shown < open.ids.len()) {
                show(open, &mut seen);
            }
        }

        let mut took = false;
        for (start, end) in assigned(shape, input.time) {
            let joins = |open: &Open| {
                open.key == input.key
                    && match shape.kind {
                        Kind::Fixed { .. } => open.start == start,
                        Kind::Session { .. } => open.start < end && start < open.end,
                    }
            };
            let (joined, rest): (Vec<Open>, Vec<Open>) = open.into_iter().partition(joins);
            open = rest;
            if joined.is_empty() && end <= closed {
                continue;
            }
            took = true;
            let mut window = Open { start, end, key: input.key.clone(), ids: vec![input.id], early: 0, shown: 0 };
            for other in joined {
                window.start = window.start.min(other.start);
                window.end = window.end.max(other.end);
                window.ids.extend(other.ids);
                window.early += other.early;
                window.shown += other.shown;
            }
            if shape.early_events.is_some_and(|every| (window.ids.len() - window.shown) as u64 >= every) {
                show(&mut window, &mut seen);
            }
            open.push(window);
        }
        if !took {
            seen.push(Seen::Late(input.id));
        }
    }
    seen
}

fn show(open: &mut Open, seen: &mut Vec<Seen>) {
    open.early += 1;
    open.shown = open.ids.len();
    seen.push(open.seen(open.early));
}

/// The windows that cover a time, by trying all starts around it.
fn assigned(shape: &Shape, time: i64) -> Vec<(i64, i64)> {
    match shape.kind {
        Kind::Session { gap } => vec![(time, time + gap as i64)],
        Kind::Fixed { size, hop, offset } => (time - size as i64 + 1..=time)
            .filter(|start| (start - offset as i64) % hop as i64 == 0)
            .map(|start| (start, start + size as i64))
            .collect(),
    }
}

/// All final results, by someone who knows all events and pays no heed to their order.
pub(crate) fn all_at_once(shape: &Shape, inputs: &[Input]) -> Vec<Seen> {
    let mut sorted = inputs.to_vec();
    sorted.sort_by_key(|input| input.time);
    let mut windows: BTreeMap<(i64, i64, String), Vec<u32>> = BTreeMap::new();
    match shape.kind {
        Kind::Fixed { .. } => {
            for input in &sorted {
                for (start, end) in assigned(shape, input.time) {
                    windows.entry((start, end, input.key.clone())).or_default().push(input.id);
                }
            }
        }
        Kind::Session { gap } => {
            let mut last: BTreeMap<String, (i64, i64, Vec<u32>)> = BTreeMap::new();
            for Input { id, time, key, .. } in &sorted {
                let end = time + gap as i64;
                match last.get_mut(key) {
                    Some(session) if *time < session.1 => {
                        session.1 = end;
                        session.2.push(*id);
                    }
                    _ => {
                        if let Some((start, end, ids)) = last.insert(key.clone(), (*time, end, vec![*id])) {
                            windows.insert((start, end, key.clone()), ids);
                        }
                    }
                }
            }
            windows.extend(last.into_iter().map(|(key, (start, end, ids))| ((start, end, key), ids)));
        }
    }
    let seen = windows.into_iter().map(|((start, end, key), mut ids)| {
        ids.sort_unstable();
        Seen::Window { start, end, key, early: 0, ids }
    });
    seen.collect()
}
