//! A share of something.

use std::fmt;
use std::str::FromStr;

/// From 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(f64);

/// It is a number.
impl Eq for Ratio {}

impl Ratio {
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.trim().parse().ok();
        let ratio = parsed.filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a ratio: write it like 0.01, from 0 to 1"))
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_from_nothing_to_all() {
        for good in ["0", "1", "0.01", "1.0"] {
            assert!(good.parse::<Ratio>().is_ok(), "{good}");
        }
        for bad in ["", "-0.1", "1.1", "NaN", "5%"] {
            assert!(bad.parse::<Ratio>().is_err(), "{bad}");
        }
    }
}
