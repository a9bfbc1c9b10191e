//! The members of an archive, sorted by name, and the folders that their names make.

/// A file within an archive. There may be millions.
#[derive(Debug)]
pub struct Member {
    /// Its path within the archive, with forward slashes.
    pub name: Box<str>,
    /// Where it begins: its first byte, or its header in a zip.
    pub at: u64,
    /// The bytes that it takes in the archive.
    pub stored: u64,
    /// The bytes that it has.
    pub length: u64,
    pub form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// The bytes themselves, at the place stated.
    Plain,
    /// The bytes themselves, behind a header of a zip.
    Stored,
    /// Packed with deflate, behind a header of a zip.
    Deflated,
}

/// Sorted by name.
#[derive(Debug)]
pub struct Index(Vec<Member>);

impl Index {
    /// If a name occurs several times, the last counts, as when the archive is unpacked.
    pub fn new(mut members: Vec<Member>) -> Index {
        members.reverse();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members.dedup_by(|later, first| later.name == first.name);
        members.shrink_to_fit();
        Index(members)
    }

    /// All names in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|member| &*member.name)
    }

    pub fn get(&self, name: &str) -> Option<&Member> {
        self.0.binary_search_by(|member| (*member.name).cmp(name)).ok().map(|at| &self.0[at])
    }

    /// Whether files lie below this name; the archive itself has no name.
    pub fn is_folder(&self, name: &str) -> bool {
        name.is_empty() || self.first_below(&format!("{name}/")).is_some()
    }

    fn first_below(&self, prefix: &str) -> Option<usize> {
        let at = self.0.partition_point(|member| *member.name < *prefix);
        self.0.get(at).is_some_and(|member| member.name.starts_with(prefix)).then_some(at)
    }

    /// The names directly in a folder, each with whether it is one; `None` if there is no such folder.
    pub fn entries(&self, folder: &str) -> Option<Vec<(String, bool)>> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let mut found = Vec::new();
        let Some(mut at) = self.first_below(&prefix) else {
            return folder.is_empty().then_some(found);
        };
        while let Some(rest) = self.0.get(at).and_then(|member| member.name.strip_prefix(&*prefix)) {
            let Some((inner, _)) = rest.split_once('/') else {
                found.push((rest.to_owned(), false));
                at += 1;
                continue;
            };
            // In ASCII `0` follows `/`, so this is the first name after those below the folder.
            let end = format!("{prefix}{inner}0");
            found.push((inner.to_owned(), true));
            at += self.0[at..].partition_point(|member| *member.name < *end);
        }
        Some(found)
    }
}

/// A member's name as a path below the archive: without `./` and empty parts.
///
/// Errors: it is absolute, or leads out of the archive with `..`, as a sentence.
pub fn normal(name: &[u8]) -> Result<String, String> {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        // Two such names must not become one.
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    let is_outside = text.starts_with('/') || text.split('/').any(|part| part == "..");
    if is_outside || text.contains('\0') {
        return Err(format!(
            "the member `{text}` has a name that leads out of the archive: pack it again with names below it"
        ));
    }
    if text.split('/').any(|part| part.is_empty() || part == ".") {
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        text = parts.join("/");
    }
    Ok(text)
}
