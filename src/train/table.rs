//! Writes a run's results table, `results.csv`.

use super::epochs::Run;
use super::files::TABLE;
use super::run::RunFolder;
use super::telemetry::GradientMeans;
use crate::error::{Error, Result};
use crate::evaluate::{self, Validation, overall};
use crate::tasks::Task;
use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::path::PathBuf;

/// `results.csv`: one row per epoch.
pub struct ResultsTable {
    file: File,
    path: PathBuf,
    /// Number of columns from an older version that are no longer written. They move to the end and stay blank in new rows.
    retired: usize,
    /// Number of rows when it was opened.
    pub rows: u64,
}

impl ResultsTable {
    /// Opens the table and drops rows of epochs after `epochs_done`, which an interrupted run may have written. Rows that another
    /// version wrote keep their values under the same column names, and are blank in new columns.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(folder: &RunFolder, columns: &[String], epochs_done: u64) -> Result<ResultsTable> {
        let path = folder.path.join(TABLE);
        let old = match std::fs::read(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("read", &path)(e)),
            read => read.unwrap_or_default(),
        };
        let mut reader = csv::ReaderBuilder::new().flexible(true).has_headers(false).from_reader(old.as_slice());
        let mut all = reader.records().filter_map(|row| row.ok()).peekable();
        let cells = |row: &csv::StringRecord| row.iter().map(str::to_owned).collect();
        let header: Vec<String> = match all.peek() {
            Some(first) if first.get(0) == columns.first().map(String::as_str) => cells(first),
            // Somebody removed the header: these are the columns if their number is right.
            Some(first) if first.len() == columns.len() => columns.to_vec(),
            _ => Vec::new(),
        };
        let retired: Vec<&String> = header.iter().filter(|h| !columns.contains(h)).collect();
        let names: Vec<String> = columns.iter().chain(retired.iter().copied()).cloned().collect();
        let places: Vec<Option<usize>> = names.iter().map(|name| header.iter().position(|h| h == name)).collect();
        let (mut text, mut rows) = (csv_line(&names), 0);
        for row in all {
            let epoch = row.get(0).and_then(|e| e.parse::<u64>().ok());
            if epoch.is_some_and(|e| e <= epochs_done) && row.len() == header.len() {
                let cell = |place: &Option<usize>| place.and_then(|p| row.get(p)).unwrap_or_default().to_owned();
                text.push_str(&csv_line(&places.iter().map(cell).collect::<Vec<_>>()));
                rows += 1;
            }
        }
        let retired = retired.len();
        crate::files::write_synced(&path, text.as_bytes())?;
        let mut file = OpenOptions::new().append(true).open(&path).map_err(Error::io("write", &path))?;
        file.seek(std::io::SeekFrom::End(0)).map_err(Error::io("write", &path))?;
        Ok(ResultsTable { file, path, retired, rows })
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

    #[test]
    fn a_table_of_other_columns_keeps_its_rows_under_the_same_names() {
        let path = std::env::temp_dir().join(format!("polyhead-table-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let folder = RunFolder::open(&path, &[], RunLock::take(&path).unwrap()).unwrap();
        let strings = |cells: &[&str]| -> Vec<String> { cells.iter().map(|c| (*c).to_owned()).collect() };
        // The second row is cut short, the fourth belongs to an unfinished epoch.
        let old = "epoch,\"train/a,b/loss\",gone,lr\n1,0.5,x,0.01\n2,0.4\n3,0.3,y,0.02\n4,0.2,z,0.03\n";
        std::fs::write(path.join("results.csv"), old).unwrap();
        let columns = strings(&["epoch", "train/a,b/loss", "weighted/a,b", "lr"]);
        let expected = "epoch,\"train/a,b/loss\",\"weighted/a,b\",lr,gone\n1,0.5,,0.01,x\n3,0.3,,0.02,y\n4,1,2,3,\n";
        let mut table = ResultsTable::open(&folder, &columns, 3).unwrap();
        table.row(&strings(&["4", "1", "2", "3"])).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("results.csv")).unwrap(), expected);
        ResultsTable::open(&folder, &columns, 4).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("results.csv")).unwrap(), expected);
        std::fs::remove_file(path.join("results.csv")).unwrap();
        ResultsTable::open(&folder, &columns, 0).unwrap();
        let header = expected.lines().next().unwrap().trim_end_matches(",gone");
        assert_eq!(std::fs::read_to_string(path.join("results.csv")).unwrap().trim_end(), header);
        std::fs::remove_dir_all(path).unwrap();
    }
}
