//! Writes a run's results table, `results.csv`.

use super::epochs::Run;
use super::files::TABLE;
use super::overfitting::Losses;
use super::run::RunFolder;
use super::telemetry::GradientMeans;
use super::trials::Trials;
use crate::error::{Error, Result};
use crate::evaluate::{self, Validation, overall};
use crate::files;
use crate::reading::{count_of, cut, text};
use crate::tasks::Task;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};

/// `results.csv`: one row per epoch.
pub struct ResultsTable {
    file: File,
    path: PathBuf,
    /// Number of columns from an older version that are no longer written. They move to the end and stay blank in new rows.
    retired: usize,
    /// Number of rows when it was opened.
    pub rows: u64,
    /// A warning about lines that could not be carried over.
    pub note: Option<String>,
}

/// A column and its values in the finished epochs, as far as they are known.
pub type SavedColumn = (String, Vec<Option<f64>>);

/// The rows of an old table that go on in the new one.
struct Carried {
    /// The columns, with those that are no longer written at the end.
    names: Vec<String>,
    /// The rows of finished epochs, as text.
    rows: BTreeMap<u64, String>,
    /// The lines that are not among them although no interrupted epoch explains it, each with the reason.
    lost: Vec<(u64, String)>,
}

impl Carried {
    fn from(text: &str, columns: &[String], epochs_done: u64, saved: &[SavedColumn]) -> Carried {
        let first = columns.first().map_or("", String::as_str);
        let begins = |separator: &u8| text.starts_with(&format!("{first}{}", char::from(*separator)));
        let delimiter = [b';', b'\t'].into_iter().find(begins).unwrap_or(b',');
        let mut reader = csv::ReaderBuilder::new();
        reader.delimiter(delimiter).flexible(true).has_headers(false);
        let mut reader = reader.from_reader(text.as_bytes());
        let mut all = reader.records().filter_map(|row| row.ok()).peekable();
        let cells = |row: &csv::StringRecord| row.iter().map(str::to_owned).collect();
        let header: Vec<String> = match all.peek() {
            Some(top) if top.get(0) == Some(first) => cells(top),
            // Somebody removed the header: these are the columns if their number is right.
            Some(top) if top.len() == columns.len() => columns.to_vec(),
            _ => Vec::new(),
        };
        let retired: Vec<&String> = header.iter().filter(|h| !columns.contains(h)).collect();
        let names: Vec<String> = columns.iter().chain(retired.iter().copied()).cloned().collect();
        let places: Vec<Option<usize>> = names.iter().map(|name| header.iter().position(|h| h == name)).collect();
        let (mut rows, mut lost) = (BTreeMap::new(), Vec::new());
        for row in all.filter(|row| row.get(0) != Some(first)) {
            let line = row.position().map_or(0, |at| at.line());
            match epoch_of(&row, &header, saved) {
                Ok(epoch) if epoch > epochs_done => {}
                Ok(epoch) if rows.contains_key(&epoch) => lost.push((line, format!("epoch {epoch} a second time"))),
                Ok(epoch) => {
                    let cell = |place: &Option<usize>| place.and_then(|p| row.get(p)).unwrap_or_default().to_owned();
                    rows.insert(epoch, csv_line(&places.iter().map(cell).collect::<Vec<_>>()));
                }
                Err(why) => lost.push((line, why)),
            }
        }
        // A process that is killed while it writes a row leaves the beginning of the last line.
        let is_cut = !header.is_empty()
            && lost.last().is_some_and(|(line, _)| *line == text.lines().count() as u64)
            && !text.ends_with('\n');
        lost.truncate(lost.len() - usize::from(is_cut));
        Carried { names, rows, lost }
    }
}

/// The epoch of a row.
///
/// # Errors
/// The reason why the run did not write it.
fn epoch_of(row: &csv::StringRecord, header: &[String], saved: &[SavedColumn]) -> std::result::Result<u64, String> {
    if header.is_empty() {
        return Err("there is no line with the names of the columns above it".to_owned());
    }
    if row.len() != header.len() {
        return Err(format!("{}, expected {}", count_of(row.len(), "value"), header.len()));
    }
    let first = row.get(0).unwrap_or_default();
    let epoch = first.parse::<u64>().ok().filter(|epoch| *epoch > 0).ok_or(format!("no epoch is `{}`", cut(first)))?;
    if row.iter().any(|cell| cell.contains(['\u{fffd}', '\0'])) {
        return Err("its text is damaged".to_owned());
    }
    for (column, values) in saved {
        let known = values.get(epoch as usize - 1).copied().flatten();
        let cell = header.iter().position(|h| h == column).and_then(|place| row.get(place));
        if let (Some(known), Some(cell)) = (known, cell)
            && cell != number(known)
        {
            return Err(format!("`{column}` is {}, and it was {} in epoch {epoch}", cut(cell), number(known)));
        }
    }
    Ok(epoch)
}

/// `results.old.csv`, or with a number if that exists.
fn first_free_name(folder: &Path) -> String {
    let name = |number: usize| match number {
        1 => "results.old.csv".to_owned(),
        n => format!("results.old-{n}.csv"),
    };
    (1..).map(name).find(|name| std::fs::symlink_metadata(folder.join(name)).is_err()).unwrap_or_default()
}

impl ResultsTable {
    /// Opens the table and drops rows of epochs after `epochs_done`, which an interrupted run may have written. Rows that another
    /// version wrote keep their values under the same column names, and are blank in new columns. If the file has anything else, it is
    /// kept under another name. `saved` are columns whose values the run's state has as well.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(
        folder: &RunFolder,
        columns: &[String],
        epochs_done: u64,
        saved: &[SavedColumn],
    ) -> Result<ResultsTable> {
        let path = folder.path.join(TABLE);
        let bytes = match files::read(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io("read", &path)(e)),
            read => read.unwrap_or_default(),
        };
        // A byte that is not UTF-8 spoils its own row only.
        let text = text::read(&path).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned());
        let carried = Carried::from(&text, columns, epochs_done, saved);
        let mut note = None;
        if let Some((line, why)) = carried.lost.first() {
            let aside = first_free_name(&folder.path);
            files::write_synced(&folder.path.join(&aside), &bytes)?;
            let more = match carried.lost.len() - 1 {
                0 => String::new(),
                n => format!(", and so are {}", count_of(n, "more line")),
            };
            note = Some(format!(
                "warning: {TABLE}:{line} is not a row that this run wrote ({why}){more}: the other rows stay, and the file as it was is kept as {aside}"
            ));
        }
        let retired = carried.names.len() - columns.len();
        let mut text = csv_line(&carried.names);
        text.extend(carried.rows.values().map(String::as_str));
        files::write_synced(&path, text.as_bytes())?;
        let mut file = OpenOptions::new().append(true).open(&path).map_err(Error::io("write", &path))?;
        file.seek(std::io::SeekFrom::End(0)).map_err(Error::io("write", &path))?;
        Ok(ResultsTable { file, path, retired, rows: carried.rows.len() as u64, note })
    }

    /// # Errors
    /// The table cannot be written.
    pub fn row(&mut self, cells: &[String]) -> Result<()> {
        let cells = [cells, &vec![String::new(); self.retired]].concat();
        self.file.write_all(csv_line(&cells).as_bytes()).map_err(Error::io("write", &self.path))
    }
}

/// One row; cells are quoted if necessary.
fn csv_line(cells: &[String]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail, and a single row cannot differ from others in length.
    let _ = writer.write_record(cells);
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

/// A figure with six decimals, and with more if it is small, so that it has six significant digits; blank if it is not finite.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return String::new();
    }
    // The decimal place of the first digit other than 0, for a figure below 1.
    let first = if value == 0.0 { 0.0 } else { -value.abs().log10().floor() };
    format!("{value:.*}", (first + 5.0).max(6.0) as usize)
}

impl Run {
    pub(super) fn columns(&self) -> Vec<String> {
        let mut columns = vec!["epoch".to_owned(), "time".to_owned()];
        let names = || self.data.tasks.iter().map(|t| t.name.as_str());
        columns.extend(names().map(|n| format!("train/{n}/loss")));
        if !self.data.val.is_empty() {
            for (task, metrics) in self.data.tasks.iter().zip(self.metric_names()) {
                columns.push(format!("val/{}/loss", task.name));
                columns.extend(metrics.iter().map(|m| format!("val/{}/{m}", task.name)));
            }
        }
        columns.extend(names().map(|n| format!("weight/{n}")));
        columns.extend(names().map(|n| format!("weighted/{n}")));
        columns.extend(names().map(|n| format!("log_var/{n}")));
        columns.push("lr".to_owned());
        if self.data.tasks.len() > 1 {
            columns.extend(GradientMeans::columns(&names().collect::<Vec<_>>()));
        }
        columns.extend(["overall", "best"].map(str::to_owned));
        columns
    }

    fn metric_names(&self) -> Vec<Vec<String>> {
        let names = |task: &Task| evaluate::empty_result(task).metrics().into_iter().map(|m| m.0).collect();
        self.data.tasks.iter().map(names).collect()
    }

    /// The columns whose values the state has for every finished epoch. There are none while methods are tried: a run that is killed
    /// when it chooses one may have the table of another trial.
    pub(super) fn saved_columns(&self) -> Vec<SavedColumn> {
        if Trials::are_open(&self.state) {
            return Vec::new();
        }
        let of_all = |past: &&Vec<Losses>| past.len() as u64 == self.state.epochs_done;
        let tasks = self.data.tasks.iter().zip(&self.state.past_losses).filter(|(_, past)| of_all(past));
        tasks
            .map(|(task, past)| {
                (format!("val/{}/loss", task.name), past.iter().map(|losses| losses.validation).collect())
            })
            .collect()
    }

    pub(super) fn row(&self, epoch: u64, validation: &Validation, is_best: bool) -> Vec<String> {
        let Validation { results, losses, .. } = validation;
        let mut cells = vec![(epoch + 1).to_string(), format!("{:.1}", self.state.elapsed_s)];
        let (means, tasks) = (&self.state.means, 0..self.data.tasks.len());
        cells.extend(tasks.clone().map(|i| means.loss(i).map_or(String::new(), number)));
        for (result, loss) in results.iter().zip(losses) {
            let figures = std::iter::once(*loss).chain(result.metrics().into_iter().map(|metric| metric.1));
            cells.extend(figures.map(|value| value.map_or(String::new(), number)));
        }
        cells.extend(tasks.clone().map(|i| means.weight(i).map_or(String::new(), number)));
        cells.extend(tasks.map(|i| means.weighted(i).map_or(String::new(), number)));
        cells.extend(self.trainer.balance.log_variances().iter().map(|&s| number(f64::from(s))));
        let lr = self.trainer.config.schedule.learning_rate(self.trainer.step.saturating_sub(1));
        cells.push(format!("{lr:.8}"));
        if self.data.tasks.len() > 1 {
            let gradients = self.state.means.gradients.cells(self.data.tasks.len());
            // In scientific notation, since norms may be far below one.
            let short = |value: f64| if value.is_finite() { format!("{value:.6e}") } else { String::new() };
            cells.extend(gradients.into_iter().map(|value| value.map_or(String::new(), short)));
        }
        cells.push(overall(results).map_or(String::new(), number));
        cells.push(u8::from(is_best).to_string());
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::lock::RunLock;

    #[test]
    fn a_small_figure_keeps_its_digits() {
        for (value, cell) in [
            (0.5, "0.500000"),
            (-43.612_345_67, "-43.612346"),
            (0.0, "0.000000"),
            (0.051_234_567, "0.0512346"),
            (7.123_456_78e-7, "0.000000712346"),
            (1e-30, "0.00000000000000000000000000000100000"),
            (f64::NAN, ""),
        ] {
            assert_eq!(number(value), cell);
        }
    }

    struct Place(std::path::PathBuf, RunFolder);

    impl Place {
        fn new(name: &str) -> Place {
            let path = std::env::temp_dir().join(format!("polyhead-table-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            let folder = RunFolder::open(&path, &[], RunLock::take(&path).unwrap()).unwrap();
            Place(path, folder)
        }

        fn table(&self) -> String {
            std::fs::read_to_string(self.0.join("results.csv")).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn strings(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|c| (*c).to_owned()).collect()
    }

    #[test]
    fn a_table_of_other_columns_keeps_its_rows_under_the_same_names() {
        let place = Place::new("columns");
        // The third row belongs to an unfinished epoch.
        let old = "epoch,\"train/a,b/loss\",gone,lr\n1,0.5,x,0.01\n3,0.3,y,0.02\n4,0.2,z,0.03\n";
        std::fs::write(place.0.join("results.csv"), old).unwrap();
        let columns = strings(&["epoch", "train/a,b/loss", "weighted/a,b", "lr"]);
        let expected = "epoch,\"train/a,b/loss\",\"weighted/a,b\",lr,gone\n1,0.5,,0.01,x\n3,0.3,,0.02,y\n4,1,2,3,\n";
        let mut table = ResultsTable::open(&place.1, &columns, 3, &[]).unwrap();
        assert_eq!((table.note.as_deref(), table.rows), (None, 2));
        table.row(&strings(&["4", "1", "2", "3"])).unwrap();
        assert_eq!(place.table(), expected);
        ResultsTable::open(&place.1, &columns, 4, &[]).unwrap();
        assert_eq!(place.table(), expected);
        std::fs::remove_file(place.0.join("results.csv")).unwrap();
        ResultsTable::open(&place.1, &columns, 0, &[]).unwrap();
        assert_eq!(place.table().trim_end(), expected.lines().next().unwrap().trim_end_matches(",gone"));
    }

    #[test]
    fn a_table_that_cannot_be_carried_over_is_kept_under_another_name() {
        let columns = strings(&["epoch", "val/a/loss", "lr"]);
        let saved = [("val/a/loss".to_owned(), vec![Some(0.5), Some(0.4), None])];
        let whole = "epoch,val/a/loss,lr\n1,0.500000,0.1\n2,0.400000,0.1\n3,,0.1\n";
        let utf16 =
            |text: &str| format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        // Every row is read from these, whatever program saved them.
        for bytes in
            [whole.into(), whole.replace(',', ";").into_bytes(), utf16(whole), whole.replace('\n', "\r\n").into()]
        {
            let place = Place::new("read");
            std::fs::write(place.0.join("results.csv"), &bytes).unwrap();
            let table = ResultsTable::open(&place.1, &columns, 3, &saved).unwrap();
            assert_eq!((table.note, place.table().as_str()), (None, whole));
        }
        let cases: [(Vec<u8>, &str, &[u64]); 8] = [
            (
                whole.replace("2,0.4", "2,0.3").into(),
                "results.csv:3 is not a row that this run wrote (`val/a/loss` is 0.300000, and it was 0.400000 in epoch 2)",
                &[1, 3],
            ),
            (
                whole.replace("2,0.4", "1,0.5").into(),
                "results.csv:3 is not a row that this run wrote (epoch 1 a second time)",
                &[1, 3],
            ),
            (
                whole.replace("3,,", "2,0.400000,").into(),
                "results.csv:4 is not a row that this run wrote (epoch 2 a second time)",
                &[1, 2],
            ),
            (
                format!("{whole}9,1\n").into(),
                "results.csv:5 is not a row that this run wrote (2 values, expected 3)",
                &[1, 2, 3],
            ),
            (
                [whole.as_bytes(), b"x\xff,1,2\n"].concat(),
                "results.csv:5 is not a row that this run wrote (no epoch is",
                &[1, 2, 3],
            ),
            (
                whole.replace("2,0.400000,0.1", "2,0.400000,0.1\0").into(),
                "results.csv:3 is not a row that this run wrote (its text is damaged)",
                &[1, 3],
            ),
            (
                format!("# notes\n{}", &whole[20..]).into(),
                "results.csv:1 is not a row that this run wrote (there is no line with the names of the columns above it), and so are 3 more lines",
                &[],
            ),
            (vec![7; 100], "results.csv:1 is not a row", &[]),
        ];
        for (bytes, said, kept) in cases {
            let place = Place::new("lost");
            std::fs::write(place.0.join("results.csv"), &bytes).unwrap();
            let table = ResultsTable::open(&place.1, &columns, 3, &saved).unwrap();
            let note = table.note.unwrap_or_default();
            assert!(note.contains(said) && note.ends_with("is kept as results.old.csv"), "{note}");
            let epochs: Vec<u64> =
                place.table().lines().skip(1).map(|row| row.split(',').next().unwrap().parse().unwrap()).collect();
            assert_eq!(epochs, kept, "{note}");
            assert_eq!(std::fs::read(place.0.join("results.old.csv")).unwrap(), bytes);
        }
        // The beginning of a row is what a killed process leaves.
        let place = Place::new("cut");
        std::fs::write(place.0.join("results.csv"), &whole[..whole.len() - 3]).unwrap();
        let table = ResultsTable::open(&place.1, &columns, 2, &saved).unwrap();
        assert_eq!((table.note, table.rows), (None, 2));
        std::fs::write(place.0.join("results.csv"), whole).unwrap();
        std::fs::write(place.0.join("results.old.csv"), "an older one").unwrap();
        let other = [("val/a/loss".to_owned(), vec![Some(0.1)])];
        let table = ResultsTable::open(&place.1, &columns, 3, &other).unwrap();
        assert!(table.note.unwrap_or_default().ends_with("kept as results.old-2.csv"));
        assert_eq!(std::fs::read_to_string(place.0.join("results.old.csv")).unwrap(), "an older one");
    }
}
