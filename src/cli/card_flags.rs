//! The flags of `polyhead card`.

use super::inputs;
use crate::console;
use crate::error::{Result, shown};
use crate::reading::shell_word;
use crate::share;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct CardArgs {
    /// A run folder or a weights file
    model: PathBuf,
    /// Write the weights and the description to this new folder, without any path of this machine
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
}

impl CardArgs {
    /// Prints the description, or writes the folder.
    pub(super) fn card(&self) -> Result<()> {
        inputs::MODEL.check(Some(&self.model))?;
        let Some(out) = &self.share else {
            return console::print(&share::card(&self.model)?).map(drop);
        };
        share::share(&self.model, out)?.iter().for_each(|note| console::say(&format!("note: {note}")));
        let weights = share::weights_in(out);
        console::print(&format!(
            "written to {}: the weights and a README.md, without paths of this machine; predict with: polyhead predict {} IMAGES…\n",
            shown(out),
            shell_word(weights.as_os_str())
        ))
        .map(drop)
    }
}
