//! As much of Rust's grammar as the rules need, on code that rustfmt has laid out.

use std::collections::BTreeSet;

/// The same text with comments and the insides of literals blanked; every line
/// stays on its line.
pub fn without_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skipped_to(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().filter(|c| **c == '\n'));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that starts at `at` ends; `at` where none starts.
fn skipped_to(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let after_name = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match rest {
        ['/', '/', ..] => at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => at + find(rest, &['*', '/'], 2),
        ['"', ..] => at + quoted(rest, '"'),
        // A character, unless it is a lifetime.
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => at + quoted(rest, '\''),
        ['r', '"' | '#', ..] | ['b', 'r', '"' | '#', ..] if !after_name => at + raw(rest),
        _ => at,
    }
}

/// Length up to and with `end`, searched from `from`.
fn find(rest: &[char], end: &[char], from: usize) -> usize {
    let found = rest[from..].windows(end.len()).position(|w| w == end);
    found.map_or(rest.len(), |at| from + at + end.len())
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Length of a raw string; 0 for a raw identifier.
fn raw(rest: &[char]) -> usize {
    let start = rest.iter().position(|c| *c == 'r').unwrap() + 1;
    let hashes = rest[start..].iter().take_while(|c| **c == '#').count();
    if rest.get(start + hashes) != Some(&'"') {
        return 0;
    }
    let mut end = vec!['"'];
    end.resize(hashes + 1, '#');
    find(rest, &end, start + hashes + 1)
}

/// The code before the module of unit tests.
pub fn outside_tests(code: &str) -> &str {
    let inline = code.match_indices("#[cfg(test)]\nmod ").find(|(at, mark)| {
        let rest = &code[at + mark.len()..];
        rest.lines().next().is_some_and(|line| line.ends_with('{'))
    });
    inline.map_or(code, |(at, _)| &code[..at])
}

/// Types that have an `impl` of their own, once for each.
pub fn types_with_methods(code: &str) -> Vec<String> {
    let heads = code.lines().filter(|line| line.starts_with("impl"));
    let heads = heads.filter(|line| !line.contains(" for "));
    let names = heads.filter_map(|line| {
        let after = line.strip_prefix("impl")?;
        let after = match after.strip_prefix('<') {
            Some(generic) => generic.split_once("> ")?.1,
            None => after.trim_start(),
        };
        let name = after.chars().take_while(|c| c.is_alphanumeric());
        Some(name.collect())
    });
    names.collect()
}

/// Name and number of lines of every function with a body.
pub fn functions(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let starts = code.match_indices("fn ").map(|(at, _)| at);
    for start in starts.filter(|at| *at == 0 || code[..*at].ends_with([' ', '\n', '('])) {
        let signature = &code[start..];
        let name: String = signature[3..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        if let Some(end) = body_end(signature)
            && !name.is_empty()
        {
            found.push((name, signature[..end].lines().count()));
        }
    }
    found
}

/// Where the body after a signature ends; none for a declaration.
fn body_end(signature: &str) -> Option<usize> {
    let mut nesting = 0_usize;
    let mut braces = 0_usize;
    for (at, c) in signature.char_indices() {
        match c {
            '(' | '[' if braces == 0 => nesting += 1,
            ')' | ']' if braces == 0 => nesting = nesting.checked_sub(1)?,
            ';' if braces == 0 && nesting == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// The top-level modules that the code names, in imports and in paths.
pub fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["crate::", "mediafs::", "super::super::"] {
        for (at, _) in code.match_indices(root) {
            let rest = &code[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(group) => found.extend(group_heads(group)),
                None => found.extend(head(rest)),
            }
        }
    }
    found
}

fn head(path: &str) -> Option<String> {
    let name: String = path
        .trim_start()
        .trim_start_matches("super::")
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

/// First names of the members of `{a::b, c::{d, e}}`, the brace being open.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0_usize;
    let mut member = String::new();
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.extend(head(&std::mem::take(&mut member))),
            _ if depth == 0 => member.push(c),
            _ => {}
        }
    }
    heads.extend(head(&member));
    heads
}
