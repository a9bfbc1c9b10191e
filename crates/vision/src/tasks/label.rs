//! A label as the data modules see it: a value that moves with the pixels and is otherwise opaque.

use super::Boxes;
use super::same::Same;
use crate::boxes::Xyxy;
use crate::geometry::PixelMap;
use std::any::Any;
use std::sync::Arc;

/// The label of one image for one task, or none. An image in which annotators found nothing is labelled: its label is
/// an empty value. Images with equal labels may share the value.
#[derive(Clone, Debug)]
pub struct Label(Option<Arc<dyn LabelValue>>);

/// The operations on labels of every kind. A method that returns `None` leaves the label unchanged.
pub trait LabelValue: Same {
    /// The label after its picture is moved by `map`.
    fn moved(&self, _map: &dyn PixelMap) -> Option<Label> {
        None
    }

    /// The label after a part of the picture was made grey.
    fn hidden(&self, _part: &Xyxy) -> Option<Label> {
        None
    }

    /// The label of a mosaic of several pictures; `others` are the labels of the other pictures.
    fn joined(&self, _others: &[&Label]) -> Option<Label> {
        None
    }

    /// The label of two blended pictures, in which this one has weight `share`.
    fn mixed(&self, _other: &Label, _share: f32) -> Option<Label> {
        None
    }

    /// The label clipped to a picture of this width and height.
    fn clipped(&self, _size: [f32; 2]) -> Option<Clipped> {
        None
    }

    /// The classes that the image shows, each once; `None` for a label without classes.
    fn classes(&self) -> Option<Vec<usize>> {
        None
    }

    /// The number of objects that the loss uses; `None` if the label describes the picture as a whole.
    fn objects(&self) -> Option<usize> {
        None
    }

    /// Whether the image was annotated for some classes only.
    fn is_partial(&self) -> bool {
        false
    }

    /// Its boxes, for layouts that store boxes.
    fn boxes(&self) -> Option<&Boxes> {
        None
    }
}

/// A clipped label and the number of boxes that changed.
#[derive(Clone, Debug)]
pub struct Clipped {
    /// The label after its boxes were clipped.
    pub label: Label,
    /// Boxes that extended beyond the picture.
    pub clipped: usize,
    /// Boxes that were wholly outside and were removed.
    pub outside: usize,
}

impl Label {
    /// The label of an image nobody has labelled.
    pub const UNLABELLED: Label = Label(None);

    /// A label with this value.
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

    /// The kind's own type; `None` for an unlabelled image.
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

/// The transformations that do not change the correct label of a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Invariances {
    /// Whether parts of the picture may be cropped away or hidden.
    pub crop: bool,
    /// Whether objects may appear larger, smaller or stretched.
    pub scale: bool,
    /// Whether the labels of several pictures can be joined into the label of their mosaic.
    pub joining: bool,
    /// Whether two labels can be mixed, as mix-up does.
    pub mixing: bool,
}

/// The content that the labels of a data set's other tasks describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherTasks {
    /// Only the picture as a whole.
    WholeImage,
    /// Objects, as boxes. A crop may remove them from the picture.
    Objects,
}

/// Label features beyond plain labels. Buffers for them are allocated only if set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LabelFeatures {
    /// Whether labels may be mixtures.
    pub mixing: Mixing,
    /// Whether images may be annotated for some classes only.
    pub regions: Regions,
}

/// Whether a label may be a mixture of two, as mix-up produces.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Mixing {
    /// Every label belongs to one image.
    #[default]
    Never,
    /// Mix-up is on.
    Possible,
}

/// Whether an image may be annotated for some classes only.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Regions {
    /// Annotators looked for all classes everywhere.
    #[default]
    Whole,
    /// Some images have regions in which only some classes were looked for.
    Partial,
}
