//! The pictures that belong together, such as those of one patient: by a column, or by a pattern of the file name.

use super::TaskDeclaration;
use crate::reading::Place;

/// The declaration of groups, whose images are never divided between training and validation.
#[derive(Clone, Debug)]
pub struct Grouping {
    pub by: GroupedBy,
    /// The value of `group:` as written.
    pub written: String,
    pub place: Place,
}

/// How an image's group is found.
#[derive(Clone, Debug)]
pub enum GroupedBy {
    /// A column, read like a task of one class.
    Column(Box<TaskDeclaration>),
    Name(Pattern),
}

/// A pattern of names, such as `(*)_*.jpg`: `*` stands for any characters but `/`, `?` for one, and what the part in parentheses
/// stands for is the group.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    before: Vec<char>,
    inside: Vec<char>,
    after: Vec<char>,
}

impl Pattern {
    /// An error is a sentence.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let parts = text.split_once('(').and_then(|(before, rest)| Some((before, rest.split_once(')')?)));
        let parts = parts.map(|(before, (inside, after))| [before, inside, after]);
        let [before, inside, after] = parts
            .filter(|parts| !parts[1].is_empty() && !parts.iter().any(|part| part.contains(['(', ')'])))
            .ok_or_else(|| {
                format!("`group: {text}` needs one pair of parentheses around what names the group, as in `(*)_*.jpg`")
            })?
            .map(|part| part.chars().collect());
        Ok(Pattern { before, inside, after })
    }

    /// The group of an image by its name relative to the data set: the shortest text that fits the parentheses. A pattern
    /// without `/` is compared with the last part of the name.
    pub fn group_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        let whole = [&self.before, &self.inside, &self.after].iter().any(|part| part.contains(&'/'));
        let name = if whole { name } else { name.rsplit('/').next().unwrap_or(name) };
        let ends = || name.char_indices().map(|(at, _)| at).chain([name.len()]);
        let starts = ends().filter(|start| fits(&self.before, &name[..*start]));
        let mut places = starts.flat_map(|start| ends().filter(move |end| *end >= start).map(move |end| (start, end)));
        let (start, end) =
            places.find(|(start, end)| fits(&self.inside, &name[*start..*end]) && fits(&self.after, &name[*end..]))?;
        Some(&name[start..end])
    }
}

/// Whether the whole text fits a pattern without parentheses.
fn fits(pattern: &[char], text: &str) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return text.is_empty() };
    let mut chars = text.chars();
    match first {
        '*' => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            let mut within = ends.take_while(|end| !text[..*end].contains('/'));
            within.any(|end| fits(rest, &text[end..]))
        }
        '?' => chars.next().is_some_and(|c| c != '/') && fits(rest, chars.as_str()),
        c => chars.next() == Some(*c) && fits(rest, chars.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_in_parentheses_names_the_group() {
        let of = |pattern: &str, name: &str| Pattern::parse(pattern).unwrap().group_of(name).map(str::to_owned);
        assert_eq!(of("(*)_*", "train/p1_left_3.jpg").as_deref(), Some("p1"));
        assert_eq!(of("*-(*).jpg", "a/x-y-z.jpg").as_deref(), Some("y-z"));
        assert_eq!(of("scan(??)*", "scan07b.png").as_deref(), Some("07"));
        // With a slash it is compared with the whole name, and no star crosses one.
        assert_eq!(of("(*)/*", "p1/a.jpg").as_deref(), Some("p1"));
        assert_eq!(of("(*)/*", "cat/p1/a.jpg"), None);
        assert_eq!(of("*/(*)/*", "cat/p1/a.jpg").as_deref(), Some("p1"));
        assert_eq!(of("(*)_*", "plain.jpg"), None);
        assert_eq!(of("(é*)é*", "xé"), None);
        assert_eq!(of("(*)é*", "aé1").as_deref(), Some("a"));
        for wrong in ["*_*", "()_*", "(a)(b)", "(a", "((a))"] {
            assert!(Pattern::parse(wrong).unwrap_err().contains("one pair of parentheses"), "{wrong}");
        }
    }
}
