//! GPU clocks before and after a measurement, with a note if they fell or were throttled.

use crate::error::Result;
use crate::executor::{Clocks, Gauge};
use serde::Serialize;
use std::fmt;

/// A clock that drops by more than this share of its value before the run counts as fallen.
const FALL: f64 = 0.05;

/// Two readings, each taken during a step; the schema of `clocks` in `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Readings {
    /// Read before the timed steps.
    pub before: Clocks,
    /// Read after the timed steps.
    pub after: Clocks,
    /// Set if clocks fell or were throttled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Readings {
    /// Pairs two readings and writes the note if one is needed.
    pub fn new(before: Clocks, after: Clocks) -> Readings {
        let note = note(&before, &after);
        Readings { before, after, note }
    }
}

/// Reads the gauge, if there is one, while `step` keeps the device busy.
pub(super) fn reading(
    gauge: Option<&Gauge>,
    step: impl FnOnce(&mut dyn FnMut()) -> Result<()>,
) -> Result<Option<Clocks>> {
    let Some(gauge) = gauge else { return Ok(None) };
    let mut said = None;
    step(&mut || said = gauge.read())?;
    Ok(said)
}

fn note(before: &Clocks, after: &Clocks) -> Option<String> {
    let fall = |name: &str, before: Option<u32>, after: Option<u32>| {
        let (before, after) = (f64::from(before?), f64::from(after?));
        let fallen = after < (1.0 - FALL) * before;
        fallen.then(|| format!("the {name} clock fell by {:.0} % during the run", 100.0 * (1.0 - after / before)))
    };
    let mut reasons: Vec<&str> = Vec::new();
    for reason in [before, after].into_iter().filter_map(|c| c.throttle_reasons.as_ref()).flatten() {
        if !reasons.contains(reason) {
            reasons.push(reason);
        }
    }
    let held = (!reasons.is_empty()).then(|| format!("clocks were throttled by: {}", reasons.join(", ")));
    let falls = [fall("SM", before.sm_mhz, after.sm_mhz), fall("memory", before.memory_mhz, after.memory_mhz), held];
    let said: Vec<String> = falls.into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// One line, and a second one if there is a note.
impl fmt::Display for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Readings { before, after, note } = self;
        let number = |value: Option<f64>| value.map_or("?".to_owned(), |v| format!("{v:.0}"));
        let pair = |name: &str, before: Option<f64>, after: Option<f64>, unit: &str| {
            format!("{name}{} → {} {unit}", number(before), number(after))
        };
        let whole = |value: Option<u32>| value.map(f64::from);
        write!(
            f,
            "clocks before → after: {}, {}, {}, {}",
            pair("SM ", whole(before.sm_mhz), whole(after.sm_mhz), "MHz"),
            pair("memory ", whole(before.memory_mhz), whole(after.memory_mhz), "MHz"),
            pair("", whole(before.temperature_celsius), whole(after.temperature_celsius), "°C"),
            pair("", before.power_watts, after.power_watts, "W")
        )?;
        match note {
            Some(note) => write!(f, "\nnote: {note}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(sm: u32, memory: u32, reasons: &[&'static str]) -> Clocks {
        Clocks {
            sm_mhz: Some(sm),
            memory_mhz: Some(memory),
            temperature_celsius: Some(40),
            power_watts: Some(312.4),
            throttle_reasons: Some(reasons.to_vec()),
        }
    }

    fn said(before: Clocks, after: Clocks) -> String {
        Readings::new(before, after).note.unwrap_or_default()
    }

    #[test]
    fn steady_or_rising_clocks_give_no_note() {
        let before = clocks(2000, 3000, &[]);
        // Exactly 5 % is not more than 5 %.
        for (sm, memory) in [(2000, 3000), (1900, 2850), (2500, 3500)] {
            assert_eq!(said(before.clone(), clocks(sm, memory, &[])), "");
        }
        // A clock that the card does not report does not count as fallen.
        assert_eq!(said(before, Clocks::default()), "");
        assert_eq!(said(Clocks::default(), clocks(100, 100, &[])), "");
    }

    #[test]
    fn each_clock_that_fell_is_named_with_how_far() {
        let before = clocks(2000, 3000, &[]);
        assert_eq!(said(before.clone(), clocks(1899, 3000, &[])), "the SM clock fell by 5 % during the run");
        assert_eq!(said(before.clone(), clocks(2000, 1500, &[])), "the memory clock fell by 50 % during the run");
        let both = said(before, clocks(1000, 1500, &["software power cap"]));
        assert!(
            both.contains("SM") && both.contains("memory") && both.ends_with("throttled by: software power cap"),
            "{both}"
        );
    }

    #[test]
    fn a_reason_is_named_once_whenever_it_held() {
        let (thermal, power) = ("hardware thermal slowdown", "software power cap");
        let held = "clocks were throttled by: ";
        assert_eq!(said(clocks(9, 9, &[power]), clocks(9, 9, &[])), format!("{held}{power}"));
        assert_eq!(said(clocks(9, 9, &[]), clocks(9, 9, &[thermal])), format!("{held}{thermal}"));
        let twice = said(clocks(9, 9, &[power]), clocks(9, 9, &[thermal, power]));
        assert_eq!(twice, format!("{held}{power}, {thermal}"));
    }

    #[test]
    fn the_line_has_both_readings_and_the_json_omits_unknown_values() {
        let line = Readings::new(clocks(2000, 3000, &[]), clocks(1000, 3000, &[])).to_string();
        assert!(line.starts_with(
            "clocks before → after: SM 2000 → 1000 MHz, memory 3000 → 3000 MHz, 40 → 40 °C, 312 → 312 W\nnote: "
        ));
        let quiet = Readings::new(Clocks::default(), clocks(1, 2, &[]));
        assert!(quiet.to_string().contains("SM ? → 1 MHz") && !quiet.to_string().contains("note"));
        let json = serde_json::to_value(&quiet).unwrap();
        assert_eq!(json["before"], serde_json::json!({}));
        assert_eq!(json["after"]["sm_mhz"], 1);
        assert!(json.get("note").is_none());
    }
}
