//! What a scriptable S3 makes of requests and answers in the role of another store.

use std::io;

use aws_smithy_types::date_time::{DateTime, Format};

use super::rule::Fault;

/// The answer of the server, or in its place, in the role of another store or of a line that
/// damages what it carries; none for other faults.
pub fn of_another_kind(
    fault: Fault,
    head: &str,
    body: &[u8],
    keys: &[String],
    forward: impl Fn(&str, &[u8]) -> io::Result<Vec<u8>>,
) -> Option<io::Result<Vec<u8>>> {
    let answer = match fault {
        Fault::Answer(status, code) => Ok(error(status, code, "", "")),
        Fault::Elsewhere(status, code, region) => Ok(error(
            status,
            code,
            "",
            &format!("<Region>{region}</Region>"),
        )),
        Fault::Document(document) => Ok(with_body("HTTP/1.1 200 OK", document)),
        Fault::AnswerWith(status, code, line) => {
            Ok(error(status, code, &format!("{line}\r\n"), ""))
        }
        Fault::RefuseKeys(code) => Ok(refused_keys(keys, code)),
        Fault::RefuseKeysAs(name) => {
            let named = vec![name.to_owned(); keys.len()];
            let answer = String::from_utf8(refused_keys(&named, "AccessDenied")).unwrap();
            Ok(with_body(
                answer.split_once("\r\n\r\n").unwrap().0,
                &parts(answer.as_bytes()).1.replace("<Key></Key>", ""),
            ))
        }
        Fault::Page(status, lines, body) => Ok(with_body(
            &format!("HTTP/1.1 {status} Planned\r\n{lines}"),
            body,
        )),
        Fault::Strip(name) => forward(head, body).map(|answer| stripped(&answer, name)),
        Fault::Header(name, line) => {
            forward(head, body).map(|answer| with_line(&answer, name, line))
        }
        Fault::Reword(from, to) => forward(head, body).map(|answer| {
            let (head, body) = parts(&answer);
            with_body(&head, &body.replace(from, to))
        }),
        Fault::Ignore(names) => forward(&short_pages(&without(head, names)), body),
        Fault::Chunked => forward(head, body).map(|answer| chunked(&answer)),
        Fault::Unordered => forward(head, body).map(|answer| listed_backwards(&answer)),
        Fault::Unconditional => forward(&unconditional(head), body),
        Fault::Twice => forward(head, body).and_then(|_| forward(head, body)),
        Fault::FlipRequest => forward(head, &flipped(body)),
        Fault::FlipAnswer => forward(head, body).map(|mut answer| {
            *answer.last_mut().unwrap() ^= 4;
            answer
        }),
        Fault::CutAnswer => forward(head, body).map(|mut answer| {
            answer.truncate(answer.len() - answer.len() / 4);
            answer
        }),
        _ => return None,
    };
    Some(answer)
}

/// The answer of a server whose clock is so many seconds ahead.
pub fn with_clock(answer: io::Result<Vec<u8>>, ahead: i64) -> io::Result<Vec<u8>> {
    let answer = answer?;
    if ahead == 0 {
        return Ok(answer);
    }
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let (head, rest) = answer.split_at(end.unwrap_or(0));
    let is_time = |name: &str| ["date", "last-modified"].contains(&&*name.to_ascii_lowercase());
    let head = String::from_utf8(head.to_vec()).unwrap();
    let lines = head.split("\r\n").map(|line| match line.split_once(": ") {
        Some((name, time)) if is_time(name) => {
            let time = DateTime::from_str(time, Format::HttpDate).unwrap();
            let time = DateTime::from_secs(time.secs() + ahead);
            format!("{name}: {}", time.fmt(Format::HttpDate).unwrap())
        }
        _ => line.to_owned(),
    });
    let head = lines.collect::<Vec<_>>().join("\r\n");
    Ok([head.as_bytes(), rest].concat())
}

/// One bit is another one.
fn flipped(body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    let middle = body.len() / 2;
    body[middle] ^= 4;
    body
}

fn error(status: u16, code: &str, lines: &str, elements: &str) -> Vec<u8> {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>planned</Message>{elements}</Error>"
    );
    format!(
        "HTTP/1.1 {status} Planned\r\n{lines}Content-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The request without its conditions.
pub fn unconditional(head: &str) -> String {
    let lines = head.trim_end().lines();
    let kept: Vec<&str> = lines
        .filter(|line| !line.to_ascii_lowercase().starts_with("if-"))
        .collect();
    kept.join("\r\n")
}

/// The request of a listing, of which a page has a twentieth of what was asked for.
fn short_pages(head: &str) -> String {
    head.replacen("max-keys=1000", "max-keys=50", 1)
}

/// The request without parameters of its query.
fn without(head: &str, names: &[&str]) -> String {
    let (line, rest) = head.split_once("\r\n").unwrap();
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let (path, query) = words[1].split_once('?').unwrap();
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !names.contains(&pair.split('=').next().unwrap()))
        .collect();
    words[1] = format!("{path}?{}", kept.join("&"));
    format!("{}\r\n{rest}", words.join(" "))
}

/// The answer of a bulk delete that refuses every key.
fn refused_keys(keys: &[String], code: &str) -> Vec<u8> {
    let errors: String = keys
        .iter()
        .map(|key| {
            format!("<Error><Key>{key}</Key><Code>{code}</Code><Message>planned</Message></Error>")
        })
        .collect();
    let body = format!("<?xml version=\"1.0\"?><DeleteResult>{errors}</DeleteResult>");
    with_body("HTTP/1.1 200 OK\r\nContent-Type: application/xml", &body)
}

/// The answer without the elements and the header of a name.
fn stripped(answer: &[u8], name: &str) -> Vec<u8> {
    let (head, mut body) = parts(answer);
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    while let Some(from) = body.find(&begin) {
        let to = from + body[from..].find(&end).unwrap() + end.len();
        body.replace_range(from..to, "");
    }
    let header = format!("{}:", name.to_ascii_lowercase());
    let lines = head.lines();
    let kept: Vec<&str> = lines
        .filter(|line| !line.to_ascii_lowercase().starts_with(&header))
        .collect();
    with_body(&kept.join("\r\n"), &body)
}

/// The answer with another line in place of a header; its body is as long as it was told.
fn with_line(answer: &[u8], name: &str, line: &str) -> Vec<u8> {
    let (head, body) = parts(answer);
    let begin = format!("{name}:");
    let lines = head.lines().map(|it| match it.to_ascii_lowercase() {
        lower if lower.starts_with(&begin) => line,
        _ => it,
    });
    let lines: Vec<&str> = lines.collect();
    format!("{}\r\n\r\n{body}", lines.join("\r\n")).into_bytes()
}

/// The answer with its body in chunks.
fn chunked(answer: &[u8]) -> Vec<u8> {
    let (head, body) = parts(answer);
    let (begin, end) = body.split_at(body.len() / 2);
    let chunks = [begin, end].into_iter().filter(|chunk| !chunk.is_empty());
    let chunks: String = chunks
        .map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len()))
        .collect();
    let whole = String::from_utf8(with_body(&head, "")).unwrap();
    let whole = whole.replace("Content-Length: 0", "Transfer-Encoding: chunked");
    format!("{whole}{chunks}0\r\n\r\n").into_bytes()
}

/// The answer of a listing with its objects in another order.
fn listed_backwards(answer: &[u8]) -> Vec<u8> {
    let (head, body) = parts(answer);
    let mut objects: Vec<&str> = body.split("<Contents>").collect();
    let Some(last) = objects.pop().filter(|_| !objects.is_empty()) else {
        return with_body(&head, &body);
    };
    let (last, rest) = last.split_once("</Contents>").unwrap();
    let last = format!("{last}</Contents>");
    let begin = objects.remove(0);
    objects.push(&last);
    objects.reverse();
    let objects = objects.join("<Contents>");
    with_body(&head, &format!("{begin}<Contents>{objects}{rest}"))
}

fn parts(answer: &[u8]) -> (String, String) {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let is_chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    let body = if is_chunked {
        joined(body)
    } else {
        body.to_owned()
    };
    (head.to_owned(), body)
}

/// The chunks of a body in one piece.
fn joined(mut chunks: &str) -> String {
    let mut body = String::new();
    while let Some((len, rest)) = chunks.split_once("\r\n") {
        let len = usize::from_str_radix(len, 16).unwrap();
        body.push_str(&rest[..len]);
        chunks = rest[len..].trim_start_matches("\r\n");
    }
    body
}

/// An answer with this body, whatever length its head tells.
fn with_body(head: &str, body: &str) -> Vec<u8> {
    let lines = head.lines();
    let kept: Vec<&str> = lines
        .filter(|line| {
            let line = line.to_ascii_lowercase();
            !["content-length:", "connection:", "transfer-encoding:"]
                .iter()
                .any(|begin| line.starts_with(begin))
        })
        .collect();
    let head = kept.join("\r\n");
    let len = body.len();
    format!("{head}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}
