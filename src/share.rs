//! Describes a model in Markdown, and writes it to a folder that can be given to others: without the paths, the command and the
//! machine that a run's folder and its state hold.

use crate::config::{Choices, PLACE, paths};
use crate::data::aside;
use crate::error::{Result, one_line};
use crate::evaluate::run_config;
use crate::model::ModelFile;
use crate::reading::count_of;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The files in a shared folder.
const WEIGHTS: &str = "model.safetensors";
const CARD: &str = "README.md";

/// Writes the weights and the description of the model at `path` to the new folder `out`. Returns notes on how the file was read.
///
/// # Errors
/// There is no model, the folder is not empty, or writing fails.
pub fn share(path: &Path, out: &Path) -> Result<Vec<String>> {
    aside::check_free(out)?;
    let model = read(path)?;
    let text = describe(&model, path)?;
    aside::write_folder(out, |folder| {
        // Only the tensors that predict are saved, with the card; a run's state stays behind.
        model.save(&folder.join(WEIGHTS))?;
        crate::files::write_synced(&folder.join(CARD), text.as_bytes())
    })?;
    Ok(model.notes)
}

/// The description of the model at `path`, in Markdown.
///
/// # Errors
/// There is no model, or it cannot be read.
pub fn card(path: &Path) -> Result<String> {
    describe(&read(path)?, path)
}

fn read(path: &Path) -> Result<ModelFile> {
    ModelFile::read(&ModelFile::locate(path)?, None)
}

fn describe(model: &ModelFile, path: &Path) -> Result<String> {
    let card = &model.card;
    let (architecture, size) = (&card.architecture, card.image_size);
    let mut text = format!(
        "# A model of polyhead {}\n\n{}, {} parameters, for images of {size} px, with {}:\n\n| task | kind | predicts |\n|---|---|---|\n",
        one_line(&card.version),
        architecture.backbone.name(),
        architecture.parameter_count(size.next_multiple_of(32))?,
        count_of(architecture.tasks.len(), "task")
    );
    for task in &architecture.tasks {
        let names = if task.classes().is_empty() { task.spec.columns().unwrap_or_default() } else { task.classes() };
        let names = names.iter().map(|name| cell(name)).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "| {} | {} | {names} |", cell(&task.name), task.kind_word());
    }
    let _ = write!(text, "\n```text\npolyhead predict {WEIGHTS} IMAGES…\n```\n");
    text.push_str(&figures(path, card.epoch));
    text.push_str(&choices(path)?);
    Ok(text)
}

/// A name in a cell of a table.
fn cell(name: &str) -> String {
    one_line(name).replace('|', "\\|")
}

/// The validation figures of the epoch whose weights are `best`, from the table of the run; nothing for other files.
fn figures(path: &Path, epoch: Option<u64>) -> String {
    let best = ModelFile::locate(path).ok().filter(|file| file.ends_with("best.safetensors"));
    let run = best.and_then(|best| ModelFile::run_folder(&best));
    let rows = run.zip(epoch).and_then(|(run, epoch)| row_of(&run, epoch)).unwrap_or_default();
    if rows.is_empty() {
        return String::new();
    }
    let mut text = "\nOn the validation images, which chose this epoch:\n\n| figure | value |\n|---|---|\n".to_owned();
    for (name, value) in rows {
        let _ = writeln!(text, "| {} | {value} |", cell(&name));
    }
    text
}

/// Names and values of an epoch's row in the table of a run.
fn row_of(run: &Path, epoch: u64) -> Option<Vec<(String, String)>> {
    let mut reader = csv::Reader::from_path(run.join("results.csv")).ok()?;
    let header = reader.headers().ok()?.clone();
    let column = header.iter().position(|name| name == "epoch")?;
    let epoch = epoch.to_string();
    let row = reader.records().filter_map(|row| row.ok()).find(|row| row.get(column) == Some(epoch.as_str()))?;
    let named = header.iter().zip(&row).filter(|(_, value)| !value.is_empty());
    let figures = named.filter_map(|(name, value)| Some((name.strip_prefix("val/")?.to_owned(), value.to_owned())));
    Some(figures.collect())
}

/// The choices of the run that change its numbers; nothing for a file outside of a run.
fn choices(path: &Path) -> Result<String> {
    let Some(config) = run_config(path)? else { return Ok(String::new()) };
    let choices = Choices::of(&config)?;
    // Paths and the place of the run are private.
    let is_private = |key: &str| paths::KEYS.contains(&key) || PLACE.contains(&key) || key == "exist_ok";
    let is_told = |key: &&str| !is_private(key) && !Choices::is_of_execution(key);
    let mut text = "\nTrained with these choices of `polyhead train`:\n\n```yaml\n".to_owned();
    for key in choices.keys().filter(is_told) {
        let _ = writeln!(text, "{key}: {}", one_line(&choices.text(key).unwrap_or_default()));
    }
    text.push_str("```\n");
    Ok(text)
}

/// The path of the weights in a shared folder.
pub fn weights_in(out: &Path) -> PathBuf {
    out.join(WEIGHTS)
}
