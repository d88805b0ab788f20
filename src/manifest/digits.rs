//! Hashes as hexadecimal digits, both ways.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// What each letter is worth as a digit; for one that is none, more than any digit.
const WORTH: [u8; 256] = {
    let mut worth = [u8::MAX; 256];
    let mut value = 0;
    while value < DIGITS.len() {
        worth[DIGITS[value] as usize] = value as u8;
        value += 1;
    }
    worth
};

/// The SHA-256 that these digits are, as [`hex`] writes them; nothing if they are none.
pub fn sha256_of(digits: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if digits.len() != 2 * digest.len() {
        return None;
    }
    let mut largest = 0;
    for (byte, digits) in digest.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let (high, low) = (WORTH[usize::from(digits[0])], WORTH[usize::from(digits[1])]);
        largest |= high | low;
        *byte = high << 4 | low;
    }
    (largest < 16).then_some(digest)
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut digits = vec![0; 2 * bytes.len()];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xf)];
    }
    String::from_utf8(digits).expect("digits are letters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_from_its_digits() {
        assert_eq!(sha256_of(&"0a".repeat(32)), Some([10; 32]));
        assert_eq!(sha256_of(&hex(&[0xf3; 32])), Some([0xf3; 32]));
        for text in ["", "0a", &"é".repeat(32), &"+1".repeat(32), &"zz".repeat(32), &"AB".repeat(32)] {
            assert_eq!(sha256_of(text), None, "for {text}");
        }
    }
}
