//! Values of COCO's JSON that are read whatever they are, so that a wrong one is a fault of its entry and not of the file.

use super::coco_entries::CocoId;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// An entry, or `None` for anything but an object.
pub struct Object<T>(pub Option<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of<T>(PhantomData<T>);

        impl<'de, T: DeserializeOwned> Visitor<'de> for Of<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|object| Object(Some(object)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Object<T>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Object(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Object<T>, E> {
                Ok(Object(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Object<T>, E> {
                Ok(Object(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Object<T>, E> {
                Ok(Object(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Object<T>, E> {
                Ok(Object(None))
            }

            fn visit_str<E>(self, _: &str) -> Result<Object<T>, E> {
                Ok(Object(None))
            }

            fn visit_unit<E>(self) -> Result<Object<T>, E> {
                Ok(Object(None))
            }
        }

        deserializer.deserialize_any(Of(PhantomData))
    }
}

pub const FOUR: &str = "the left, top, width and height in pixels";

/// Any value of a field, as far as these lists need it.
#[derive(Debug, Default)]
pub enum Field {
    #[default]
    Absent,
    Null,
    Flag(bool),
    Whole(i64),
    Number(f64),
    Text(String),
    List(Numbers),
    Object,
}

/// The first numbers of a list, its length, and the first value that is no number.
#[derive(Debug, Default)]
pub struct Numbers {
    first: [f64; 4],
    pub count: usize,
    other: Option<String>,
}

impl Numbers {
    pub fn four(self) -> Result<[f64; 4], String> {
        match self {
            Numbers { other: Some(other), .. } => Err(format!("`bbox` holds {other}: expected {FOUR}")),
            Numbers { count: 4, first, .. } => Ok(first),
            Numbers { count, .. } => Err(format!("`bbox` has {count} numbers: expected {FOUR}")),
        }
    }
}

impl Field {
    /// A number, also one that is written as text.
    pub fn number(&self) -> Option<f64> {
        let number = match self {
            Field::Whole(number) => Some(*number as f64),
            Field::Number(number) => Some(*number),
            Field::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.filter(|number| number.is_finite())
    }

    /// Text that is not blank, or a number as text.
    pub fn text(self) -> Option<String> {
        match self {
            Field::Text(text) => Some(text).filter(|text| !text.trim().is_empty()),
            Field::Whole(number) => Some(number.to_string()),
            Field::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// An id. One number may be written as `7`, `7.0` and `"7"`.
    pub fn id(self, key: &str) -> Result<CocoId, String> {
        match self {
            Field::Absent | Field::Null => Err(format!("no `{key}`: give the id")),
            Field::Whole(number) => Ok(CocoId::Number(number)),
            // Above 2^53, not every whole number is there.
            Field::Number(number) if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 => {
                Ok(CocoId::Number(number as i64))
            }
            Field::Text(text) if !text.trim().is_empty() => {
                let text = text.trim();
                let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
                Ok(number.map_or_else(|| CocoId::Text(text.into()), CocoId::Number))
            }
            other => Err(format!("`{key}` holds {other}: expected a whole number or a word")),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Field::Absent => f.write_str("nothing"),
            Field::Null => f.write_str("null"),
            Field::Flag(flag) => write!(f, "{flag}"),
            Field::Whole(number) => write!(f, "{number}"),
            Field::Number(number) => write!(f, "{number}"),
            Field::Text(text) => write!(f, "`{text}`"),
            Field::List(_) => f.write_str("a list"),
            Field::Object => f.write_str("an object"),
        }
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Field, E> {
        Ok(Field::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Field, E> {
        Ok(Field::Whole(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Field, E> {
        Ok(number.try_into().map_or_else(|_| Field::Text(number.to_string()), Field::Whole))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Field, E> {
        Ok(Field::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(text.into()))
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
        let mut numbers = Numbers::default();
        while let Some(field) = seq.next_element::<Field>()? {
            match field.number() {
                Some(number) => numbers.first.iter_mut().skip(numbers.count).take(1).for_each(|at| *at = number),
                None => drop(numbers.other.get_or_insert_with(|| field.to_string())),
            }
            numbers.count += 1;
        }
        Ok(Field::List(numbers))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Object)
    }
}

/// The left, top, right and bottom edges of all polygons of a segmentation; `None` for masks and for what is no polygon.
#[derive(Default)]
pub struct Bounds(pub Option<[f64; 4]>);

impl Bounds {
    /// A number inside a list: the list knows whether it is a left or a top edge.
    fn of_number(number: f64) -> Bounds {
        Bounds(Some([number, f64::NAN, number, f64::NAN]))
    }
}

impl<'de> Deserialize<'de> for Bounds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BoundsVisitor)
    }
}

struct BoundsVisitor;

impl<'de> Visitor<'de> for BoundsVisitor {
    type Value = Bounds;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("polygons or a mask")
    }

    fn visit_unit<E>(self) -> Result<Bounds, E> {
        Ok(Bounds(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Bounds, E> {
        Ok(Bounds(None))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Bounds, E> {
        Ok(Bounds::of_number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Bounds, E> {
        Ok(Bounds::of_number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Bounds, E> {
        Ok(Bounds::of_number(number))
    }

    fn visit_str<E>(self, _: &str) -> Result<Bounds, E> {
        Ok(Bounds(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bounds, A::Error> {
        let mut bounds: Option<[f64; 4]> = None;
        let mut position = 0;
        // A number is the x of a point at even positions and its y at odd ones; `min` and `max` pass over NaN.
        while let Some(Bounds(part)) = seq.next_element::<Bounds>()? {
            let is_number = part.is_some_and(|part| part[1].is_nan());
            let [x1, y1, x2, y2] = part.unwrap_or([f64::NAN; 4]);
            let [x1, y1, x2, y2] = if is_number && position % 2 == 1 { [y1, x1, y2, x2] } else { [x1, y1, x2, y2] };
            position += 1;
            let [a, b, c, d] = bounds.unwrap_or([f64::NAN; 4]);
            bounds = Some([a.min(x1), b.min(y1), c.max(x2), d.max(y2)]);
        }
        Ok(Bounds(bounds.filter(|bounds| bounds.iter().all(|edge| edge.is_finite()))))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bounds, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Bounds(None))
    }
}
