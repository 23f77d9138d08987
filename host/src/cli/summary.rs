//! The table at the end of a run: every partition, what went through it, where it stands.

use comfy_table::{CellAlignment, Table, presets};

use super::say;
use crate::status::{BudgetSnapshot, HostSnapshot, PartitionSnapshot, ProcessorSnapshot, State, StoreCalls};
use crate::wasm::{Metrics, Snapshot};

const COLUMNS: [&str; 9] =
    ["processor", "partition", "received", "acknowledged", "rejected", "out", "checkpoint", "lag", "state"];

/// Prints the figures to standard error: a table for people, one object for machines.
pub(crate) fn show(snapshot: &HostSnapshot, json: bool) {
    if json {
        let figures = serde_json::to_string(&snapshot.processors).unwrap_or_default();
        let storage = serde_json::to_string(&snapshot.storage_calls_per_minute).unwrap_or_default();
        let budget = snapshot.checkpoint_budget.as_ref().and_then(|budget| serde_json::to_string(budget).ok());
        tracing::info!(processors = figures, storage_calls_per_minute = storage, checkpoint_budget = budget, "summary");
    } else {
        say(table(snapshot));
    }
}

/// Prints what modules measured, a series a line, for processors by name.
pub(crate) fn measured(processors: &[(String, Metrics)], json: bool) {
    /// Lines of one processor in a table; machines get all.
    const LINES: usize = 40;
    for (processor, metrics) in processors {
        let Snapshot { series, refused } = metrics.snapshot();
        let count = series.len();
        let shown = if json { count } else { LINES };
        for series in series.iter().take(shown) {
            match json {
                true => tracing::info!(processor, series = %series, "measured by the module"),
                false => say(format_args!("{processor} measured {series}")),
            }
        }
        if count > shown {
            say(format_args!("{processor} measured {} more series; `--log-format json` shows all", count - shown));
        }
        if refused > 0 {
            tracing::warn!(
                processor,
                refused,
                "measurements of the module were refused (`limits.metric-series`, names, labels)"
            );
        }
    }
}

/// A table without lines: it is read in logs, too.
pub(crate) fn plain<const N: usize>(columns: [&str; N], numbers: std::ops::Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(columns);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if numbers.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Its lines, without the padding at their ends.
pub(crate) fn text(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn table(snapshot: &HostSnapshot) -> String {
    let mut table = plain(COLUMNS, 1..8);
    for processor in &snapshot.processors {
        for partition in &processor.partitions {
            table.add_row(row(&processor.name, partition));
        }
        if let Some(fleet) = &processor.fleet {
            let hosts = fleet.hosts;
            // What it had is released by now; the rows above say what became of it.
            let place = match (hosts, fleet.standby) {
                (1, _) => "the only host of its fleet".to_owned(),
                (_, true) => format!("stood by in a fleet of {hosts}"),
                (_, false) => {
                    format!("one of {hosts} hosts; its share: {} of {}", fleet.quota, processor.partitions.len())
                }
            };
            table.add_row([&*processor.name, "-", "-", "-", "-", "-", "-", "-", &place]);
        }
        if let Some(problem) = &processor.problem {
            table.add_row([&*processor.name, "-", "-", "-", "-", "-", "-", "-", &short(problem)]);
        }
    }
    std::iter::once(text(&table))
        .chain(snapshot.processors.iter().map(account))
        .chain(storage(snapshot))
        .collect::<Vec<_>>()
        .join("\n")
}

/// What became of every event that a processor received; the sum closes.
fn account(processor: &ProcessorSnapshot) -> String {
    let sum = |figure: fn(&PartitionSnapshot) -> u64| processor.partitions.iter().map(figure).sum::<u64>();
    let mut account = format!(
        "{}: {} received = {} acknowledged + {} rejected + {} poisoned + {} dropped + {} given back + {} in flight",
        processor.name,
        sum(|p| p.received),
        sum(|p| p.acknowledged),
        sum(|p| p.rejected),
        sum(|p| p.poisoned),
        sum(|p| p.dropped),
        sum(|p| p.given_back),
        sum(|p| p.in_flight),
    );
    if let Some(wrong) = processor.partitions.iter().find(|partition| !partition.is_balanced()) {
        account.push_str(&format!(" (partition {} does NOT add up: please report this)", wrong.partition));
    }
    account
}

/// What the host asked of its checkpoint stores, where that is paid for or limited.
fn storage(snapshot: &HostSnapshot) -> Vec<String> {
    let mut lines = vec![];
    if snapshot.processors.iter().any(|processor| processor.fleet.is_some()) {
        let StoreCalls { lists, announcements, ownerships, reads, commits } = snapshot.storage_calls_per_minute;
        lines.push(format!(
            "storage calls in the last minute: {} ({lists} lists, {announcements} announcements, {ownerships} of ownership, {reads} \
             checkpoints read, {commits} written)",
            snapshot.storage_calls_per_minute.total()
        ));
    }
    if let Some(budget) = snapshot.checkpoint_budget.as_ref().filter(|budget| budget.delayed > 0) {
        let BudgetSnapshot { writes_per_minute, delayed, .. } = budget;
        lines.push(format!(
            "{delayed} checkpoints waited for their turn: this host may write {writes_per_minute} a minute"
        ));
    }
    lines
}

fn row(processor: &str, partition: &PartitionSnapshot) -> [String; 9] {
    let number = |number: Option<u64>| number.map_or("-".into(), |number| number.to_string());
    let state = match &partition.state {
        State::Claiming => "claiming".into(),
        State::Running => "running".into(),
        State::Retrying(why) => format!("retrying: {}", short(why)),
        State::Draining => "draining".into(),
        State::CaughtUp => "caught up".into(),
        State::Released => "released".into(),
        State::Elsewhere => "elsewhere".into(),
        State::Failed(why) => format!("FAILED: {}", short(why)),
    };
    let notes = [
        (partition.held, "held by the guest"),
        (partition.missing, "MISSING in the hub"),
        (partition.poisoned, "poisoned, in the dead letters"),
        (partition.dropped, "DROPPED"),
    ];
    let state = notes.into_iter().filter(|(n, _)| *n > 0).fold(state, |all, (n, note)| format!("{all}; {n} {note}"));
    // Others have moved it on since.
    let ours = !matches!(partition.state, State::Elsewhere);
    [
        processor.to_owned(),
        partition.partition.clone(),
        partition.received.to_string(),
        partition.acknowledged.to_string(),
        partition.rejected.to_string(),
        partition.emitted.to_string(),
        partition.checkpoint.filter(|_| ours).map_or("-".into(), |checkpoint| checkpoint.to_string()),
        number(partition.lag().filter(|_| ours)),
        state,
    ]
}

/// The first line, cut: the whole text stands below the table.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
