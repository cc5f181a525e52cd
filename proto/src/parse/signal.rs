//! Names of signals, as Docker reads them: with or without `SIG`, in either case, or a number.

/// The first and the last real-time signal that a program may use (glibc keeps two).
const REAL_TIME: (i32, i32) = (34, 64);

/// Linux's, by number from 1 on, on every architecture that has containers (signal(7)).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Second names.
const ALIASES: [(&str, i32); 3] = [("IOT", 6), ("CLD", 17), ("POLL", 29)];

/// A signal's number; real-time ones are `RTMIN+n` and `RTMAX-n`. None if there is no such signal.
pub fn number(text: &str) -> Option<i32> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|n| (1..=REAL_TIME.1).contains(n));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |number: i32| (REAL_TIME.0..=REAL_TIME.1).contains(&number).then_some(number);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return real_time(REAL_TIME.0 + offset(rest, '+')?);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return real_time(REAL_TIME.1 - offset(rest, '-')?);
    }
    let known = NAMES.iter().zip(1..).chain(ALIASES.iter().map(|(name, number)| (name, *number)));
    known.filter(|(known, _)| **known == name).map(|(_, number)| number).next()
}

fn offset(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.strip_prefix(sign)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten().filter(|n| *n <= 30)
}

/// The name that Linux has for a number, without `SIG`.
pub fn name(number: i32) -> Option<String> {
    match number {
        n if (REAL_TIME.0..=REAL_TIME.1).contains(&n) => Some(format!("RTMIN+{}", n - REAL_TIME.0)),
        n => NAMES.get(usize::try_from(n).ok()?.checked_sub(1)?).map(|name| (*name).to_owned()),
    }
}

/// How signals are written, for the end of an error.
pub const HELP: &str = "write SIGTERM, TERM or 15";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, want) in [
            ("15", Some(15)),
            ("SIGTERM", Some(15)),
            ("sigint", Some(2)),
            ("quit", Some(3)),
            ("SigUsr1", Some(10)),
            ("POLL", Some(29)),
            ("SIGCLD", Some(17)),
            ("SIGIOT", Some(6)),
            ("RTMIN", Some(34)),
            ("RTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("rtmax", Some(64)),
            ("0", None),
            ("65", None),
            ("-9", None),
            ("+9", None),
            ("SIGNOPE", None),
            ("SIG", None),
            ("SIG9", None),
            ("SIGSIGTERM", None),
            ("RTMIN+31", None),
            ("RTMIN-1", None),
            ("RTMIN+-1", None),
            (" TERM", None),
            ("", None),
        ] {
            assert_eq!(number(text), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_number_is_read_back_from_its_name(n in 1i32..=64) {
            match name(n) {
                Some(name) => {
                    prop_assert_eq!(number(&name), Some(n));
                    prop_assert_eq!(number(&format!("sig{}", name.to_lowercase())), Some(n));
                }
                // The C library's own.
                None => prop_assert!(n == 32 || n == 33),
            }
        }
    }
}
