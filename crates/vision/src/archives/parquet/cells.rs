//! The labels in a parquet file: columns as JSON values, with the names of Hugging Face's class labels in place of their numbers.

use super::{Chunks, Rows, damaged, guarded};
use crate::archives::files::Shared;
use crate::archives::invalid;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;
use serde_json::{Map, Number, Value};
use std::io;
use std::sync::Arc;

/// Columns of a parquet file, each with a value for every row; null is a blank cell.
type Columns = Vec<Vec<Value>>;

impl Rows {
    /// The cells of these columns. One that the file does not have is blank.
    ///
    /// # Errors
    /// The file is damaged, or packed in a way that is not read.
    pub fn cells(&self, file: &Arc<Shared>, columns: &[String]) -> io::Result<Vec<Vec<Value>>> {
        guarded(|| self.read_cells(file, columns))
    }

    fn read_cells(&self, file: &Arc<Shared>, columns: &[String]) -> io::Result<Columns> {
        let reader = SerializedFileReader::new(Chunks::new(file)).map_err(damaged)?;
        let root = reader.metadata().file_metadata().schema_descr().root_schema().clone();
        let wanted: Vec<_> =
            root.get_fields().iter().filter(|field| columns.iter().any(|c| c == field.name())).cloned().collect();
        let mut found: Columns = columns.iter().map(|_| Vec::with_capacity(self.count)).collect();
        if wanted.is_empty() {
            found.iter_mut().for_each(|cells| cells.resize(self.count, Value::Null));
            return Ok(found);
        }
        let places: Vec<Option<usize>> =
            columns.iter().map(|column| wanted.iter().position(|field| field.name() == column)).collect();
        let described: Vec<&Value> = columns.iter().map(|column| &self.features[column.as_str()]).collect();
        let projection = Type::group_type_builder(root.name()).with_fields(wanted).build().map_err(damaged)?;
        for row in reader.get_row_iter(Some(projection)).map_err(damaged)? {
            let mut fields = row.map_err(damaged)?.into_columns();
            for ((cells, place), feature) in found.iter_mut().zip(&places).zip(&described) {
                let field =
                    place.and_then(|at| fields.get_mut(at)).map(|(_, field)| std::mem::replace(field, Field::Null));
                cells.push(compact(named(value(field.unwrap_or(Field::Null)), feature)));
            }
        }
        match found.iter().all(|cells| cells.len() == self.count) {
            true => Ok(found),
            false => Err(invalid("damaged: it holds fewer rows than it says")),
        }
    }

    /// The names of a column's class label, in the order of their numbers, wherever in its cells the label is.
    pub fn classes(&self, column: &str) -> Option<Vec<String>> {
        let names = class_names(&self.features[column])?;
        Some(names.iter().map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned)).collect())
    }

    /// Whether a cell of the column is a class, and not a list or a struct that holds classes.
    pub fn is_class(&self, column: &str) -> bool {
        self.features[column]["_type"] == "ClassLabel"
    }
}

fn class_names(feature: &Value) -> Option<&Vec<Value>> {
    if feature["_type"] == "ClassLabel" {
        return feature["names"].as_array();
    }
    match feature {
        Value::Object(parts) => parts.values().find_map(class_names),
        Value::Array(parts) => parts.iter().find_map(class_names),
        _ => None,
    }
}

/// Replaces numbers of classes by their names. A negative number is a row without a label.
fn named(value: Value, feature: &Value) -> Value {
    if let (Some(names), true) = (feature["names"].as_array(), feature["_type"] == "ClassLabel") {
        return match value.as_i64() {
            Some(number) if number < 0 => Value::Null,
            Some(number) => names.get(number as usize).cloned().unwrap_or(value),
            None => value,
        };
    }
    let inner = if feature.is_array() { &feature[0] } else { &feature["feature"] };
    match value {
        Value::Array(values) => Value::Array(values.into_iter().map(|value| named(value, inner)).collect()),
        // A sequence of structs is stored as a struct of lists.
        Value::Object(parts) if inner.is_object() => {
            let listed = |key: &str| Value::Array(vec![inner[key].clone()]);
            Value::Object(
                parts
                    .into_iter()
                    .map(|(key, value)| {
                        let of = listed(&key);
                        (key, named(value, &of))
                    })
                    .collect(),
            )
        }
        Value::Object(parts) => Value::Object(
            parts
                .into_iter()
                .map(|(key, value)| {
                    let of = named(value, &feature[key.as_str()]);
                    (key, of)
                })
                .collect(),
        ),
        other => other,
    }
}

/// Structs and lists of structs as text, which takes a tenth of the memory.
fn compact(value: Value) -> Value {
    match value.is_object() || value.get(0).is_some_and(Value::is_object) {
        true => Value::String(value.to_string()),
        false => value,
    }
}

fn value(field: Field) -> Value {
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    match field {
        Field::Null | Field::Bytes(_) | Field::MapInternal(_) => Value::Null,
        Field::Bool(flag) => flag.into(),
        Field::Byte(number) => number.into(),
        Field::Short(number) => number.into(),
        Field::Int(number) | Field::Date(number) | Field::TimeMillis(number) => number.into(),
        Field::Long(number)
        | Field::TimeMicros(number)
        | Field::TimestampMillis(number)
        | Field::TimestampMicros(number) => number.into(),
        Field::UByte(number) => number.into(),
        Field::UShort(number) => number.into(),
        Field::UInt(number) => number.into(),
        Field::ULong(number) => number.into(),
        Field::Float16(number) => float(number.to_string().parse().unwrap_or(f64::NAN)),
        // The shortest decimal that means this number, rather than all the digits of its binary form.
        Field::Float(number) => float(number.to_string().parse().unwrap_or(f64::NAN)),
        Field::Double(number) => float(number),
        Field::Str(text) => text.into(),
        Field::Group(row) => {
            let parts = row.into_columns().into_iter().map(|(name, field)| (name, value(field)));
            Value::Object(parts.collect::<Map<_, _>>())
        }
        Field::ListInternal(list) => Value::Array(list.elements().iter().cloned().map(value).collect()),
        Field::Decimal(_) => field.to_string().parse().map_or(Value::Null, float),
    }
}
