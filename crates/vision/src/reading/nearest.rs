//! The path that somebody meant who wrote one that does not exist.

use super::words::nearest;
use crate::error::shown;
use std::path::{Path, PathBuf};

/// Folders with more entries are not searched.
const MOST: usize = 10_000;

/// `; did you mean `x`?` if the first part of `path` that does not exist resembles a name in its folder, otherwise empty.
pub fn did_you_mean_path(path: &Path) -> String {
    meant(path).map_or_else(String::new, |meant| format!("; did you mean `{}`?", shown(&meant)))
}

fn meant(path: &Path) -> Option<PathBuf> {
    let parent_of = |path: &'_ Path| path.parent().map(Path::to_path_buf);
    let here = |folder: &Path| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_path_buf() };
    let mut absent = path.to_path_buf();
    let mut parent = parent_of(&absent)?;
    while !here(&parent).is_dir() {
        absent = parent;
        parent = parent_of(&absent)?;
    }
    let entries = std::fs::read_dir(here(&parent)).ok()?.take(MOST + 1);
    let names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let word = absent.file_name()?.to_str()?;
    let others = names.iter().map(String::as_str).filter(|name| !name.starts_with('.') || word.starts_with('.'));
    let found = parent.join(nearest(word, others).filter(|_| names.len() <= MOST)?);
    let whole = path.strip_prefix(&absent).map(|rest| found.join(rest)).ok().filter(|whole| whole.exists());
    // Joining nothing would add a separator at the end.
    Some(whole.filter(|_| absent != path).unwrap_or(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wrong_part_is_corrected() {
        let root = std::env::temp_dir().join(format!("polyhead-nearest-{}", std::process::id()));
        std::fs::create_dir_all(root.join("runs/first")).unwrap();
        std::fs::write(root.join("runs/first/args.yaml"), "").unwrap();
        std::fs::create_dir_all(root.join(".hidden")).unwrap();
        let said = |path: &str| did_you_mean_path(&root.join(path)).replace(&*root.to_string_lossy(), "R");
        assert_eq!(said("runs/frist"), "; did you mean `R/runs/first`?");
        assert_eq!(said("run/first/args.yaml"), "; did you mean `R/runs/first/args.yaml`?");
        // The rest is not there either, so only the part that is known is named.
        assert_eq!(said("run/other"), "; did you mean `R/runs`?");
        assert_eq!(said("runs/first/arg.yaml"), "; did you mean `R/runs/first/args.yaml`?");
        assert_eq!(said("hidden"), "");
        assert_eq!(said("nothing/like/it"), "");
        std::fs::remove_dir_all(root).unwrap();
    }
}
