//! The members of a tar archive.

use super::files::Shared;
use super::index::{Form, Member, normal};
use super::invalid;
use std::collections::HashMap;
use std::io;
use tar::{Archive, EntryType};

/// # Errors
/// `InvalidData` if the archive is damaged, truncated or no tar, or if a name leads out of it.
pub fn members(file: &Shared) -> io::Result<Vec<Member>> {
    let mut archive = Archive::new(file.reader());
    let mut members: Vec<Member> = Vec::new();
    let mut links = Vec::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry.map_err(|e| damaged(&e, members.last()))?;
        let name = normal(&entry.path_bytes()).map_err(invalid)?;
        let (at, length) = (entry.raw_file_position(), entry.size());
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                if at.checked_add(length).is_none_or(|end| end > file.length()) {
                    return Err(invalid(format!("truncated: the archive ends within `{name}`: copy or pack it again")));
                }
                members.push(Member { name: name.into(), at, stored: length, length, form: Form::Plain });
            }
            EntryType::Link | EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                links.push((name, target, entry.header().entry_type() == EntryType::Symlink));
            }
            EntryType::GNUSparse => {
                return Err(invalid(format!(
                    "`{name}` is stored as a sparse file, which is not read: pack it again without --sparse"
                )));
            }
            // Folders follow from the names; the rest are devices, and extensions that the reader has used.
            _ => {}
        }
    }
    if members.is_empty() && file.length() > 0 && file.length() % 512 != 0 {
        return Err(invalid("no tar archive, or one that is truncated at its beginning"));
    }
    resolve(links, &mut members)?;
    Ok(members)
}

fn damaged(error: &io::Error, last: Option<&Member>) -> io::Error {
    let after = last.map_or("at its beginning".into(), |member| format!("after `{}`", member.name));
    invalid(format!("damaged, truncated or no tar archive, {after} ({error}): copy or pack it again"))
}

/// Adds links to files of the archive as further names of them.
fn resolve(links: Vec<(String, Vec<u8>, bool)>, members: &mut Vec<Member>) -> io::Result<()> {
    if links.is_empty() {
        return Ok(());
    }
    let places: HashMap<Box<str>, (u64, u64)> =
        members.iter().map(|member| (member.name.clone(), (member.at, member.length))).collect();
    for (name, target, is_symbolic) in links {
        let target = String::from_utf8_lossy(&target).into_owned();
        // A symbolic link is relative to its own folder, a hard link to the archive.
        let whole = match (is_symbolic, name.rsplit_once('/')) {
            (true, Some((folder, _))) => joined(folder, &target),
            _ => joined("", &target),
        };
        let Some(&(at, length)) = whole.and_then(|whole| places.get(whole.as_str())) else {
            return Err(invalid(format!(
                "`{name}` is a link to `{target}`, which is no file of this archive: pack it again with the files in place of links (`tar --dereference`)"
            )));
        };
        members.push(Member { name: name.into(), at, stored: length, length, form: Form::Plain });
    }
    Ok(())
}

/// The name that `target` means in a folder of the archive; `None` if it leads out.
fn joined(folder: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    if target.starts_with('/') {
        return None;
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
