//! The tree of a YAML file: its values, the line of every key, and the words that numbers, flags and nulls were written as.
//! A class that is called `True` or `1e3` keeps its name.

use super::yaml::{Fault, Mapping, Value, word};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::collections::HashMap;
use std::fmt;

/// The line of every key of a block, including nested keys, and the words of its scalars that are no text.
#[derive(Debug, Default)]
pub struct Lines {
    keys: HashMap<String, (usize, Lines)>,
    /// The words of a list's numbers, flags and nulls by their position, which ascends.
    items: Vec<(usize, Written)>,
    /// The word of the value itself, if it is a number, a flag or null.
    own: Option<Written>,
}

/// A scalar as the file writes it.
#[derive(Debug)]
enum Written {
    /// The range of its bytes in the file.
    At(usize, usize),
    Word(Box<str>),
}

/// A parsed file.
#[derive(Debug)]
pub struct Tree {
    /// The file's value, with each alias replaced by the value it refers to.
    pub value: Value,
    /// The line of every key.
    pub lines: Lines,
}

impl Lines {
    /// The line of the key at the end of the path `at`; if that key is missing, of the deepest key on the path that
    /// exists.
    pub fn of(&self, at: &[impl AsRef<str>]) -> Option<usize> {
        let (key, below) = at.split_first()?;
        let (line, lines) = self.keys.get(key.as_ref())?;
        lines.of(below).or(Some(*line))
    }

    /// The number, flag or null at the end of the path as the file writes it, or the item of this position in the list there.
    pub fn word(&self, at: &[impl AsRef<str>], item: Option<usize>) -> Option<&str> {
        if let Some((key, below)) = at.split_first() {
            return self.keys.get(key.as_ref())?.1.word(below, item);
        }
        let written = match item {
            None => self.own.as_ref()?,
            Some(item) => &self.items[self.items.binary_search_by_key(&item, |(at, _)| *at).ok()?].1,
        };
        match written {
            Written::At(..) => None,
            Written::Word(word) => Some(word),
        }
    }

    /// Takes the words from the text of the file.
    pub(super) fn take_words(&mut self, text: &str) {
        let every = self.own.iter_mut().chain(self.items.iter_mut().map(|(_, written)| written));
        for written in every {
            let Written::At(start, end) = *written else { continue };
            // The parser may count bytes from elsewhere, such as after a byte order mark. Such a scalar is one word.
            let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || "+-.~".contains(c));
            if let Some(word) = text.get(start..end).map(str::trim).filter(is_word) {
                *written = Written::Word(word.into());
            }
        }
        self.keys.values_mut().for_each(|(_, lines)| lines.take_words(text));
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Tree, D::Error> {
        from.deserialize_any(TreeVisitor)
    }
}

/// The place of a value that is not text but stands for itself.
fn place(tree: &Spanned<Tree>) -> Option<Written> {
    let is_plain = matches!(tree.value.value, Value::Null | Value::Bool(_) | Value::Number(_));
    let span = tree.defined.span();
    let (start, length) = (span.byte_offset()? as usize, span.byte_len()? as usize);
    is_plain.then_some(Written::At(start, start + length))
}

struct TreeVisitor;

impl TreeVisitor {
    fn leaf<E>(value: impl Into<Value>) -> Result<Tree, E> {
        Ok(Tree { value: value.into(), lines: Lines::default() })
    }
}

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word, a number, a list or a block")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Tree, E> {
        Self::leaf(flag)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Self::leaf(number)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Self::leaf(number)
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Self::leaf(number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Self::leaf(text)
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Self::leaf(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let (mut values, mut lines) = (Vec::new(), Lines::default());
        while let Some(item) = list.next_element::<Spanned<Tree>>()? {
            lines.items.extend(place(&item).map(|written| (values.len(), written)));
            values.push(item.value.value);
        }
        Ok(Tree { value: values.into(), lines })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let (mut block, mut lines) = (Mapping::new(), Lines::default());
        while let Some(key) = map.next_key::<Spanned<Tree>>()? {
            let line = key.referenced.line() as usize;
            let Some(name) = word(&key.value.value) else {
                let what = if key.value.value.is_null() { "empty" } else { "a list or block" };
                return Err(Fault::found(line, &format!("a key is {what} where a word was expected")));
            };
            if let Some((first, _)) = lines.keys.get(&name) {
                let sentence = format!("the key `{name}` is there twice, in lines {first} and {line}");
                return Err(Fault::found(line, &sentence));
            }
            let mut item = map.next_value::<Spanned<Tree>>()?;
            item.value.lines.own = place(&item);
            block.insert(name.clone(), item.value.value);
            lines.keys.insert(name, (line, item.value.lines));
        }
        Ok(Tree { value: Value::Object(block), lines })
    }
}
