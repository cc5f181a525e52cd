//! Fixed-width base 36 of big-endian integers, as join tokens use it: lower case, left-padded with `0`.

/// Why a text is not the base-36 form of an integer of the wanted size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    /// A character outside `0-9a-z`.
    Character(char),
    /// The number does not fit.
    TooLarge,
}

/// The number that `bytes` spell, in exactly `width` digits. `width` must suffice for any value of that many bytes.
pub(crate) fn encode(bytes: &[u8], width: usize) -> String {
    let mut number = bytes.to_vec();
    let mut digits = vec![b'0'; width];
    for digit in digits.iter_mut().rev() {
        // One long division by 36; the remainder is the next digit from the right.
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = remainder << 8 | u32::from(*byte);
            *byte = (value / 36) as u8;
            remainder = value % 36;
        }
        *digit = match remainder as u8 {
            low @ 0..=9 => b'0' + low,
            high => b'a' + high - 10,
        };
    }
    digits.into_iter().map(char::from).collect()
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode<const N: usize>(text: &str) -> Result<[u8; N], Bad> {
    let mut number = [0u8; N];
    for character in text.chars() {
        let mut carry = match character {
            '0'..='9' => character as u32 - '0' as u32,
            'a'..='z' => character as u32 - 'a' as u32 + 10,
            _ => return Err(Bad::Character(character)),
        };
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 36 + carry;
            *byte = value as u8;
            carry = value >> 8;
        }
        if carry != 0 {
            return Err(Bad::TooLarge);
        }
    }
    Ok(number)
}
