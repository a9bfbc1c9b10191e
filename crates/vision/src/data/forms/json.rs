//! JSON whose lists may be long: entries are passed on one by one, and a wrong entry does not make the file unreadable.

use super::written::Unreadable;
use crate::reading::cut;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// An object of JSON.
pub type Object = Map<String, Value>;

/// Passes on the entries of a list or an object with their number, and in an object their key. They are those of the whole
/// text or, with `below`, those of the value of that key.
///
/// # Errors
/// The text is not JSON, or there is neither a list nor an object in this place.
pub fn entries(
    text: &str,
    below: Option<&str>,
    each: &mut dyn FnMut(usize, Option<String>, Value),
) -> Result<(), Unreadable> {
    let mut json = serde_json::Deserializer::from_str(text);
    let read = match below {
        None => Entries(each).deserialize(&mut json),
        Some(key) => Below { key, each }.deserialize(&mut json),
    };
    read.and_then(|()| json.end()).map_err(|e| not_json(&e))
}

/// The value of a key of the object that a text is; all others are skipped.
///
/// # Errors
/// The text is not JSON.
pub fn value_of(text: &str, key: &str) -> Result<Option<Value>, Unreadable> {
    let mut found = None;
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json.deserialize_map(Whole { key, found: &mut found });
    read.and_then(|()| json.end()).map_err(|e| not_json(&e))?;
    Ok(found)
}

/// The sentence for a text that `serde_json` refuses.
pub fn not_json(error: &serde_json::Error) -> Unreadable {
    let message = error.to_string();
    // It may quote a long text of the file.
    let message = cut(message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message));
    let line = Some(error.line()).filter(|line| *line > 0);
    let column = error.column();
    let message = match error.is_data() {
        true => format!("{message} (column {column}): is this a file of another program?"),
        false => format!("not valid JSON here ({message}, column {column}): export the labels again"),
    };
    Unreadable { line, message }
}

/// A number of an object.
///
/// # Errors
/// It is absent or no number.
pub fn number(object: &Object, key: &str) -> Result<f64, String> {
    match object.get(key) {
        Some(value) => as_number(value).map_err(|shown| format!("`{key}` is {shown}: expected a number")),
        None => Err(format!("no `{key}`: give a number")),
    }
}

/// The number that a value is.
///
/// # Errors
/// Another value, as it is shown.
pub fn as_number(value: &Value) -> Result<f64, String> {
    value.as_f64().filter(|number| number.is_finite()).ok_or_else(|| shown(value))
}

/// A number that is not wrong to be absent; 0 without it.
pub fn number_or_zero(object: &Object, key: &str) -> f64 {
    object.get(key).and_then(Value::as_f64).unwrap_or(0.0)
}

/// The name of a class: a text that is not blank, or a number.
pub fn class(value: Option<&Value>, key: &str) -> Result<String, String> {
    match value {
        Some(Value::String(name)) if !name.trim().is_empty() => Ok(name.trim().to_string()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::String(_) | Value::Null) | None => Err(format!("no `{key}`: give the class")),
        Some(other) => Err(format!("`{key}` is {}: expected the name of a class", shown(other))),
    }
}

/// A value in a message: short, whatever it holds.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        Value::String(text) => format!("`{}`", cut(text)),
        other => other.to_string(),
    }
}

/// Points as `[[x, y], …]`.
pub fn points(value: Option<&Value>) -> Result<Vec<[f64; 2]>, String> {
    let wrong = |shown: &str| format!("`points` is {shown}: expected a list of [x, y]");
    let Some(list) = value.and_then(Value::as_array) else {
        return Err(value.map_or("no `points`: give a list of [x, y]".into(), |value| wrong(&shown(value))));
    };
    let point = |value: &Value| match value.as_array().map(Vec::as_slice) {
        Some([x, y, ..]) => match (as_number(x), as_number(y)) {
            (Ok(x), Ok(y)) => Ok([x, y]),
            (Err(shown), _) | (_, Err(shown)) => Err(format!("a point at {shown}: expected [x, y] in pixels")),
        },
        _ => Err(format!("a point is {}: expected [x, y] in pixels", shown(value))),
    };
    list.iter().map(point).collect()
}

struct Entries<'a>(&'a mut dyn FnMut(usize, Option<String>, Value));

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of images")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(entry) = seq.next_element()? {
            (self.0)(index, None, entry);
            index += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some((key, entry)) = map.next_entry()? {
            (self.0)(index, Some(key), entry);
            index += 1;
        }
        Ok(())
    }
}

/// The value of one key of an object.
struct Below<'a> {
    key: &'a str,
    each: &'a mut dyn FnMut(usize, Option<String>, Value),
}

impl<'de> DeserializeSeed<'de> for Below<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Below<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "an object with `{}`", self.key)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut is_there = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.key {
                map.next_value_seed(Entries(&mut *self.each))?;
                is_there = true;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        match is_there {
            true => Ok(()),
            false => Err(serde::de::Error::custom(format!("no `{}`", self.key))),
        }
    }
}

/// Keeps the value of one key whole.
struct Whole<'a> {
    key: &'a str,
    found: &'a mut Option<Value>,
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "an object with `{}`", self.key)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == self.key {
                *self.found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
