//! The hash functions behind all random numbers. Streams of draws are keyed by their purpose, so that no draw depends on which
//! thread makes it or in which order. The streams themselves are defined where they are used.
//!
//! The values never change, because a run that is repeated or resumed must draw the same numbers.

/// The step of SplitMix64's counter: 2⁶⁴ divided by the golden ratio, made odd.
pub const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finaliser: every bit of the result depends on every bit of `z`. It maps 0 to 0.
///
/// Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", figure 17.
#[inline(always)]
pub fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Draw number `index`, from 0, of the SplitMix64 generator that starts at state 0.
#[inline(always)]
pub fn draw(index: u64) -> u64 {
    mix(index.wrapping_add(1).wrapping_mul(GAMMA))
}

/// The 64-bit FNV-1a hash of a text or of bytes. Similar texts have similar hashes, which [`mix`] spreads apart.
///
/// Source: Fowler, Noll & Vo, <http://www.isthe.com/chongo/tech/comp/fnv/>.
pub fn fnv(text: impl AsRef<[u8]>) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    text.as_ref().iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_the_published_ones() {
        // The first outputs of Vigna's splitmix64.c for the seed 0.
        let published = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f, 0xf88b_b8a8_724c_81ec];
        assert_eq!([0, 1, 2, 3].map(draw), published);
        assert_eq!((mix(0), mix(GAMMA)), (0, published[0]));
        // From the test vectors of FNV's authors.
        let vectors = [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)];
        for (text, hash) in vectors {
            assert_eq!(fnv(text), hash, "{text}");
        }
    }
}
