//! The same measurement over several paths, in turn.

use anyhow::{Context, Result};

use super::table::{Samples, Unit};
use crate::interrupt;

/// A path and how to measure it once: `M` numbers.
pub struct Path<'a, const M: usize> {
    name: &'a str,
    measure: Box<dyn FnMut() -> Result<[f64; M]> + 'a>,
}

/// A path called `name`, measured by one number.
pub fn path<'a>(name: &'a str, mut measure: impl FnMut() -> Result<f64> + 'a) -> Path<'a, 1> {
    path_of(name, move || measure().map(|value| [value]))
}

/// A path called `name`, measured by several numbers at once.
pub fn path_of<'a, const M: usize>(
    name: &'a str,
    measure: impl FnMut() -> Result<[f64; M]> + 'a,
) -> Path<'a, M> {
    Path { name, measure: Box::new(measure) }
}

/// Measures each path `rounds` times: A B C, C B A, A B C, … so that a drift of the machine falls on all. One round before is not
/// counted: caches and neighbours are cold.
pub fn in_turn<const N: usize, const M: usize>(
    units: [Unit; M],
    rounds: usize,
    mut paths: [Path<'_, M>; N],
) -> Result<[[Samples; M]; N]> {
    let mut samples = std::array::from_fn(|_| units.map(Samples::new));
    for round in 0..=rounds {
        let mut order: Vec<usize> = (0..N).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for n in order {
            interrupt::check()?;
            let path = &mut paths[n];
            let values = (path.measure)().with_context(|| format!("path {}", path.name))?;
            if round > 0 {
                samples[n].iter_mut().zip(values).for_each(|(samples, value)| samples.push(value));
            }
        }
    }
    Ok(samples)
}
