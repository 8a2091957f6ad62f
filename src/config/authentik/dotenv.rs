//! Files of variables, `NAME=VALUE` a line, as docker compose reads those of `env_file:`.
//!
//! Source: Docker Compose, "Interpolation: .env file syntax".

use std::cell::Cell;
use std::collections::BTreeMap;

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// What a file of variables says. It holds secrets, and has no Debug.
#[derive(Default)]
pub struct Dotenv {
    pub variables: Variables,
    /// In which line each begins.
    pub lines: BTreeMap<String, usize>,
    /// Those in which a `$` names a variable that is not set: nothing stands there then.
    pub cut: Vec<String>,
}

/// What a `$` may name.
struct Known<'a> {
    environment: &'a Variables,
    before: &'a Variables,
    /// Something was asked for that is not set.
    has_unset: Cell<bool>,
}

impl Known<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let found = self.environment.get(name);
        found.or_else(|| self.before.get(name)).cloned()
    }

    /// Nothing for what is not set.
    fn filled(&self, name: &str) -> String {
        let found = self.get(name);
        self.has_unset.set(self.has_unset.get() || found.is_none());
        found.unwrap_or_default()
    }
}

/// A line that docker compose refuses, too.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct DotenvError {
    pub line: usize,
    why: &'static str,
}

/// Defaults within defaults, `${A:-${B:-c}}`, so deep and no deeper.
const NESTING_LIMIT: u8 = 8;

/// The variables of a file. One that the environment has is taken from there.
pub fn parse(text: &str, environment: &Variables) -> Result<Dotenv, DotenvError> {
    let mut found = Dotenv::default();
    // Of editors on Windows.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(found);
        }
        let before = text.strip_suffix(rest).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let read = statement(rest, line, environment, &mut found);
        rest = read.map_err(|why| DotenvError { line, why })?;
    }
}

/// Reads one statement or comment; what follows it.
fn statement<'a>(
    text: &'a str,
    at: usize,
    environment: &Variables,
    found: &mut Dotenv,
) -> Result<&'a str, &'static str> {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    if line.starts_with('#') {
        return Ok(after);
    }
    let text = match text.strip_prefix("export") {
        Some(exported) if exported.starts_with([' ', '\t']) => exported.trim_start(),
        _ => text,
    };
    let end = text.find(['=', ':', '\n']).unwrap_or(text.len());
    let (name, after_name) = text.split_at(end);
    let name = name.trim_end();
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']');
    if name.is_empty() || !name.chars().all(is_name) {
        return Err("this is no NAME=VALUE");
    }
    let given = environment.get(name).cloned();
    let Some(value) = after_name.strip_prefix(['=', ':']) else {
        // A name alone passes on what the environment has.
        found
            .variables
            .extend(given.map(|value| (name.to_owned(), value)));
        return Ok(after_name);
    };
    let known = Known {
        environment,
        before: &found.variables,
        has_unset: Cell::new(false),
    };
    let (value, after) = read_value(value.trim_start_matches([' ', '\t']), &known)?;
    let is_cut = known.has_unset.get() && given.is_none();
    found.cut.retain(|other| other != name);
    found.cut.extend(is_cut.then(|| name.to_owned()));
    found.lines.insert(name.to_owned(), at);
    let value = given.unwrap_or(value);
    found.variables.insert(name.to_owned(), value);
    Ok(after)
}

/// A value, and what follows it.
fn read_value<'a>(text: &'a str, known: &Known<'_>) -> Result<(String, &'a str), &'static str> {
    if let Some(quoted) = text.strip_prefix('\'') {
        let (value, after) = until_quote(quoted, '\'')?;
        return Ok((value.replace("\\'", "'"), after));
    }
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, after) = until_quote(quoted, '"')?;
        return Ok((interpolate(&unescape(value), known, NESTING_LIMIT)?, after));
    }
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    // A secret may begin with a #.
    let (value, _comment) = line.split_once(" #").unwrap_or((line, ""));
    Ok((interpolate(value.trim_end(), known, NESTING_LIMIT)?, after))
}

/// What stands before the closing quote, and after it.
fn until_quote(text: &str, quote: char) -> Result<(&str, &str), &'static str> {
    let mut escaped = false;
    let end = text.find(|c: char| {
        let closes = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    });
    let split = end.and_then(|end| Some((text.get(..end)?, text.get(end + 1..)?)));
    let (value, after) = split.ok_or("the quote is not closed")?;
    let (tail, after) = after.split_once('\n').unwrap_or((after, ""));
    let tail = tail.trim();
    if tail.is_empty() || tail.starts_with('#') {
        Ok((value, after))
    } else {
        Err("something follows the closing quote")
    }
}

/// Escape sequences of double quotes. `\$` becomes `$$`, which stands for a `$`.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('$') => out.push_str("$$"),
            Some(same @ ('\\' | '"' | '\'')) => out.push(same),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

/// Replaces `$NAME`, `${NAME}`, `${NAME:-default}` and their like.
fn interpolate(text: &str, known: &Known<'_>, nesting: u8) -> Result<String, &'static str> {
    const NEITHER: &str = "a $ that begins no variable: write $$, or use single quotes";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(braced) = after.strip_prefix('{') {
            let (inner, after) = until_brace(braced).ok_or("a ${ is not closed")?;
            out.push_str(&substitute(inner, known, nesting)?);
            rest = after;
        } else {
            let (name, after) = split_name(after);
            if name.is_empty() {
                return Err(NEITHER);
            }
            out.push_str(&known.filled(name));
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// What stands before the brace that closes, and after it.
fn until_brace(text: &str) -> Option<(&str, &str)> {
    let mut open = 1;
    let end = text.find(|c| {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        open == 0
    })?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

fn split_name(text: &str) -> (&str, &str) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match text.find(|c| !is_name(c)) {
        _ if text.starts_with(|c: char| c.is_ascii_digit()) => ("", text),
        Some(end) => text.split_at(end),
        None => (text, ""),
    }
}

/// What `${inner}` stands for.
fn substitute(inner: &str, known: &Known<'_>, nesting: u8) -> Result<String, &'static str> {
    let nesting = nesting
        .checked_sub(1)
        .ok_or("defaults are nested too deep")?;
    let (name, operator) = split_name(inner);
    if operator.is_empty() && !name.is_empty() {
        return Ok(known.filled(name));
    }
    let value = known.get(name);
    let (value, operator) = match operator.strip_prefix(':') {
        Some(operator) => (value.filter(|value| !value.is_empty()), operator),
        None => (value, operator),
    };
    let mut chars = operator.chars();
    match (chars.next(), value) {
        _ if name.is_empty() => Err("a ${ without a name"),
        (None, value) => Ok(value.unwrap_or_default()),
        (Some('-'), Some(value)) | (Some('?'), Some(value)) => Ok(value),
        (Some('-'), None) | (Some('+'), Some(_)) => interpolate(chars.as_str(), known, nesting),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => Err("a variable that it needs is not set"),
        (Some(_), _) => Err("a ${NAME that ends in neither }, -, + nor ?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Variables, DotenvError> {
        whole(text).map(|found| found.variables)
    }

    fn whole(text: &str) -> Result<Dotenv, DotenvError> {
        let environment = [("HOST".to_owned(), "h".to_owned())].into();
        parse(text, &environment)
    }

    /// Value of the last line's variable V.
    fn value(text: &str) -> String {
        read(text).unwrap().remove("V").unwrap()
    }

    #[test]
    fn values_are_quoted_as_docker_compose_reads_them() {
        for (text, expected) in [
            ("V=plain", "plain"),
            ("V= spaced ", "spaced"),
            ("V=", ""),
            ("V=#no comment", "#no comment"),
            ("V= #no comment", "#no comment"),
            ("V=a\t#no comment", "a\t#no comment"),
            ("V=a # comment", "a"),
            ("V=a# no comment", "a# no comment"),
            ("V=a\\tb", "a\\tb"),
            ("V=\"a # no comment\" # comment", "a # no comment"),
            ("V=\"a\\tb\\\\ \\\"c\\\"\"", "a\tb\\ \"c\""),
            ("V='a\\tb'", "a\\tb"),
            ("V='Let\\'s go'", "Let's go"),
            ("V='$HOST ${HOST}'", "$HOST ${HOST}"),
            ("V='two\nlines'", "two\nlines"),
            ("V: yaml", "yaml"),
            ("export V=x", "x"),
            ("exported=1\nV=y", "y"),
            ("V=x\r\nW=1", "x"),
            ("V={\"a\": 1}", "{\"a\": 1}"),
            ("# V=1\n\n  V=2", "2"),
            ("V=1\nV=2", "2"),
            ("A[0]=1\nV=2", "2"),
            ("\u{feff}V=x", "x"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn variables_are_replaced_outside_single_quotes() {
        for (text, expected) in [
            ("V=$HOST-x", "h-x"),
            ("V=\"${HOST}x\"", "hx"),
            ("A=1\nV=${A}${A}", "11"),
            ("V=${NONE}", ""),
            ("V=${NONE:-d}", "d"),
            ("V=${NONE-d}", "d"),
            ("E=\nV=${E:-d}", "d"),
            ("E=\nV=${E-d}", ""),
            ("V=${HOST:-d}", "h"),
            ("V=${NONE:-${HOST}}", "h"),
            ("V=${HOST:+set}${NONE+set}", "set"),
            ("V=${HOST?told}", "h"),
            ("V=a$$b", "a$b"),
            ("V=\"a\\$b\"", "a$b"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn values_that_an_unset_variable_cuts_are_known_with_their_lines() {
        let found = whole(
            "A=ab$cd\n# x\nB='ab$cd'\nC=\"x\ny${NONE}\"\nD=${NONE:-d}${HOST}$A$$\nHOST=$NONE\nE=$NONE\nE=1\n",
        );
        let found = found.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(found.cut, ["A", "C"]);
        assert_eq!(found.lines["A"], 1);
        assert_eq!(found.lines["C"], 4);
        assert_eq!(found.variables["A"], "ab");
    }

    #[test]
    fn the_environment_beats_the_file() {
        assert_eq!(value("HOST=other\nV=$HOST"), "h");
        assert_eq!(read("HOST=other").unwrap()["HOST"], "h");
        assert_eq!(read("HOST\nNONE\n").unwrap().len(), 1);
    }

    #[test]
    fn what_docker_compose_refuses_is_refused_with_its_line() {
        for (text, line) in [
            ("A=1\nV='open", 2),
            ("V=\"a\"b", 1),
            ("V=a$%b", 1),
            ("V=${HOST", 1),
            ("\n\n!=3", 3),
            ("V=${NONE?why}", 1),
            ("just words", 1),
        ] {
            assert_eq!(read(text).unwrap_err().line, line, "{text:?}");
        }
    }
}
