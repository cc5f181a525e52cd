//! Sizes, as Docker reads them (go-units): `512m`, `1.5g`, `64MiB`, `64 KB`, bytes without a suffix.

/// Powers by the suffix's first letter.
const UNITS: [(u8, u32); 5] = [(b'k', 1), (b'm', 2), (b'g', 3), (b't', 4), (b'p', 5)];

/// A number of bytes, rounded down. All suffixes count in powers of 1024 (`RAMInBytes`).
///
/// # Errors
/// A sentence that shows how sizes are written.
pub fn bytes(text: &str) -> Result<u64, String> {
    read(text, 1024)
}

/// The same, where all suffixes count in powers of 1000 (`FromHumanSize`): sizes of logs.
///
/// # Errors
/// As [`bytes`].
pub fn decimal(text: &str) -> Result<u64, String> {
    read(text, 1000)
}

fn read(text: &str, base: u64) -> Result<u64, String> {
    let bad = || format!("invalid size: {text:?}: write a number and b, k, m, g, t or p");
    let digits = text.rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' ')).ok_or_else(bad)?;
    let (number, suffix) = text.split_at(digits + 1);
    // One blank may stand between them.
    let number = number.strip_suffix(' ').unwrap_or(number);
    let suffix = suffix.to_ascii_lowercase();
    let power = match suffix.as_bytes() {
        [] | [b'b'] => 0,
        [unit] | [unit, b'b'] | [unit, b'i', b'b'] => {
            UNITS.iter().find(|(letter, _)| letter == unit).ok_or_else(bad)?.1
        }
        _ => return Err(bad()),
    };
    super::scaled(number, base.pow(power)).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_dockers_parser_takes() {
        // After go-units' own test (`TestRAMInBytes`).
        for (text, want) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32K", 32 << 10),
            ("32kb", 32 << 10),
            ("32Kb", 32 << 10),
            ("32Kib", 32 << 10),
            ("32KIB", 32 << 10),
            ("32Mb", 32 << 20),
            ("32Gb", 32 << 30),
            ("32Tb", 32 << 40),
            ("32Pb", 32 << 50),
            ("64MB", 64 << 20),
            ("64mib", 64 << 20),
            ("1.5g", 3 << 29),
            ("32.5kB", 33_280),
            ("32.5 kB", 33_280),
            ("32.5 B", 32),
            ("0.3 K", 307),
            (".3kB", 307),
            ("1 GB", 1 << 30),
        ] {
            assert_eq!(bytes(text), Ok(want), "{text}");
        }
        for text in [
            "",
            "hello",
            "b",
            "MB",
            "-32",
            "-32b",
            "32c",
            "32ib",
            "32bm",
            "32b b",
            "32..b",
            "64m b",
            " ",
            "1.2.3m",
            "20000000p",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_number_of_bytes_is_read_back(n in any::<u64>()) {
            prop_assert_eq!(bytes(&n.to_string()), Ok(n));
            prop_assert_eq!(bytes(&format!("{n}B")), Ok(n));
        }

        #[test]
        fn suffixes_are_the_same_in_every_spelling(n in 0u64..1024, k in 0usize..5) {
            let (unit, power) = UNITS[k];
            let unit = char::from(unit);
            for text in [format!("{n}{unit}"), format!("{n}{unit}B"), format!("{n} {}iB", unit.to_ascii_uppercase())] {
                prop_assert_eq!(bytes(&text), Ok(n << (10 * power)), "{}", text);
                prop_assert_eq!(decimal(&text), Ok(n * 1000u64.pow(power)), "{}", text);
            }
        }

        #[test]
        fn anything_is_read_or_refused(text in ".{0,10}") {
            let _ = bytes(&text);
        }
    }
}
