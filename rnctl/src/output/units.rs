//! Sizes as people read them.

/// Decimal units with three digits, as `docker images` prints: `4.27MB`.
pub fn decimal(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"], 3)
}

/// Binary units with four digits, as `docker info` prints: `7.754GiB`.
pub fn binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"], 4)
}

fn scaled(bytes: u64, base: f64, units: &[&str], digits: usize) -> String {
    #[allow(clippy::cast_precision_loss)] // Four digits are printed.
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let whole = format!("{value:.0}").len();
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(decimal(0), "0B");
        assert_eq!(decimal(999), "999B");
        assert_eq!(decimal(4_266_000), "4.27MB");
        assert_eq!(decimal(43_200_000), "43.2MB");
        assert_eq!(decimal(1_000_000_000), "1GB");
        assert_eq!(binary(8_326_000_000), "7.754GiB");
        assert_eq!(binary(512 << 20), "512MiB");
    }
}
