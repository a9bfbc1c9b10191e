//! A label as the data room sees it: a value that moves with the pixels and of which nothing more is known.

use super::Boxes;
use super::same::Same;
use crate::boxes::Xyxy;
use crate::geometry::PixelMap;
use std::any::Any;
use std::sync::Arc;

/// The label of one image for one task, or none. An image in which annotators found nothing is labelled: it holds an empty
/// value. Images that say the same may share it.
#[derive(Clone, Debug)]
pub struct Label(Option<Arc<dyn LabelValue>>);

/// The questions that every kind's labels answer. Where one answers `None`, the label stays unchanged.
pub trait LabelValue: Same {
    /// The label of the picture that `map` makes of its own.
    fn moved(&self, _map: &dyn PixelMap) -> Option<Label> {
        None
    }

    /// After a part of the picture was made grey.
    fn hidden(&self, _part: &Xyxy) -> Option<Label> {
        None
    }

    /// The label of several pictures side by side on one canvas, `others` beside this one.
    fn joined(&self, _others: &[&Label]) -> Option<Label> {
        None
    }

    /// The label of two pictures blended, `share` of this one.
    fn mixed(&self, _other: &Label, _share: f32) -> Option<Label> {
        None
    }

    /// Within a picture of this width and height.
    fn clipped(&self, _size: [f32; 2]) -> Option<Clipped> {
        None
    }

    /// The classes that the image shows, each once; `None` for a label without classes.
    fn classes(&self) -> Option<Vec<usize>> {
        None
    }

    /// The number of objects in the picture that are taught; `None` if the label is about the picture as a whole.
    fn objects(&self) -> Option<usize> {
        None
    }

    /// Whether the image was annotated for some classes only.
    fn is_partial(&self) -> bool {
        false
    }

    /// Its boxes, for layouts that hold boxes.
    fn boxes(&self) -> Option<&Boxes> {
        None
    }
}

/// A label within its picture, and what that took.
#[derive(Clone, Debug)]
pub struct Clipped {
    /// The label after its boxes were clipped.
    pub label: Label,
    /// Boxes that reached beyond the picture.
    pub clipped: usize,
    /// Boxes that lay wholly outside and are gone.
    pub outside: usize,
}

impl Label {
    /// Nobody looked.
    pub const UNLABELLED: Label = Label(None);

    /// A labelled image that says `value`.
    pub fn of(value: impl LabelValue) -> Label {
        Label(Some(Arc::new(value)))
    }

    /// Whether the image is labelled for the task.
    pub fn is_labelled(&self) -> bool {
        self.0.is_some()
    }

    /// The value of the label; `None` for an unlabelled image.
    pub fn value(&self) -> Option<&dyn LabelValue> {
        self.0.as_deref()
    }

    /// The kind's own value; `None` of an unlabelled image.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.value().and_then(|value| (value as &dyn Any).downcast_ref())
    }

    /// See [`LabelValue::boxes`].
    pub fn boxes(&self) -> Option<&Boxes> {
        self.value().and_then(LabelValue::boxes)
    }

    /// See [`LabelValue::moved`].
    pub fn moved(&self, map: &dyn PixelMap) -> Label {
        self.value().and_then(|value| value.moved(map)).unwrap_or_else(|| self.clone())
    }

    /// See [`LabelValue::hidden`].
    pub fn hidden(&self, part: &Xyxy) -> Label {
        self.value().and_then(|value| value.hidden(part)).unwrap_or_else(|| self.clone())
    }

    /// See [`LabelValue::joined`].
    pub fn joined(&self, others: &[&Label]) -> Label {
        self.value().and_then(|value| value.joined(others)).unwrap_or_else(|| self.clone())
    }

    /// See [`LabelValue::mixed`].
    pub fn mixed(&self, other: &Label, share: f32) -> Label {
        self.value().and_then(|value| value.mixed(other, share)).unwrap_or_else(|| self.clone())
    }
}

impl PartialEq for Label {
    fn eq(&self, other: &Label) -> bool {
        match (&self.0, &other.0) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || (**a).is_same(&**b),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

/// The transformations that leave the truth of a task unchanged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bears {
    /// Parts of the picture going out of sight.
    pub crop: bool,
    /// Things looking larger, smaller or otherwise proportioned.
    pub scale: bool,
    /// Whether the labels of several pictures side by side are the labels of their mosaic.
    pub joining: bool,
    /// Whether two labels have a mixture.
    pub mixing: bool,
}

/// The other tasks of a data set, by what their labels mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Only labels of the picture as a whole.
    Nothing,
    /// Boxes mark objects, which a crop may take out of the picture.
    Objects,
}

/// Label features beyond plain labels. Buffers for them are allocated only if set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LabelFeatures {
    /// Whether labels may be mixtures.
    pub mixing: Mixing,
    /// Whether annotators may have looked for some classes only.
    pub regions: Regions,
}

/// Whether a label may be a mixture of two, as mix-up makes them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Mixing {
    /// Each label is of one image.
    #[default]
    Never,
    /// Mix-up is on.
    Possible,
}

/// Whether an image may be annotated for some classes only.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Regions {
    /// All classes were looked for everywhere.
    #[default]
    Whole,
    /// Some images have regions with fewer.
    Partial,
}
