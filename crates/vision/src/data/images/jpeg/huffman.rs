//! The compressed data of a scan: removal of byte stuffing, the bit reader, and Huffman tables that decode
//! coefficients.

/// The number of bits looked up at once. Most codes fit, including their value.
const LOOKUP: u32 = 10;

/// The position of each coefficient in natural order, indexed by its position in the file.
const NATURAL: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// A table entry: the number of bits to drop, the zeros before the value, and the value or its size in bits.
///
/// Bits 0–5: length. Bit 6: the value follows in the data. Bit 7: the code is invalid or longer than the lookup. Bits
/// 8–15: zeros. Bits 16–31: the value (signed) or its size.
#[derive(Clone, Copy)]
struct Entry(u32);

const VALUE_FOLLOWS: u32 = 1 << 6;
const LONG: u32 = 1 << 7;
/// The zero count that marks an end of block; larger than any run within a block.
const END_OF_BLOCK: u32 = 128;

/// A Huffman table.
pub struct Table {
    entries: [Entry; 1 << LOOKUP],
    /// For each length, the first code that is longer, left-aligned in 16 bits, and the offset from a code to its
    /// symbol's index.
    ends: [u32; 17],
    offsets: [i32; 17],
    symbols: [u8; 256],
}

/// The coefficients that a table is for.
#[derive(Clone, Copy, PartialEq)]
pub enum Class {
    Dc,
    Ac,
}

impl Table {
    /// Builds the table from the number of codes of 1 to 16 bits and the symbols in order; `None` if they are
    /// inconsistent.
    pub fn new(class: Class, counts: &[u8; 16], given: &[u8]) -> Option<Box<Table>> {
        let mut table =
            Box::new(Table { entries: [Entry(LONG); 1 << LOOKUP], ends: [0; 17], offsets: [0; 17], symbols: [0; 256] });
        table.symbols.get_mut(..given.len())?.copy_from_slice(given);
        // Limits a code and its value to 31 bits together.
        if class == Class::Dc && given.iter().any(|&size| size > 15) {
            return None;
        }
        let (mut code, mut at) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = u32::from(counts[length as usize - 1]);
            table.offsets[length as usize] = at as i32 - code as i32;
            // A code of only ones is not allowed.
            if count > 0 && code + count >= 1 << length {
                return None;
            }
            for _ in 0..count {
                if length <= LOOKUP {
                    let symbol = *given.get(at)?;
                    let first = (code << (LOOKUP - length)) as usize;
                    for (low, entry) in table.entries[first..][..1 << (LOOKUP - length)].iter_mut().enumerate() {
                        *entry = Entry::new(class, symbol, length, low as u32);
                    }
                }
                code += 1;
                at += 1;
            }
            table.ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        (at == given.len()).then_some(table)
    }

    /// The symbol and length of a code longer than the lookup.
    #[cold]
    #[inline(never)]
    fn long(&self, bits: u64) -> Option<(u8, u32)> {
        let peeked = (bits >> 48) as u32;
        let length = (LOOKUP + 1..=16).find(|&length| peeked < self.ends[length as usize])?;
        let index = (peeked >> (16 - length)) as i32 + self.offsets[length as usize];
        Some((*self.symbols.get(usize::try_from(index).ok()?)?, length))
    }
}

impl Entry {
    /// `low` holds the lookup bits after the code of `length` bits.
    fn new(class: Class, symbol: u8, length: u32, low: u32) -> Entry {
        let (zeros, size) = split(class, symbol);
        let left = LOOKUP - length;
        if size > left {
            return Entry(length | VALUE_FOLLOWS | zeros << 8 | size << 16);
        }
        let value = if size == 0 { 0 } else { extend(low >> (left - size), size) };
        Entry((length + size) | zeros << 8 | (value as u32) << 16)
    }

    #[inline(always)]
    fn length(self) -> u32 {
        self.0 & 63
    }

    #[inline(always)]
    fn zeros(self) -> u32 {
        self.0 >> 8 & 0xFF
    }

    #[inline(always)]
    fn value(self) -> i32 {
        self.0 as i32 >> 16
    }
}

/// The number of zeros before the value, and the value's size in bits.
fn split(class: Class, symbol: u8) -> (u32, u32) {
    let symbol = u32::from(symbol);
    match (class, symbol) {
        (Class::Dc, size) => (0, size),
        // Symbol 0xF0 is a run of sixteen zeros; any other symbol without a value is an end of block.
        (Class::Ac, symbol) if symbol & 15 == 0 && symbol != 0xF0 => (END_OF_BLOCK, 0),
        (Class::Ac, symbol) => (symbol >> 4, symbol & 15),
    }
}

/// The signed value encoded by `size` bits; `size` is at least 1.
#[inline(always)]
fn extend(bits: u32, size: u32) -> i32 {
    let negative = bits >> (size - 1) ^ 1;
    bits as i32 - (((1 << size) - 1) & -(negative as i32))
}

/// A scan without stuffed bytes, split at restart markers.
pub struct Scan {
    bytes: Vec<u8>,
    /// The end of each interval between restarts in `bytes`. Padding follows each, so that eight bytes can be read from
    /// any position.
    ends: Vec<usize>,
}

/// Zero bytes after an interval: lookups may pass the last bit, and eight bytes are read at once.
const ROOM: usize = 16;

impl Scan {
    /// `None` if the data does not end with an end-of-image marker, or restart markers are out of order.
    pub fn new(data: &[u8]) -> Option<Scan> {
        let mut scan = Scan { bytes: Vec::with_capacity(data.len() + ROOM), ends: Vec::new() };
        let mut at = 0;
        loop {
            let rest = &data[at..];
            let marker = rest.iter().position(|&byte| byte == 0xFF)?;
            scan.bytes.extend_from_slice(&rest[..marker]);
            at += marker + 2;
            match data.get(at - 1)? {
                0 => scan.bytes.push(0xFF),
                0xD9 => {
                    scan.end();
                    return Some(scan);
                }
                restart @ 0xD0..=0xD7 if usize::from(restart & 7) == scan.ends.len() & 7 => scan.end(),
                _ => return None,
            }
        }
    }

    fn end(&mut self) {
        self.ends.push(self.bytes.len());
        self.bytes.resize(self.bytes.len() + ROOM, 0);
    }

    pub fn intervals(&self) -> usize {
        self.ends.len()
    }

    pub fn interval(&self, index: usize) -> Bits<'_> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] + ROOM };
        Bits { bytes: &self.bytes[start..self.ends[index] + ROOM], at: 0, buffer: 0, count: 0 }
    }
}

/// A bit reader, most significant bit first; unread bits are at the top of `buffer`.
pub struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    count: u32,
}

/// The data is not valid for a baseline JPEG.
#[derive(Debug)]
pub struct Damaged;

impl Bits<'_> {
    /// Fills the buffer to at least 56 bits.
    #[inline(always)]
    fn refill(&mut self) -> Result<(), Damaged> {
        let next = self.bytes.get(self.at..self.at + 8).ok_or(Damaged)?;
        let next: [u8; 8] = next.try_into().map_err(|_| Damaged)?;
        self.buffer |= u64::from_be_bytes(next) >> self.count;
        self.at += ((63 - self.count) >> 3) as usize;
        self.count |= 56;
        Ok(())
    }

    #[inline(always)]
    fn drop(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// Whether reading has stayed within the data.
    pub fn is_within(&self) -> bool {
        self.at * 8 - self.count as usize <= (self.bytes.len() - ROOM) * 8
    }

    /// Decodes the number of zeros before the next value, and the value.
    #[inline(always)]
    fn symbol(&mut self, table: &Table, class: Class) -> Result<(u32, i32), Damaged> {
        if self.count < 32 {
            self.refill()?;
        }
        let entry = table.entries[(self.buffer >> (64 - LOOKUP)) as usize];
        if entry.0 & (LONG | VALUE_FOLLOWS) == 0 {
            self.drop(entry.length());
            return Ok((entry.zeros(), entry.value()));
        }
        let (zeros, size) = if entry.0 & LONG == 0 {
            self.drop(entry.length());
            (entry.zeros(), entry.0 >> 16)
        } else {
            let (symbol, length) = table.long(self.buffer).ok_or(Damaged)?;
            self.drop(length);
            split(class, symbol)
        };
        if size == 0 {
            return Ok((zeros, 0));
        }
        let value = extend((self.buffer >> (64 - size)) as u32, size);
        self.drop(size);
        Ok((zeros, value))
    }

    /// Reads a block into `coefficients`, in natural order and dequantised; they must be zero before. Returns the
    /// number of coefficients filled in file order: 1 means only the mean.
    #[inline(always)]
    pub fn block(
        &mut self,
        [dc, ac]: [&Table; 2],
        previous: &mut i32,
        quantisation: &[i32; 64],
        coefficients: &mut [i32; 64],
    ) -> Result<usize, Damaged> {
        *previous = previous.wrapping_add(self.symbol(dc, Class::Dc)?.1);
        coefficients[0] = previous.wrapping_mul(quantisation[0]);
        let (mut k, mut filled) = (1u32, 1);
        while k < 64 {
            let (zeros, value) = self.symbol(ac, Class::Ac)?;
            k += zeros;
            if k > 63 {
                // Either an end of block, or a run that exceeds the block.
                return if k >= END_OF_BLOCK { Ok(filled) } else { Err(Damaged) };
            }
            coefficients[usize::from(NATURAL[k as usize]) & 63] = value.wrapping_mul(quantisation[k as usize]);
            k += 1;
            filled = k as usize;
        }
        Ok(filled)
    }

    /// Skips a block.
    #[inline(always)]
    pub fn skip(&mut self, [dc, ac]: [&Table; 2], previous: &mut i32) -> Result<(), Damaged> {
        *previous = previous.wrapping_add(self.symbol(dc, Class::Dc)?.1);
        let mut k = 1u32;
        while k < 64 {
            k += self.symbol(ac, Class::Ac)?.0 + 1;
        }
        if k > 64 && k <= END_OF_BLOCK { Err(Damaged) } else { Ok(()) }
    }
}
