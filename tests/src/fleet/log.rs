//! Reads the steps of tenancies out of a host's log.

use serde_json::Value;

use super::history::{Step, Told};
use super::number;

/// What the steps are logged under.
pub(super) const TARGET: &str = "weir::history";

/// All steps in these lines.
pub(super) fn all(life: &str, lines: &[String]) -> Vec<Told> {
    lines.iter().filter_map(|line| told(life, line)).collect()
}

/// The step in a line, if it has one. A killed process may leave half a line.
pub(super) fn told(life: &str, line: &str) -> Option<Told> {
    if !line.contains(TARGET) {
        return None;
    }
    let line: Value = serde_json::from_str(line).ok()?;
    if line["target"] != TARGET {
        return None;
    }
    let number_of = |key: &str| line[key].as_i64().unwrap_or_else(|| panic!("no {key} in {line}"));
    let step = match line["message"].as_str()? {
        "began" => Step::Began(line["checkpoint"].as_i64().unwrap_or(-1)),
        "acknowledged" => Step::Acknowledged(number_of("from"), number_of("to")),
        "accepted" => Step::Accepted(number_of("to")),
        "committed" => Step::Committed(number_of("to")),
        "ended" if line["how"] == "drained" => Step::Drained,
        "ended" => Step::Broken,
        other => panic!("a step of a tenancy that nobody knows: {other}"),
    };
    let tenancy = &line["span"];
    let partition = number(tenancy["partition"].as_str()?);
    Some(Told { host: life.to_owned(), partition, generation: tenancy["generation"].as_u64()?, step })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_and_other_lines_passed_over() {
        let line = |message: &str| {
            format!(
                r#"{{"level":"DEBUG",{message},"target":"weir::history","span":{{"generation":3,"partition":"2","name":"tenancy"}}}}"#
            )
        };
        let step = |message: &str| told("a#1", &line(message)).map(|told| (told.partition, told.generation, told.step));
        assert_eq!(step(r#""message":"began""#), Some((2, 3, Step::Began(-1))));
        let range = r#""message":"acknowledged","from":4,"to":9"#;
        assert_eq!(step(range), Some((2, 3, Step::Acknowledged(4, 9))));
        assert_eq!(step(r#""message":"ended","how":"lost""#), Some((2, 3, Step::Broken)));
        assert_eq!(told("a#1", r#"{"message":"began","target":"weir"}"#), None);
        assert_eq!(told("a#1", &line(r#""message":"began""#)[..60]), None, "cut off by a kill");
    }
}
