//! The members of a zip archive, from the directory at its end.

use super::files::Shared;
use super::index::{Form, Member, normal};
use super::invalid;
use std::io;
use zip::{CompressionMethod, ZipArchive};

/// # Errors
/// `InvalidData` if the archive is damaged, truncated or no zip, if members are encrypted or packed in other ways than deflate, or
/// if a name leads out of it.
pub fn members(file: &Shared) -> io::Result<Vec<Member>> {
    let archive = ZipArchive::new(file.reader())
        .map_err(|e| invalid(format!("damaged, truncated or no zip archive ({e}): copy or pack it again")))?;
    let mut members = Vec::with_capacity(archive.len());
    for number in 0..archive.len() {
        let entry = archive.by_index_data(number).map_err(|e| invalid(format!("damaged: {e}")))?;
        // Some programs of Windows write backslashes.
        let raw: Vec<u8> = entry.name_raw().iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
        let is_folder = raw.ends_with(b"/");
        let name = normal(&raw).map_err(invalid)?;
        if is_folder || entry.is_dir() {
            continue;
        }
        if entry.encrypted() {
            return Err(invalid(format!("`{name}` is encrypted: unpack it with its password and give the folder")));
        }
        if entry.is_symlink() {
            return Err(invalid(format!("`{name}` is a link: pack it again with the file in its place")));
        }
        let form = match entry.compression() {
            CompressionMethod::Stored => Form::Stored,
            CompressionMethod::DEFLATE => Form::Deflated,
            method => {
                return Err(invalid(format!(
                    "`{name}` is packed with {method}, which is not read: pack it again with deflate or without compression"
                )));
            }
        };
        let (stored, length) = (entry.compressed_size(), entry.size());
        if form == Form::Stored && stored != length {
            return Err(invalid(format!("damaged: `{name}` has two sizes, {stored} and {length}")));
        }
        if entry.header_start().checked_add(stored).is_none_or(|end| end > file.length()) {
            return Err(invalid(format!("truncated: the archive ends within `{name}`: copy or pack it again")));
        }
        members.push(Member { name: name.into(), at: entry.header_start(), stored, length, form });
    }
    Ok(members)
}

/// Where a member's bytes begin, behind its header.
pub fn data_of(file: &Shared, member: &Member) -> io::Result<u64> {
    const HEADER: usize = 30;
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, member.at)?;
    if !header.starts_with(b"PK\x03\x04") {
        return Err(invalid("damaged: the archive's directory points to something else"));
    }
    let size = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let at = member.at + HEADER as u64 + size(26) + size(28);
    match at.checked_add(member.stored).is_some_and(|end| end <= file.length()) {
        true => Ok(at),
        false => Err(invalid("truncated: the archive ends within this file")),
    }
}
