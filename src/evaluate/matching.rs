//! Matches the tasks of a data set to those of a model, and names what differs.

use crate::data::Dataset;
use crate::error::{Error, Result, shown};
use crate::model::Card;
use crate::reading::list_some;
use crate::tasks::Task;
use std::path::Path;

/// A message lists at most this many names of one kind.
const MOST_NAMES: usize = 5;

/// Reorders the labels of the data set to the tasks of the model, which it must have with the same classes or columns. Returns
/// notes on its other tasks.
///
/// # Errors
/// Tasks differ; the message names the differences.
pub fn match_tasks(card: &Card, dataset: &mut Dataset, model: &Path, data: &Path) -> Result<Vec<String>> {
    let tasks = &card.architecture.tasks;
    let place = |task: &Task| dataset.tasks.iter().position(|own| own.name == task.name && is_same(own, task));
    let places: Vec<Option<usize>> = tasks.iter().map(place).collect();
    let other = |task: &&Task| !tasks.iter().any(|own| own.name == task.name);
    let others: Vec<String> = dataset.tasks.iter().filter(other).map(Task::described).collect();
    let Some(places) = places.iter().copied().collect::<Option<Vec<usize>>>() else {
        return Err(Error::Usage(refusal(tasks, &dataset.tasks, &others, [model, data])));
    };
    for samples in [&mut dataset.train, &mut dataset.val, &mut dataset.test] {
        for sample in samples {
            sample.labels = places.iter().map(|&place| sample.labels[place].clone()).collect();
        }
    }
    dataset.tasks.clone_from(tasks);
    let note = || {
        format!(
            "tasks of the data set that the model does not have are not evaluated: {}",
            list_some(&others, MOST_NAMES)
        )
    };
    Ok(if others.is_empty() { Vec::new() } else { vec![note()] })
}

fn is_same(a: &Task, b: &Task) -> bool {
    a.spec.asks_the_same(&*b.spec)
}

fn refusal(tasks: &[Task], found: &[Task], others: &[String], [model, data]: [&Path; 2]) -> String {
    let mut differences: Vec<String> = Vec::new();
    let absent = |task: &&Task| !found.iter().any(|own| own.name == task.name);
    let absent: Vec<String> = tasks.iter().filter(absent).map(Task::described).collect();
    if !absent.is_empty() {
        differences.push(format!("only the model has {}", list_some(&absent, MOST_NAMES)));
    }
    if !others.is_empty() {
        differences.push(format!("only the data set has {}", list_some(others, MOST_NAMES)));
    }
    let mut same: Vec<&str> = Vec::new();
    for task in tasks {
        let Some(own) = found.iter().find(|own| own.name == task.name) else { continue };
        match is_same(task, own) {
            true => same.push(&task.name),
            false => differences.push(difference(task, own)),
        }
    }
    let advice = match same.is_empty() {
        true => {
            "expected a data set with the model's tasks, each with the same classes or columns in the same order".into()
        }
        false => format!("give another data set, or evaluate what is the same with --tasks {}", same.join(",")),
    };
    format!("{} does not fit the model {}: {}; {advice}", shown(data), shown(model), differences.join("; "))
}

/// The difference between a task of the model and the data set's task of the same name.
fn difference(task: &Task, found: &Task) -> String {
    let name = &task.name;
    if task.kind_word() != found.kind_word() {
        return format!("`{name}` is {} in the model and {} in the data set", task.kind_word(), found.kind_word());
    }
    let (noun, [own, other]) = match task.classes().is_empty() {
        true => ("columns", [task, found].map(|task| task.spec.columns().unwrap_or_default())),
        false => ("classes", [task, found].map(Task::classes)),
    };
    let missing = |from: &[String], all: &[String]| {
        let missing: Vec<String> = all.iter().filter(|one| !from.contains(one)).map(|one| format!("`{one}`")).collect();
        missing
    };
    let [only_model, only_data] = [missing(other, own), missing(own, other)];
    let sides = [(only_model, "model"), (only_data, "data set")];
    let sides = sides.iter().filter(|(names, _)| !names.is_empty());
    let sides: Vec<String> =
        sides.map(|(names, side)| format!("only the {side} has {}", list_some(names, MOST_NAMES))).collect();
    if !sides.is_empty() {
        return format!("of the {noun} of `{name}`, {}", sides.join(", and "));
    }
    match own.iter().zip(other).find(|(own, other)| own != other) {
        Some((own, other)) => format!(
            "the {noun} of `{name}` have another order: the first that differ are `{own}` in the model and `{other}` in the data set"
        ),
        None => format!("`{name}` has {} {noun} in the model and {} in the data set", own.len(), other.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::classify::Classify;
    use crate::tasks::detect::Detect;
    use crate::tasks::regress::Regress;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(String::from).collect()
    }

    #[test]
    fn the_differences_of_a_task_are_named() {
        let model = Task::new("o", Detect::new(words("car bus man")));
        let said = |classes: &str| difference(&model, &Task::new("o", Detect::new(words(classes))));
        assert_eq!(said("car man"), "of the classes of `o`, only the model has `bus`");
        assert_eq!(said("car bus man dog cat"), "of the classes of `o`, only the data set has `dog`, `cat`");
        assert_eq!(
            said("car buses man"),
            "of the classes of `o`, only the model has `bus`, and only the data set has `buses`"
        );
        assert_eq!(
            said("car bus man 1 2 3 4 5 6 7"),
            "of the classes of `o`, only the data set has `1`, `2`, `3`, `4`, `5`, …"
        );
        assert_eq!(
            said("car man bus"),
            "the classes of `o` have another order: the first that differ are `bus` in the model and `man` in the data set"
        );
        let kind = difference(&model, &Task::new("o", Classify::new(words("car bus man"))));
        assert_eq!(kind, "`o` is detection in the model and classification in the data set");
        let [two, three] = ["x y", "x z y"].map(|columns| Task::new("v", Regress::new(words(columns))));
        assert_eq!(difference(&two, &three), "of the columns of `v`, only the data set has `z`");
        let turned = Task::new("v", Regress::new(words("y x")));
        assert!(!is_same(&two, &turned) && is_same(&two, &two));
        let [one, renamed] = ["x", "z"].map(|columns| Task::new("v", Regress::new(words(columns))));
        assert!(is_same(&one, &renamed));
        assert!(difference(&two, &turned).starts_with("the columns of `v` have another order"));
    }

    #[test]
    fn tasks_on_one_side_and_what_can_still_be_evaluated_are_named() {
        let kind = |name: &str, classes: &str| Task::new(name, Classify::new(words(classes)));
        let sentence = |model: &[Task], data: &[Task], others: &[String]| {
            refusal(model, data, others, [Path::new("m"), Path::new("d")])
        };
        assert_eq!(
            sentence(
                &[kind("a", "x y"), kind("b", "x y"), kind("c", "x y")],
                &[kind("a", "x y"), kind("b", "x z")],
                &[]
            ),
            "d does not fit the model m: only the model has `c` (classification); of the classes of `b`, only the model has `y`, and \
             only the data set has `z`; give another data set, or evaluate what is the same with --tasks a"
        );
        let other = [Task::described(&kind("q", "x y"))];
        assert_eq!(
            sentence(&[kind("a", "x y")], &[kind("q", "x y")], &other),
            "d does not fit the model m: only the model has `a` (classification); only the data set has `q` (classification); expected a \
             data set with the model's tasks, each with the same classes or columns in the same order"
        );
    }
}
