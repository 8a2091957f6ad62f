//! Texts and numbers of the page.

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytesize::ByteSize;

/// Text that is no markup, whatever is in it; in an attribute it stands in quotes.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // What would turn around the text behind it, or is not seen.
                c if c.is_control() || is_direction(c) => write!(f, "{}", c.escape_unicode())?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Source: Unicode Standard Annex #9, "Explicit Directional Formatting Characters".
fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
}

pub fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

pub fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut left = seconds;
    let parts = UNITS.iter().filter_map(|(unit, name)| {
        let count = left / unit;
        left %= unit;
        (count > 0).then(|| format!("{count} {name}"))
    });
    let parts: Vec<String> = parts.take(2).collect();
    if parts.is_empty() {
        "0 s".to_owned()
    } else {
        parts.join(" ")
    }
}

/// How much of a whole, in whole per cent.
pub fn percent(part: u64, whole: u64) -> Option<u64> {
    part.saturating_mul(100).checked_div(whole)
}

pub fn files(count: usize) -> String {
    match count {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    }
}

pub fn time(at: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

pub fn time_of(unix_seconds: u64) -> String {
    time(UNIX_EPOCH + Duration::from_secs(unix_seconds.min(u64::from(u32::MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_markup_and_none_turns_what_follows_around() {
        let text = Text("<img src=x onerror='a' x=\"b\">&\u{202e}gpj\n").to_string();
        assert_eq!(
            text,
            "&lt;img src=x onerror=&#39;a&#39; x=&quot;b&quot;&gt;&amp;\\u{202e}gpj\\u{a}"
        );
    }

    #[test]
    fn spans_and_shares_are_short() {
        assert_eq!(span(0), "0 s");
        assert_eq!(span(86_400 + 3600 + 61), "1 d 1 h");
        assert_eq!(percent(1, 0), None);
        assert_eq!(percent(9, 10), Some(90));
        assert_eq!(time_of(0), "1970-01-01 00:00:00 UTC");
    }
}
