//! Equality of values that are known only by an interface.

use std::any::Any;
use std::fmt::Debug;

/// The abilities of every value behind an interface of this room: to be compared, debugged, and told apart by its type.
pub trait Same: Any + Debug + Send + Sync {
    /// Whether `other` is of the same type and equal.
    fn is_same(&self, other: &dyn Any) -> bool;
}

impl<T: Any + Debug + PartialEq + Send + Sync> Same for T {
    fn is_same(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<T>() == Some(self)
    }
}
