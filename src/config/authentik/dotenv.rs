//! Files of variables, `NAME=VALUE` a line, as docker compose reads those of `env_file:`.
//!
//! Source: Docker Compose, "Interpolation: .env file syntax".

use std::collections::BTreeMap;

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

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
pub fn parse(text: &str, environment: &Variables) -> Result<Variables, DotenvError> {
    let mut found = Variables::new();
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
        rest = statement(rest, environment, &mut found).map_err(|why| DotenvError { line, why })?;
    }
}

/// Reads one statement or comment; what follows it.
fn statement<'a>(
    text: &'a str,
    environment: &Variables,
    found: &mut Variables,
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
        found.extend(given.map(|value| (name.to_owned(), value)));
        return Ok(after_name);
    };
    let known = |name: &str| environment.get(name).or_else(|| found.get(name)).cloned();
    let (value, after) = read_value(value.trim_start_matches([' ', '\t']), &known)?;
    found.insert(name.to_owned(), given.unwrap_or(value));
    Ok(after)
}

/// A value, and what follows it.
fn read_value<'a>(
    text: &'a str,
    known: &impl Fn(&str) -> Option<String>,
) -> Result<(String, &'a str), &'static str> {
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
fn interpolate(
    text: &str,
    known: &impl Fn(&str) -> Option<String>,
    nesting: u8,
) -> Result<String, &'static str> {
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
            out.push_str(&known(name).unwrap_or_default());
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
fn substitute(
    inner: &str,
    known: &impl Fn(&str) -> Option<String>,
    nesting: u8,
) -> Result<String, &'static str> {
    let nesting = nesting
        .checked_sub(1)
        .ok_or("defaults are nested too deep")?;
    let (name, operator) = split_name(inner);
    let value = known(name);
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
