//! Whether the host waits for every kernel on a GPU: `POLYHEAD_CUDA_SYNC`.

use crate::error::{Error, Result};

/// Whether the host waits for each launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The host continues at once; a later call reports a kernel that failed.
    Ahead,
    /// The host waits for each kernel and names one that fails.
    OneByOne,
}

impl Pace {
    /// Parses the value of `POLYHEAD_CUDA_SYNC`: `1` means one by one; `0`, empty and unset mean ahead.
    pub(super) fn of(value: Option<&str>) -> Result<Pace> {
        match value {
            None | Some("" | "0") => Ok(Pace::Ahead),
            Some("1") => Ok(Pace::OneByOne),
            Some(other) => Err(Error::Usage(format!(
                "POLYHEAD_CUDA_SYNC is {other:?}: set it to 1 to wait for every kernel, or to 0"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_one_of_two() {
        assert_eq!([None, Some(""), Some("0")].map(|v| Pace::of(v).unwrap()), [Pace::Ahead; 3]);
        assert_eq!(Pace::of(Some("1")).unwrap(), Pace::OneByOne);
        let refused = Pace::of(Some("yes")).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.to_string().contains("POLYHEAD_CUDA_SYNC is \"yes\""), "{refused}");
    }
}
