//! What the person sees: bars on a terminal, plain lines elsewhere, a table at the end.

use std::time::{Duration, Instant};

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// How often a line is printed where there is no terminal.
const EVERY: Duration = Duration::from_secs(2);

/// Progress towards a known number of events.
pub(crate) struct Progress {
    bar: ProgressBar,
    what: &'static str,
    plain: bool,
    printed: Instant,
}

impl Progress {
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        let plain = !std::io::stderr().is_terminal();
        let target = if plain { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template = "{msg:10} {bar:40} {human_pos:>8} of {human_len} events  {per_sec}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what);
        Self { bar, what, plain, printed: Instant::now() }
    }

    pub(crate) fn to(&mut self, events: u64) {
        self.bar.set_position(events);
        if self.plain && self.printed.elapsed() >= EVERY {
            self.printed = Instant::now();
            self.line();
        }
    }

    fn line(&self) {
        let (position, length) = (self.bar.position(), self.bar.length().unwrap_or(0));
        println!("{}: {} of {} events", self.what, grouped(position), grouped(length));
    }

    pub(crate) fn finish(self) {
        if self.plain {
            self.line();
        }
        self.bar.finish();
    }
}

/// A table whose columns from the second on are numbers.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// `50000` as `50,000`.
pub(crate) fn grouped(number: impl TryInto<i64>) -> String {
    let number: i64 = number.try_into().unwrap_or(i64::MAX);
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!([0_i64, 999, 1_000, 1_234_567, -1_000].map(grouped), ["0", "999", "1,000", "1,234,567", "-1,000"]);
    }
}
