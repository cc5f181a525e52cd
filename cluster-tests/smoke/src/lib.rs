//! The small version of a fuzz target: a parser is given what it is made for, all beginnings of that, and variations of it, the
//! same in every run. `fuzz/` has the large one.

/// Calls `parse` with each seed, with each beginning of one, and with `rounds` variations of each; with `RN_SMOKE=n` in the
/// environment, n in all. What it is given when it panics is printed.
pub fn smoke<S: AsRef<[u8]>>(
    seeds: impl IntoIterator<Item = S>,
    rounds: usize,
    mut parse: impl FnMut(&[u8]),
) {
    let seeds: Vec<S> = seeds.into_iter().collect();
    let wanted = std::env::var("RN_SMOKE").ok().and_then(|n| n.parse::<usize>().ok());
    let rounds = wanted.map_or(rounds, |n| n / seeds.len().max(1));
    let mut chance = Chance(0x5eed);
    let mut parse = |input: &[u8]| {
        let shown = Shown(input);
        parse(input);
        std::mem::forget(shown);
    };
    parse(&[]);
    for seed in &seeds {
        let seed = seed.as_ref();
        parse(seed);
        // Long ones are cut at as many places as short ones have.
        for length in (0..seed.len()).step_by((seed.len() / 512).max(1)) {
            parse(seed.get(..length).unwrap_or_default());
        }
        for _ in 0..rounds {
            parse(&varied(seed, &mut chance));
        }
    }
}

struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        eprintln!("given: {:?} ({:02x?})", String::from_utf8_lossy(self.0), self.0);
    }
}

/// Numbers that look random (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let number = usize::try_from(self.0 >> 16).unwrap_or_default();
        number % limit.max(1)
    }
}

/// Values at which lengths and numbers go wrong.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, b'-', b' '];

/// A few changes: a bit, a byte, a piece that goes, comes twice or is put elsewhere.
fn varied(seed: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut out = seed.to_vec();
    for _ in 0..=chance.below(4) {
        let at = chance.below(out.len());
        let end = (at + 1 + chance.below(8)).min(out.len());
        match chance.below(6) {
            0 if !out.is_empty() => out[at] ^= 1 << chance.below(8),
            1 if !out.is_empty() => out[at] = EDGES[chance.below(EDGES.len())],
            2 if !out.is_empty() => drop(out.drain(at..end)),
            3 if !out.is_empty() => {
                let piece = out[at..end].to_vec();
                let to = chance.below(out.len() + 1);
                drop(out.splice(to..to, piece));
            }
            4 => out.truncate(at),
            _ => {
                let edge = EDGES[chance.below(EDGES.len())];
                let many = 1 + chance.below(4);
                drop(out.splice(at..at, std::iter::repeat_n(edge, many)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_each_time_and_never_the_same() {
        let run = || {
            let mut seen = Vec::new();
            smoke([b"some text".as_slice()], 200, |input| seen.push(input.to_vec()));
            seen
        };
        let (first, mut second) = (run(), run());
        assert_eq!(first, second);
        second.sort();
        second.dedup();
        assert!(second.len() > 100, "{}", second.len());
    }
}
