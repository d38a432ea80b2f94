//! Figures as people read them.

/// Three digits and a letter: `1.62M`, `438k`, `37.2k`, `0.67`.
pub(super) fn short(value: f64) -> String {
    let (scaled, letter) = match value.abs() {
        size if size >= 999.5e6 => (value / 1e9, "G"),
        size if size >= 999.5e3 => (value / 1e6, "M"),
        size if size >= 999.5 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    format!("{}{letter}", digits(scaled))
}

/// Three digits: `0.67`, `4.21`, `37.2`, `438`.
pub(super) fn digits(value: f64) -> String {
    let places = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.places$}")
}

/// A ratio: `0.67`, `12.3`.
pub(super) fn ratio(value: f64) -> String {
    digits(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_enough() {
        for (value, text) in [
            (1_620_000.0, "1.62M"),
            (438_210.0, "438k"),
            (37_210.0, "37.2k"),
            (999.7, "1.00k"),
            (12.34, "12.3"),
            (0.671, "0.67"),
            (4_100_000_000.0, "4.10G"),
            (0.0, "0.00"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
