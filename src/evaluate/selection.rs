//! Restricts a model's predictions to some of its tasks, and its boxes to some classes.

use crate::error::{Error, Result};
use crate::model::Card;
use crate::reading::{did_you_mean, list_some};
use crate::tasks::{HeadOutput, Task};

/// A message lists at most this many names.
const MOST_NAMES: usize = 50;

/// The tasks and the classes of boxes that the user asked for. Each word is one name, or several with commas.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names of tasks; all if empty.
    pub tasks: Vec<String>,
    /// Names of classes of boxes, or their numbers from 0; all if empty.
    pub classes: Vec<String>,
}

/// A card with the selected tasks and classes only.
#[derive(Debug)]
pub struct Selected {
    /// The card; its tasks have the order of the model's.
    pub card: Card,
    /// The names of the selected classes of boxes; empty without a selection.
    pub classes: Vec<String>,
    /// The places of these tasks among the model's.
    places: Vec<usize>,
}

impl Selection {
    /// Selects from a model's card.
    ///
    /// # Errors
    /// A name is not known, or classes of boxes are selected and no task finds boxes.
    pub fn of(&self, model: &Card) -> Result<Selected> {
        let all = &model.architecture.tasks;
        let names: Vec<&str> = all.iter().map(|task| task.name.as_str()).collect();
        let asked = pick("--tasks", "task", &self.tasks, &names, Numbers::None)?;
        let places: Vec<usize> = (0..all.len()).filter(|place| asked.is_empty() || asked.contains(place)).collect();
        let mut card = model.clone();
        card.architecture.tasks = places.iter().map(|&place| all[place].clone()).collect();
        card.standardisation = places.iter().map(|&place| model.standardisation[place].clone()).collect();
        if !model.intervals.is_empty() {
            card.intervals = places.iter().map(|&place| model.intervals_of(place).to_vec()).collect();
        }
        let classes = self.select_classes(&mut card)?;
        Ok(Selected { card, classes, places })
    }

    fn select_classes(&self, card: &mut Card) -> Result<Vec<String>> {
        if self.classes.is_empty() {
            return Ok(Vec::new());
        }
        let tasks = &mut card.architecture.tasks;
        let mut known: Vec<String> = Vec::new();
        let mut detections = 0;
        for task in tasks.iter().filter(|task| task.spec.finds_boxes()) {
            detections += 1;
            let new: Vec<String> = task.classes().iter().filter(|class| !known.contains(class)).cloned().collect();
            known.extend(new);
        }
        if detections == 0 {
            let names: Vec<String> = tasks.iter().map(Task::described).collect();
            return Err(Error::Usage(format!(
                "--only-classes selects boxes, and {} finds none: leave it out",
                names.join(", ")
            )));
        }
        let numbers = if detections == 1 { Numbers::Places } else { Numbers::Ambiguous };
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        let places = pick("--only-classes", "class of boxes", &self.classes, &names, numbers)?;
        let chosen: Vec<String> = places.iter().map(|&place| known[place].clone()).collect();
        for task in tasks {
            if let Some(spec) = task.spec.with_boxes_of(&chosen) {
                task.spec = spec;
            }
        }
        Ok(chosen)
    }
}

impl Selected {
    /// The selected tasks' outputs among those of all tasks.
    pub fn outputs(&self, all: Vec<HeadOutput>) -> Vec<HeadOutput> {
        match self.places.len() == all.len() {
            true => all,
            false => self.places.iter().map(|&place| all[place].clone()).collect(),
        }
    }
}

/// The meaning of a number that is not a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbers {
    None,
    /// The place among the names, from 0.
    Places,
    /// It could mean a place in one of several lists.
    Ambiguous,
}

/// The places of the named items, in ascending order. A word that is no name is split at its commas.
fn pick(flag: &str, what: &str, words: &[String], known: &[&str], numbers: Numbers) -> Result<Vec<usize>> {
    let mut places = Vec::new();
    for word in words {
        let parts: Vec<&str> = match known.contains(&word.as_str()) {
            true => vec![word.as_str()],
            false => word.split(',').map(str::trim).collect(),
        };
        for name in parts {
            let number = || name.parse::<usize>().ok();
            let place = match known.iter().position(|known| *known == name) {
                Some(place) => place,
                None if numbers == Numbers::Ambiguous && number().is_some() => {
                    return Err(Error::Usage(format!(
                        "{flag} {name}: the model has several detection tasks, which number their classes separately: give names, or one \
                         of the tasks to --tasks"
                    )));
                }
                None => {
                    number().filter(|&place| numbers == Numbers::Places && place < known.len()).ok_or_else(|| {
                        let all = list_some(known, MOST_NAMES);
                        let hint = match (numbers, number()) {
                            (Numbers::Places, Some(_)) => format!(", with the numbers 0 to {}", known.len() - 1),
                            _ => did_you_mean(name, known.iter().copied()),
                        };
                        Error::Usage(format!("{flag} {name}: the model has no {what} of this name; it has {all}{hint}"))
                    })?
                }
            };
            places.push(place);
        }
    }
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Architecture, Backbone};
    use crate::tasks::classify::Classify;
    use crate::tasks::detect::Detect;

    fn card() -> Card {
        let names = |words: &str| words.split(' ').map(String::from).collect::<Vec<_>>();
        let tasks = vec![
            Task::new("kind", Classify::new(names("day night"))),
            Task::new("things", Detect::new(vec!["car".into(), "van, bus".into(), "bus".into()])),
            Task::new("digits", Detect::new(names("7 1 0"))),
        ];
        Card::new(Architecture::new(Backbone::Tiny, tasks, 64, 0.0), 64)
    }

    fn select(tasks: &[&str], classes: &[&str]) -> Result<Selected> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Selection { tasks: words(tasks), classes: words(classes) }.of(&card())
    }

    #[test]
    fn tasks_keep_the_models_order_and_their_outputs() {
        let selected = select(&["digits, kind"], &[]).unwrap();
        let names: Vec<&str> = selected.card.architecture.tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!((names, selected.card.standardisation.len()), (vec!["kind", "digits"], 2));
        let output = |value: f32| HeadOutput { values: vec![vec![value]], levels: Vec::new() };
        assert_eq!(selected.outputs(vec![output(0.0), output(1.0), output(2.0)]), [output(0.0), output(2.0)]);
        let whole = select(&[], &[]).unwrap();
        assert_eq!((whole.card, whole.classes), (card(), Vec::new()));
    }

    #[test]
    fn a_class_is_selected_by_its_name_and_otherwise_by_its_number() {
        let classes = |tasks: &[&str], classes: &[&str]| select(tasks, classes).unwrap().classes;
        assert_eq!(classes(&[], &["van, bus", "1"]), ["van, bus", "1"]);
        assert_eq!(classes(&["things"], &["2,0"]), ["car", "bus"]);
        // The class called 1 has the number 1 as well; the class called 0 has the number 2.
        assert_eq!(classes(&["digits"], &["0,2,7"]), ["7", "0"]);
    }

    #[test]
    fn an_unknown_name_gives_the_known_ones() {
        let said = |tasks: &[&str], classes: &[&str]| select(tasks, classes).unwrap_err().to_string();
        assert_eq!(
            said(&["kind,digit"], &[]),
            "--tasks digit: the model has no task of this name; it has kind, things, digits; did you mean `digits`?"
        );
        assert_eq!(
            said(&["things"], &["buss"]),
            "--only-classes buss: the model has no class of boxes of this name; it has car, van, bus, bus; did you mean `bus`?"
        );
        assert_eq!(
            said(&["digits"], &["3"]),
            "--only-classes 3: the model has no class of boxes of this name; it has 7, 1, 0, with the numbers 0 to 2"
        );
        assert!(
            said(&[], &["2"]).contains("number their classes separately: give names, or one of the tasks to --tasks")
        );
        assert!(said(&["kind"], &["day"]).ends_with("and `kind` (classification) finds none: leave it out"));
        assert!(said(&["0"], &[]).contains("--tasks 0: the model has no task of this name"));
    }
}
