//! Equality of trait objects.

use std::any::Any;
use std::fmt::Debug;

/// The common abilities of this module's trait objects: comparison, debug output and downcasting.
pub trait Same: Any + Debug + Send + Sync {
    /// Whether `other` is of the same type and equal.
    fn is_same(&self, other: &dyn Any) -> bool;
}

impl<T: Any + Debug + PartialEq + Send + Sync> Same for T {
    fn is_same(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<T>() == Some(self)
    }
}
