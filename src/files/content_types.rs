//! Content-Type of a file, by the extension of its name.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::namespace::Name;

/// What browsers need and `mime_guess` has otherwise, or not at all.
/// Sources: HTML, "Scripting" (JavaScript modules); RFC 8216, section 4; IANA media types.
const BROWSERS: [(&str, &str); 9] = [
    ("avif", "image/avif"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("js", "text/javascript"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4s", "video/iso.segment"),
    ("mjs", "text/javascript"),
    ("mpd", "application/dash+xml"),
    ("ts", "video/mp2t"),
];

/// The types of an operator, before those that are built in.
#[derive(Debug, Clone, Default)]
pub struct ContentTypes {
    /// By the extension in lower case.
    own: HashMap<String, String>,
}

impl ContentTypes {
    /// Reads lines of `TYPE EXTENSION...`, with comments after `#`. Source: the
    /// mime.types of Apache httpd.
    ///
    /// Errors: the line that has no type.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut own = HashMap::new();
        for (at, line) in text.lines().enumerate() {
            let mut words = line
                .split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace();
            let Some(kind) = words.next() else {
                continue;
            };
            if !is_type(kind) {
                return Err(format!(
                    "line {} does not begin with a type such as image/png",
                    at + 1
                ));
            }
            own.extend(words.map(|extension| (normal(extension), kind.to_owned())));
        }
        Ok(Self { own })
    }

    /// Reads a file of such lines.
    ///
    /// Errors: it cannot be read, or a line of it, in words.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| format!("name a file that can be read: {error}"))?;
        Self::parse(&text)
    }

    /// The type of a file of this name; none where its extension is not known.
    pub fn of(&self, name: &Name) -> Option<String> {
        let (_, extension) = name.as_str().rsplit_once('.')?;
        let extension = normal(extension);
        let own = self.own.get(&extension).map(String::as_str);
        let built_in = || BROWSERS.iter().find(|(known, _)| *known == extension);
        own.or_else(|| built_in().map(|(_, kind)| *kind))
            .or_else(|| mime_guess::from_ext(&extension).first_raw())
            .map(str::to_owned)
    }

    /// The type that a rename changes, if it does: by the extension alone.
    pub fn renamed(&self, from: &Name, to: &Name) -> Option<String> {
        let new = self.of(to);
        if self.of(from) == new { None } else { new }
    }
}

fn normal(extension: &str) -> String {
    extension.trim_start_matches('.').to_ascii_lowercase()
}

/// A header holds it. Source: RFC 9110, section 8.3.1.
fn is_type(word: &str) -> bool {
    let is_token = |part: &str| {
        let mut letters = part.chars();
        !part.is_empty() && letters.all(|it| it.is_ascii_alphanumeric() || "!#$&^_.+-".contains(it))
    };
    word.split_once('/')
        .is_some_and(|(kind, rest)| is_token(kind) && is_token(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_segment(text).unwrap()
    }

    #[test]
    fn own_types_come_first_then_those_of_browsers_then_the_rest() {
        let own = ContentTypes::parse("text/x-a\tts .TSX\n# c\n\nimage/x # none\n").unwrap();
        for (file, expected) in [
            ("a.ts", Some("text/x-a")),
            ("a.tsx", Some("text/x-a")),
            ("a.M3U8", Some("application/vnd.apple.mpegurl")),
            ("a.png", Some("image/png")),
            ("a.tar.png", Some("image/png")),
            ("png", None),
            ("a.", None),
            ("a.unheard-of", None),
        ] {
            assert_eq!(own.of(&name(file)).as_deref(), expected, "{file}");
        }
        let changed = own.renamed(&name("a.png"), &name("a.ts"));
        assert_eq!(changed.as_deref(), Some("text/x-a"));
        assert_eq!(own.renamed(&name("a.ts"), &name("b.tsx")), None);
    }

    #[test]
    fn a_line_without_a_type_is_named() {
        for bad in [
            "jpeg",
            "image/ png",
            "/png png",
            "a/b/c d",
            "im\u{1}age/x y",
        ] {
            let told = ContentTypes::parse(&format!("\n{bad}")).unwrap_err();
            assert!(told.contains("line 2") && !told.contains(bad), "{told}");
        }
    }
}
