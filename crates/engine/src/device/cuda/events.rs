//! Events on a stream: a stream or the host can wait for them, and the time between two can be measured.

use super::driver::failed;
use crate::error::Result;
use cudarc::driver::{result, sys};

/// A point in the work of a stream.
pub(super) struct Event(sys::CUevent);

impl Event {
    pub(super) fn new() -> Result<Event> {
        result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).map(Event).map_err(failed("cuEventCreate"))
    }

    /// An event without a timestamp, which is cheaper.
    pub(super) fn untimed() -> Result<Event> {
        result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING).map(Event).map_err(failed("cuEventCreate"))
    }

    /// Blocks the host until the stream has passed the event.
    pub(super) fn wait(&self) -> Result<()> {
        // SAFETY: the event lives.
        unsafe { result::event::synchronize(self.0) }.map_err(failed("cuEventSynchronize"))
    }

    /// Makes `stream` wait until the event has passed.
    pub(super) fn block(&self, stream: sys::CUstream) -> Result<()> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: event and stream live.
        unsafe { result::stream::wait_event(stream, self.0, flags) }.map_err(failed("cuStreamWaitEvent"))
    }

    pub(super) fn record(&self, stream: sys::CUstream) -> Result<()> {
        // SAFETY: event and stream live.
        unsafe { result::event::record(self.0, stream) }.map_err(failed("cuEventRecord"))
    }

    /// Milliseconds from this event to a later one; both have passed.
    pub(super) fn until(&self, later: &Event) -> Result<f64> {
        // SAFETY: both were recorded, and the stream was waited for.
        unsafe { result::event::elapsed(self.0, later.0) }.map(f64::from).map_err(failed("cuEventElapsedTime"))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `new` and destroyed once. A failure here cannot be handled.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}
