//! What users type, into values: one parser for each kind, which the command line, the managers' checks and the nodes share.
//! Pure: a message says what was wrong, the caller says which flag or field.

pub mod duration;
pub mod reference;
pub mod signal;
pub mod size;

pub use reference::{InvalidReference, Reference};

/// A decimal number times `unit`, rounded down; none if it is no number or too large. Exact: it does not go through floating
/// point, and digits behind the 18th after the point have no say.
pub(crate) fn scaled(text: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction = fraction.get(..18).unwrap_or(fraction);
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let power = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let total = whole.checked_mul(unit.into())?.checked_add(part * u128::from(unit) / power)?;
    u64::try_from(total).ok()
}

/// A decimal number of whole and billionth parts, for instance CPUs: `0.5`, `2`.
///
/// # Errors
/// It is no number, negative, too large, or has more than nine digits after the point.
pub fn billionths(text: &str) -> Result<u64, String> {
    if text.split_once('.').is_some_and(|(_, fraction)| fraction.len() > 9) {
        return Err(format!("{text:?} is too precise: at most nine digits after the point"));
    }
    scaled(text, 1_000_000_000).ok_or_else(|| format!("{text:?} is not a number: write for instance 0.5"))
}
