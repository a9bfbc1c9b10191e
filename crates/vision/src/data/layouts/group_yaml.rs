//! Parses `group:` in data.yaml: the images that are never divided between training and validation.

use super::data_yaml::DataYaml;
use crate::archives;
use crate::data::declaration::{GroupedBy, Grouping, LabelFile, LabelsFrom, Pattern, TaskDeclaration};
use crate::error::{Result, shown};
use crate::reading::did_you_mean;
use crate::reading::yaml::{Mapping, Value};
use crate::tasks::Content;
use std::path::Path;

const KEY: [&str; 1] = ["group"];
const KEYS: [&str; 3] = ["csv", "column", "key"];

impl DataYaml {
    /// A pattern of file names has parentheses; any other word is a column.
    pub fn group(&self, top: &Mapping, root: &Path) -> Result<Option<Grouping>> {
        let Some(value) = top.get("group").filter(|value| !value.is_null()) else { return Ok(None) };
        let place = self.place(&KEY);
        let (by, written) = match value {
            Value::Object(map) => (self.group_column(map, root)?, "{csv: …}".to_owned()),
            Value::String(text) if text.contains(['(', ')', '*']) => {
                (GroupedBy::Name(Pattern::parse(text).map_err(|message| self.error(&KEY, message))?), text.clone())
            }
            other => {
                let column = self.text_of(other, &KEY)?;
                (self.column_of_group(LabelsFrom::Columns(vec![column.clone()])), column)
            }
        };
        Ok(Some(Grouping { by, written, place }))
    }

    fn group_column(&self, map: &Mapping, root: &Path) -> Result<GroupedBy> {
        let form =
            "`group:` is a column of the metadata table, a pattern such as `(*)_*.jpg`, or {csv: FILE, column: NAME}";
        if let Some(key) = map.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let hint = did_you_mean(key, KEYS);
            return Err(self.error(&KEY, format!("{form}, not `{key}`{hint}")));
        }
        let (Some(file), Some(column)) = (map.get("csv"), map.get("column")) else {
            return Err(self.error(&KEY, form));
        };
        let [written, column] = [self.text_of(file, &KEY)?, self.text_of(column, &KEY)?];
        let beside = self.file.parent().unwrap_or(root);
        let looked = root.join(&written);
        let Some(path) = [looked.clone(), beside.join(&written)].into_iter().find(|path| archives::is_file(path))
        else {
            let message = format!("`group:`: the file `{written}` is not there (looked for {})", shown(&looked));
            return Err(self.error(&KEY, message));
        };
        let key = map.get("key").map(|key| self.text_of(key, &KEY)).transpose()?;
        let files = vec![LabelFile { path, split: None }];
        Ok(self.column_of_group(LabelsFrom::Csv { files, columns: vec![column], key }))
    }

    fn column_of_group(&self, from: LabelsFrom) -> GroupedBy {
        GroupedBy::Column(Box::new(TaskDeclaration::new("group", Content::Class.kind(), from, self.place(&KEY))))
    }
}
