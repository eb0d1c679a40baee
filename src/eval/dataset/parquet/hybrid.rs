//! Parquet's mix of runs and bit-packed groups, for levels and for indices of a dictionary.

use super::thrift::varint;

/// Reads `n` numbers of `width` bits (at most 32). `None` if the bytes do not hold as many.
///
/// Each part begins with a number: an even one is twice the length of a run of one value, an odd
/// one is twice the count of groups of eight values, packed from the lowest bit on, plus one.
pub(super) fn read(mut bytes: &[u8], width: u32, n: usize) -> Option<Vec<u32>> {
    if width > 32 {
        return None;
    }
    let mut values = Vec::with_capacity(n);
    while values.len() < n {
        let head = varint(&mut bytes)?;
        let left = n.saturating_sub(values.len());
        let count = usize::try_from(head >> 1).ok().filter(|count| *count > 0)?;
        if head & 1 == 0 {
            let (value, rest) = bytes.split_at_checked(width.div_ceil(8) as usize)?;
            bytes = rest;
            let value = value.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
            values.extend(std::iter::repeat_n(value, count.min(left)));
        } else {
            let (packed, rest) = bytes.split_at_checked(count.checked_mul(width as usize)?)?;
            bytes = rest;
            unpack(packed, width, count.saturating_mul(8).min(left), &mut values);
        }
    }
    Some(values)
}

/// Appends `n` values; `packed` holds at least as many.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a width of at most 32 bits and less than a byte besides fit in the 64 that wait"
)]
fn unpack(packed: &[u8], width: u32, n: usize, values: &mut Vec<u32>) {
    let mask = (1u64 << width) - 1;
    let mut bytes = packed.iter();
    let (mut pending, mut n_bits) = (0u64, 0);
    for _ in 0..n {
        while n_bits < width {
            pending |= u64::from(bytes.next().copied().unwrap_or(0)) << n_bits;
            n_bits += 8;
        }
        values.push((pending & mask) as u32);
        pending >>= width;
        n_bits -= width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_groups_follow_each_other() {
        // The numbers 0 to 7 in three bits each, as the format's own description has them.
        let packed = [0x03, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        assert_eq!(read(&packed, 3, 8).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(read(&packed, 3, 5).unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(read(&[6, 0x2a, 1, 3, 7], 9, 3), Some(vec![0x12a; 3]));
        assert_eq!(read(&[4, 1, 3, 0b1010_0101], 1, 6).unwrap(), [1, 1, 1, 0, 1, 0]);
        assert_eq!(read(&[20], 0, 10).unwrap(), [0; 10]);
    }

    #[test]
    fn too_few_bytes_are_not_values() {
        for bytes in [&[][..], &[3], &[3, 1], &[6], &[0, 0, 0], &[0xff; 12]] {
            assert_eq!(read(bytes, 3, 8), None, "{bytes:?}");
        }
        assert_eq!(read(&[2, 0, 0, 0, 0, 0], 33, 1), None);
    }
}
