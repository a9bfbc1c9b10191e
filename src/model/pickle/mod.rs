//! Reads the tensors of a file that `torch.save` wrote. The file may come from anywhere: its pickle is interpreted by a
//! machine that runs nothing ([`machine`]), and every size it states is held to what the file holds before memory is taken.

mod machine;
mod tensors;
mod torch_file;
mod values;

use super::weights::Tensors;
use crate::error::{Error, Result};
use std::path::Path;
use torch_file::TorchFile;

/// Why a file cannot be read; decides the advice that ends the sentence.
#[derive(Debug)]
enum Fault {
    /// It contradicts itself or ends early.
    Damaged(String),
    /// It is whole but holds something else than plain tensors.
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
            Fault::Damaged(what) => format!("not a whole PyTorch file ({what}); take another copy of it"),
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
            // The zip reader says so of a wrong checksum, and of nothing else that reaches here.
            std::io::ErrorKind::InvalidData => Fault::Damaged(
                "its content does not match its checksum; a file saved with torch.serialization.set_crc32_options(False) \
                 has none and must be saved again"
                    .into(),
            ),
            _ => Fault::Io(e),
        }
    }
}

/// The tensors of a state dict, or of a training checkpoint around one.
///
/// # Errors
/// A file that is not there, damaged, or without tensors where they are looked for.
pub(super) fn read(path: &Path) -> Result<Tensors> {
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if !metadata.is_file() {
        return Err(Error::checkpoint(path, "not a file; name a file that torch.save wrote"));
    }
    let read = || {
        let mut file = TorchFile::open(path)?;
        let state_dict = tensors::state_dict(&file.pickle)?;
        tensors::read(&mut file, state_dict)
    };
    read().map_err(|fault| fault.into_error(path))
}
