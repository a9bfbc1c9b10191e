//! Reads the tensors of a file that `torch.save` wrote. The file may be hostile: its pickle is interpreted by a machine
//! that executes nothing ([`machine`]), and every stated size is checked against the file before memory is allocated.

mod machine;
mod tensors;
mod torch_file;
mod values;

use super::weights::Tensors;
use crate::error::{Error, Result};
use std::path::Path;
use torch_file::TorchFile;
pub(super) use torch_file::{HEAD, begins};

/// The reason why a file cannot be read. It determines the advice in the error message.
#[derive(Debug)]
enum Fault {
    /// The file is inconsistent or ends early.
    Damaged(String),
    /// The file is complete but contains something other than plain tensors.
    Foreign(String),
    Io(std::io::Error),
}

impl Fault {
    fn damaged<T>(what: impl Into<String>) -> Result<T, Fault> {
        Err(Fault::Damaged(what.into()))
    }

    fn foreign<T>(what: impl Into<String>) -> Result<T, Fault> {
        Err(Fault::Foreign(what.into()))
    }

    fn into_error(self, path: &Path) -> Error {
        let sentence = match self {
            Fault::Damaged(what) => format!("not a complete PyTorch file ({what}); use another copy of it"),
            Fault::Foreign(what) => {
                format!("not a PyTorch state dict ({what}); save it with torch.save(model.state_dict(), …)")
            }
            Fault::Io(e) => return Error::io("read", path)(e),
        };
        Error::checkpoint(path, crate::error::one_line(&sentence))
    }
}

impl From<std::io::Error> for Fault {
    fn from(e: std::io::Error) -> Self {
        match e.kind() {
            std::io::ErrorKind::UnexpectedEof => Fault::Damaged("it ends early".into()),
            // The zip reader only returns this for a wrong checksum.
            std::io::ErrorKind::InvalidData => Fault::Damaged(
                "its content does not match its checksum; a file saved with torch.serialization.set_crc32_options(False) \
                 has none and must be saved again"
                    .into(),
            ),
            _ => Fault::Io(e),
        }
    }
}

/// The tensors of a state dict, or of a training checkpoint that contains one, and a note on the keys it was found under.
///
/// # Errors
/// The file is missing or damaged, or has no tensors in the expected places.
pub(super) fn read(path: &Path) -> Result<(Tensors, Vec<String>)> {
    let read = || -> Result<_, Fault> {
        let mut file = TorchFile::open(path)?;
        let (state_dict, keys) = tensors::state_dict(&file.pickle)?;
        let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
        let note = format!("the weights are taken from {} of the weights file", keys.join(" in "));
        Ok((tensors::read(&mut file, state_dict)?, if keys.is_empty() { Vec::new() } else { vec![note] }))
    };
    read().map_err(|fault| fault.into_error(path))
}
