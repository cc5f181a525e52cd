//! Datagrams seen before are not taken again.

/// How far behind the newest a datagram may arrive.
const WINDOW: u64 = 1024;

/// Which counters of a sender have been seen: the newest, and a bit for each of the [`WINDOW`] before it (RFC 4303, 3.4.3).
#[derive(Default)]
pub(super) struct Window {
    newest: u64,
    bits: [u64; (WINDOW / 64) as usize],
}

impl Window {
    /// Whether it has been seen, or is too old to tell.
    pub(super) fn seen(&self, counter: u64) -> bool {
        if counter > self.newest {
            return false;
        }
        if self.newest - counter >= WINDOW {
            return true;
        }
        let (word, bit) = Self::place(counter);
        self.bits[word] & bit != 0
    }

    /// It has been seen now.
    pub(super) fn mark(&mut self, counter: u64) {
        if counter > self.newest {
            // The bits of the counters that now enter the window belonged to those that leave it.
            for c in (self.newest + 1..=counter).rev().take(WINDOW as usize) {
                let (word, bit) = Self::place(c);
                self.bits[word] &= !bit;
            }
            self.newest = counter;
        }
        let (word, bit) = Self::place(counter);
        self.bits[word] |= bit;
    }

    const fn place(counter: u64) -> (usize, u64) {
        let slot = counter % WINDOW;
        ((slot / 64) as usize, 1 << (slot % 64))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_window_takes_each_counter_once(counters in proptest::collection::vec(1u64..3000, 1..400)) {
            let mut window = Window::default();
            let mut seen = std::collections::HashSet::new();
            for counter in counters {
                let newest = window.newest;
                let fresh = !window.seen(counter);
                if fresh {
                    prop_assert!(seen.insert(counter));
                    window.mark(counter);
                } else {
                    prop_assert!(seen.contains(&counter) || newest - counter >= WINDOW);
                }
            }
        }
    }
}
