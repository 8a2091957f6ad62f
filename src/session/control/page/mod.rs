//! The status page: one HTML document with its style and its script, and nothing from
//! elsewhere.
//!
//! Everything but the plots is written here, so that it is readable with scripts blocked;
//! the script asks for the page again and puts the parts that changed in the place of
//! the old ones. Every text that is not this program's is escaped by `Text`, and the
//! policy lets a browser run nothing but the one script.

mod advice;
mod mount;
mod sample;
mod text;

use std::fmt::Write;
use std::sync::LazyLock;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::answers::MountStatus;
use text::{Text, time};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// A disk, drawn.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' height='16' rx='4' fill='%231f6feb'/%3E%3Cpath d='M3 5h10M3 8h10M3 11h6' stroke='white' stroke-width='1.5'/%3E%3C/svg%3E";

/// What a browser may do with the page.
pub fn policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
        format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(SCRIPT),
            hash(STYLE)
        )
    });
    &POLICY
}

/// The page of these mounts.
pub fn html(mounts: &[MountStatus]) -> String {
    let now = SystemTime::now();
    let statuses = || mounts.iter().filter_map(|it| it.status.as_ref());
    let title = title(mounts);
    let mut page = String::with_capacity(64 << 10);
    page.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.push_str("<meta name=\"color-scheme\" content=\"light dark\">\n");
    put(
        &mut page,
        format_args!("<title>{} · mediafs</title>\n", Text(&title)),
    );
    put(
        &mut page,
        format_args!("<link rel=\"icon\" href=\"{ICON}\">\n"),
    );
    put(
        &mut page,
        format_args!("<style>{STYLE}</style>\n</head>\n<body>\n"),
    );
    put(
        &mut page,
        format_args!(
            "<header>\n<h1>mediafs</h1>\n<p id=\"freshness\">as of <time>{}</time></p>\n</header>\n<main>\n",
            time(now)
        ),
    );
    if mounts.len() > 1 {
        overview(&mut page, mounts);
    }
    for (number, status) in statuses().enumerate() {
        mount::section(&mut page, number, status, now);
    }
    page.push_str("<noscript><p class=\"note\">The plots need scripts. All else is as of the time above: load the page again.</p></noscript>\n");
    put(
        &mut page,
        format_args!("</main>\n<footer>{FOOTER}</footer>\n"),
    );
    put(
        &mut page,
        format_args!("<script>{SCRIPT}</script>\n</body>\n</html>\n"),
    );
    page
}

const FOOTER: &str = "<p>The same numbers: <code>mediafs status</code>, <a href=\"/metrics\">/metrics</a>, <a href=\"/api/status\">/api/status</a>, <a href=\"/api/mounts\">/api/mounts</a>. <a href=\"/healthz\">/healthz</a> and <a href=\"/readyz\">/readyz</a> are for programs. What it means: <code>mediafs help metrics</code>.</p>";

/// The state of the one that is worst.
fn title(mounts: &[MountStatus]) -> String {
    let statuses = mounts.iter().filter_map(|it| it.status.as_ref());
    let Some(worst) = statuses.map(|it| &it.health).max_by_key(|it| it.state) else {
        return "no answer".to_owned();
    };
    let state = worst.state.as_str();
    match mounts {
        [_] => format!("{}: {state}", worst.name),
        _ => format!("{} mounts: {state}", mounts.len()),
    }
}

/// Every mount, a line each.
fn overview(page: &mut String, mounts: &[MountStatus]) {
    page.push_str("<section>\n<h2 id=\"mounts\">Mounts of this host</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"mounts\" data-live id=\"overview\">\n<table>\n<thead><tr><th scope=\"col\">Name</th><th scope=\"col\">State</th><th scope=\"col\">Mountpoint</th><th scope=\"col\">Bucket</th><th scope=\"col\">Not in S3</th></tr></thead>\n<tbody>\n");
    let mut number = 0;
    for mount in mounts {
        let Some(status) = &mount.status else {
            unanswered(page, mount);
            continue;
        };
        let health = &status.health;
        put(
            page,
            format_args!(
                "<tr><th scope=\"row\"><a href=\"#mount-{number}\">{}</a></th><td>{}</td><td>{}</td><td>{}/{}</td><td>{}</td></tr>\n",
                Text(&health.name),
                mount::badge(health.state),
                Text(&health.mountpoint),
                Text(&status.bucket),
                Text(&status.prefix),
                mount::not_in_s3(&status.uploads),
            ),
        );
        number += 1;
    }
    page.push_str("</tbody>\n</table>\n</div>\n</section>\n");
}

fn unanswered(page: &mut String, mount: &MountStatus) {
    let socket = mount.socket.as_ref();
    let name = socket.and_then(|it| it.file_stem());
    let name = name.map(|it| it.to_string_lossy().into_owned());
    put(
        page,
        format_args!(
            "<tr><th scope=\"row\">{}</th><td><span class=\"badge stuck\">no answer</span></td><td colspan=\"3\">{}</td></tr>\n",
            Text(name.as_deref().unwrap_or("this mount")),
            Text(mount.error.as_deref().unwrap_or_default())
        ),
    );
}

/// Writing to memory does not fail.
fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    let (Ok(()) | Err(_)) = page.write_fmt(text);
}

#[cfg(test)]
mod tests;
