//! The stack machine that reads a pickle: the instructions that Python's pickler writes in protocols 2 to 5. It imports
//! and executes nothing. A call is recorded if tensors need it ([`Global`]), and yields an opaque value otherwise.

use super::Fault;
use super::values::{Global, Id, OPAQUE, Pickle, Storage, StorageView, Value};
use std::collections::HashMap;
use std::io::{BufRead, Read};

/// Every instruction makes at most one value of 24 bytes and stores it at most once, so this many take about 200 MB.
/// ResNet-50 with AdamW's state needs 26,154.
const MOST_INSTRUCTIONS: usize = 4_000_000;

/// A longer text cannot be a parameter's name; it is skipped, and its value is opaque.
const LONGEST_TEXT: u64 = 1024;

const NEWEST_PROTOCOL: u64 = 5;

/// Reads one pickle, and leaves `input` after its last byte.
///
/// # Errors
/// The pickle ends early, is inconsistent, or is longer than [`MOST_INSTRUCTIONS`].
pub fn run(input: &mut impl BufRead) -> Result<Pickle, Fault> {
    let mut machine = Machine {
        input,
        position: 0,
        left: MOST_INSTRUCTIONS,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        pickle: Pickle { values: vec![Value::Opaque], root: OPAQUE, storages: Vec::new(), storage_of: HashMap::new() },
    };
    while machine.step()? {}
    machine.pickle.root = machine.pop()?;
    Ok(machine.pickle)
}

struct Machine<'a, R> {
    input: &'a mut R,
    /// Bytes read so far.
    position: u64,
    /// Instructions that are still allowed.
    left: usize,
    stack: Vec<Id>,
    /// The heights of the stack at which groups begin.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    pickle: Pickle,
}

impl<R: BufRead> Machine<'_, R> {
    /// Runs one instruction, named as in Python's pickletools; false at the last one.
    fn step(&mut self) -> Result<bool, Fault> {
        self.charge(1)?;
        let [instruction] = self.bytes()?;
        match instruction {
            /* STOP */ b'.' => return Ok(false),
            /* PROTO */ 0x80 => self.protocol()?,
            /* FRAME */ 0x95 => self.frame()?,

            /* MARK */ b'(' => self.marks.push(self.stack.len()),
            /* POP, of a mark where one is on top */ b'0' => self.discard()?,
            /* POP_MARK */ b'1' => drop(self.take(None)?),
            /* BINPUT */ b'q' => self.keep::<1>()?,
            /* LONG_BINPUT */ b'r' => self.keep::<4>()?,
            /* MEMOIZE */ 0x94 => self.keep_next()?,
            /* BINGET */ b'h' => self.recall::<1>()?,
            /* LONG_BINGET */ b'j' => self.recall::<4>()?,

            /* NONE */ b'N' => self.push(Value::None),
            /* NEWTRUE, NEWFALSE */ 0x88 | 0x89 => self.stack.push(OPAQUE),
            /* BININT1 */ b'K' => self.unsigned::<1>()?,
            /* BININT2 */ b'M' => self.unsigned::<2>()?,
            /* BININT */ b'J' => self.signed(4)?,
            /* LONG1 */ 0x8a => self.long::<1>()?,
            /* LONG4 */ 0x8b => self.long::<4>()?,
            /* INT, which Python 2 writes beyond 32 bits */ b'I' => self.decimal()?,
            /* BINFLOAT */ b'G' => self.skip(8)?,
            /* SHORT_BINUNICODE, SHORT_BINSTRING */ 0x8c | b'U' => self.text::<1>()?,
            /* BINUNICODE, BINSTRING */ b'X' | b'T' => self.text::<4>()?,
            /* BINUNICODE8 */ 0x8d => self.text::<8>()?,
            /* SHORT_BINBYTES */ b'C' => self.skip_counted::<1>()?,
            /* BINBYTES */ b'B' => self.skip_counted::<4>()?,
            /* BINBYTES8, BYTEARRAY8 */ 0x8e | 0x96 => self.skip_counted::<8>()?,

            /* EMPTY_TUPLE */ b')' => self.tuple(Some(0))?,
            /* TUPLE1, TUPLE2, TUPLE3 */ 0x85..=0x87 => self.tuple(Some(instruction - 0x84))?,
            /* TUPLE */ b't' => self.tuple(None)?,
            /* EMPTY_LIST */ b']' => self.push(Value::List(Vec::new())),
            /* APPEND */ b'a' => self.append(Some(1))?,
            /* APPENDS */ b'e' => self.append(None)?,
            /* EMPTY_DICT */ b'}' => self.push(Value::Dict(Vec::new())),
            /* SETITEM */ b's' => self.insert(Some(2))?,
            /* SETITEMS */ b'u' => self.insert(None)?,
            /* EMPTY_SET */ 0x8f => self.stack.push(OPAQUE),
            /* ADDITEMS */ 0x90 => self.append(None)?,
            /* FROZENSET */ 0x91 => self.frozen_set()?,

            /* GLOBAL */ b'c' => self.global_by_lines()?,
            /* STACK_GLOBAL */ 0x93 => self.global_by_texts()?,
            /* REDUCE, NEWOBJ */ b'R' | 0x81 => self.call()?,
            /* NEWOBJ_EX */ 0x92 => self.call_by_keyword()?,
            /* BUILD */ b'b' => self.build()?,
            /* BINPERSID */ b'Q' => self.persistent()?,
            other => {
                return self.wrong(&format!("there is instruction 0x{other:02x}, which torch.save does not write"));
            }
        }
        Ok(true)
    }

    fn wrong<T>(&self, what: &str) -> Result<T, Fault> {
        Fault::damaged(format!("up to byte {} of its pickle, {what}", self.position))
    }

    fn charge(&mut self, instructions: usize) -> Result<(), Fault> {
        match self.left.checked_sub(instructions) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Fault::foreign(format!("its pickle takes more than {MOST_INSTRUCTIONS} instructions")),
        }
    }

    fn protocol(&mut self) -> Result<(), Fault> {
        match self.number::<1>()? {
            ..=NEWEST_PROTOCOL => Ok(()),
            newer => Fault::foreign(format!("its pickle is of protocol {newer}, known are 2 to {NEWEST_PROTOCOL}")),
        }
    }

    /// Reads and ignores the number of following bytes, which only helps readers that read them at once.
    fn frame(&mut self) -> Result<(), Fault> {
        self.number::<8>().map(drop)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        self.input.read_exact(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    /// An operand of `N` bytes: a length or a key.
    fn number<const N: usize>(&mut self) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        self.read(&mut bytes[..N])?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Skips bytes whose value is not needed.
    fn skip(&mut self, len: u64) -> Result<(), Fault> {
        let skipped = std::io::copy(&mut self.input.by_ref().take(len), &mut std::io::sink())?;
        self.position += skipped;
        self.stack.push(OPAQUE);
        if skipped == len { Ok(()) } else { Fault::damaged("it ends early") }
    }

    fn skip_counted<const N: usize>(&mut self) -> Result<(), Fault> {
        let len = self.number::<N>()?;
        self.skip(len)
    }

    fn line(&mut self) -> Result<String, Fault> {
        let mut line = Vec::new();
        self.input.by_ref().take(LONGEST_TEXT).read_until(b'\n', &mut line)?;
        self.position += line.len() as u64;
        match line.pop() {
            Some(b'\n') => Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()),
            _ => self.wrong("a line has no end"),
        }
    }

    fn text<const N: usize>(&mut self) -> Result<(), Fault> {
        let len = self.number::<N>()?;
        if len > LONGEST_TEXT {
            return self.skip(len);
        }
        let mut bytes = vec![0; len as usize];
        self.read(&mut bytes)?;
        self.push(String::from_utf8(bytes).map_or(Value::Opaque, |text| Value::Text(text.into())));
        Ok(())
    }

    fn unsigned<const N: usize>(&mut self) -> Result<(), Fault> {
        let value = self.number::<N>()?;
        self.push(i64::try_from(value).map_or(Value::Opaque, Value::Int));
        Ok(())
    }

    fn long<const N: usize>(&mut self) -> Result<(), Fault> {
        let len = self.number::<N>()?;
        self.signed(len)
    }

    /// An integer of `len` bytes in two's complement; opaque beyond 64 bits.
    fn signed(&mut self, len: u64) -> Result<(), Fault> {
        if len > 8 {
            return self.skip(len);
        }
        let mut bytes = [0; 8];
        let (used, rest) = bytes.split_at_mut(len as usize);
        self.read(used)?;
        if used.last().is_some_and(|&high| high >= 0x80) {
            rest.fill(0xff);
        }
        self.push(Value::Int(i64::from_le_bytes(bytes)));
        Ok(())
    }

    fn decimal(&mut self) -> Result<(), Fault> {
        let value = self.line()?.parse().map_or(Value::Opaque, Value::Int);
        self.push(value);
        Ok(())
    }

    fn push(&mut self, value: Value) {
        // The cast is exact: there are at most as many values as instructions.
        self.stack.push(self.pickle.values.len() as Id);
        self.pickle.values.push(value);
    }

    fn top(&self) -> Result<Id, Fault> {
        // Values below the last mark belong to an unfinished group.
        match self.stack.last() {
            Some(&top) if self.stack.len() > self.marks.last().copied().unwrap_or(0) => Ok(top),
            _ => self.wrong("an instruction takes more values than there are"),
        }
    }

    fn pop(&mut self) -> Result<Id, Fault> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// Pops the topmost `count` values, or those of the last group.
    fn take(&mut self, count: Option<u8>) -> Result<Vec<Id>, Fault> {
        let ground = self.marks.last().copied().unwrap_or(0);
        let from = match count {
            Some(count) => self.stack.len().checked_sub(count.into()).filter(|&from| from >= ground),
            None => self.marks.pop(),
        };
        match from {
            Some(from) => Ok(self.stack.split_off(from)),
            None if count.is_some() => self.wrong("an instruction takes more values than there are"),
            None => self.wrong("a group ends that never began"),
        }
    }

    fn discard(&mut self) -> Result<(), Fault> {
        match self.marks.pop_if(|mark| *mark == self.stack.len()) {
            Some(_) => Ok(()),
            None => self.pop().map(drop),
        }
    }

    fn keep<const N: usize>(&mut self) -> Result<(), Fault> {
        let (key, top) = (self.number::<N>()?, self.top()?);
        self.memo.insert(key, top);
        Ok(())
    }

    fn keep_next(&mut self) -> Result<(), Fault> {
        let (key, top) = (self.memo.len() as u64, self.top()?);
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall<const N: usize>(&mut self) -> Result<(), Fault> {
        let key = self.number::<N>()?;
        let Some(&value) = self.memo.get(&key) else { return self.wrong("a value is recalled that was not stored") };
        self.stack.push(value);
        Ok(())
    }

    fn tuple(&mut self, count: Option<u8>) -> Result<(), Fault> {
        let items = self.take(count)?;
        self.push(Value::Tuple(items.into()));
        Ok(())
    }

    /// Appends to a list. A set or another opaque value stays opaque.
    fn append(&mut self, count: Option<u8>) -> Result<(), Fault> {
        let (items, list) = (self.take(count)?, self.top()?);
        match &mut self.pickle.values[list as usize] {
            Value::List(list) => list.extend(items),
            Value::Opaque => {}
            _ => return self.wrong("something is appended to a value that is not a list"),
        }
        Ok(())
    }

    fn insert(&mut self, count: Option<u8>) -> Result<(), Fault> {
        let (items, dict) = (self.take(count)?, self.top()?);
        let (pairs, []) = items.as_chunks::<2>() else { return self.wrong("a key has no value") };
        match &mut self.pickle.values[dict as usize] {
            Value::Dict(entries) => entries.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Value::Opaque => {}
            _ => return self.wrong("an entry is set on a value that is not a dict"),
        }
        Ok(())
    }

    fn frozen_set(&mut self) -> Result<(), Fault> {
        self.take(None)?;
        self.stack.push(OPAQUE);
        Ok(())
    }

    fn global_by_lines(&mut self) -> Result<(), Fault> {
        let (module, name) = (self.line()?, self.line()?);
        self.push(Value::Global(Global::named(&module, &name)));
        Ok(())
    }

    fn global_by_texts(&mut self) -> Result<(), Fault> {
        let (name, module) = (self.pop()?, self.pop()?);
        let (Value::Text(module), Value::Text(name)) = (self.pickle.value(module), self.pickle.value(name)) else {
            return self.wrong("a class name is not text");
        };
        self.push(Value::Global(Global::named(module, name)));
        Ok(())
    }

    /// Nothing here takes keyword arguments.
    fn call_by_keyword(&mut self) -> Result<(), Fault> {
        self.pop()?;
        self.call()
    }

    /// Sets attributes, which neither tensors nor dicts need.
    fn build(&mut self) -> Result<(), Fault> {
        self.pop()?;
        self.top().map(drop)
    }

    /// Pops a callable and its arguments; pushes a value that tensors need, or an opaque one.
    fn call(&mut self) -> Result<(), Fault> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let (Value::Global(global), Value::Tuple(items)) = (self.pickle.value(callable), self.pickle.value(arguments))
        else {
            self.stack.push(OPAQUE);
            return Ok(());
        };
        match global {
            Global::RebuildTensor => self.push(Value::Tensor(arguments)),
            Global::RebuildFromType => match **items {
                [rebuild, _, arguments, ..]
                    if matches!(self.pickle.value(rebuild), Value::Global(Global::RebuildTensor)) =>
                {
                    self.push(Value::Tensor(arguments));
                }
                _ => self.stack.push(OPAQUE),
            },
            Global::First => self.stack.push(items.first().copied().unwrap_or(OPAQUE)),
            Global::Dict => {
                let entries = self.entries_of(items.first().copied())?;
                self.push(Value::Dict(entries));
            }
            Global::Storage(_) | Global::Other => self.stack.push(OPAQUE),
        }
        Ok(())
    }

    /// Python 2 writes an OrderedDict as a call with a list of pairs; other versions call it without arguments and fill
    /// it later.
    fn entries_of(&mut self, argument: Option<Id>) -> Result<Vec<(Id, Id)>, Fault> {
        let Some(list) = argument.filter(|&id| matches!(self.pickle.value(id), Value::List(_))) else {
            return Ok(Vec::new());
        };
        // Many calls may copy the same list, so every copied pair counts as an instruction.
        self.charge(self.pickle.items(list).len())?;
        let pair = |&item: &Id| match *self.pickle.items(item) {
            [key, value] => Some((key, value)),
            _ => None,
        };
        match self.pickle.items(list).iter().map(pair).collect() {
            Some(entries) => Ok(entries),
            None => self.wrong("a dict is made from items that are not pairs"),
        }
    }

    /// Pops a reference to an object outside the pickle: a storage, or a module's source code, which is ignored.
    fn persistent(&mut self) -> Result<(), Fault> {
        let reference = self.pop()?;
        let text = |id: Id| match self.pickle.value(id) {
            Value::Text(text) => Some(&**text),
            _ => None,
        };
        let (class, key, len, view) = match *self.pickle.items(reference) {
            [kind, ..] if text(kind) == Some("module") => {
                self.stack.push(OPAQUE);
                return Ok(());
            }
            [kind, class, key, _, len, ref view @ ..] if text(kind) == Some("storage") => {
                (class, key, len, view.first())
            }
            _ => return self.wrong("a reference is not to a storage"),
        };
        let &Value::Global(Global::Storage(element)) = self.pickle.value(class) else {
            return self.wrong("a reference is to a storage of an unknown type");
        };
        let number = |id: Id| match self.pickle.value(id) {
            Value::Int(n) => u64::try_from(*n).ok(),
            _ => None,
        };
        // A view is (its own key, offset, length), or None.
        let offset = match view.map(|&view| self.pickle.items(view)) {
            Some(&[_, offset, _]) => number(offset),
            _ => Some(0),
        };
        let (Some(key), Some(len), Some(offset)) = (text(key), number(len), offset) else {
            return self.wrong("a storage has no name or no length");
        };
        let storage = match self.pickle.storage_of.get(key) {
            Some(&known) => known,
            None => self.pickle.storages.len(),
        };
        match self.pickle.storages.get(storage) {
            Some(known) if known.element == element && known.len == len => {}
            Some(_) => return self.wrong(&format!("storage `{key}` is described in another way than before")),
            None => {
                let key: Box<str> = key.into();
                self.pickle.storages.push(Storage { key: key.clone(), element, len });
                self.pickle.storage_of.insert(key, storage);
            }
        }
        self.push(Value::Storage(StorageView { storage, offset }));
        Ok(())
    }
}
