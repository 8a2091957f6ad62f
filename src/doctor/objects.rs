//! What is in the bucket that a mount or an application will stumble over.

use std::collections::BTreeSet;

use super::{NO_ANSWER, Report};
use crate::config::Config;
use crate::files::ContentTypes;
use crate::namespace::{Name, SHADOWED};
use crate::store::{HeadRequest, Key, ListAnswer, ListedObject, ObjectStore};

/// Objects whose Content-Type is asked for.
const HEADS_LIMIT: usize = 20;
/// Keys that are named.
const NAMED_LIMIT: usize = 3;
/// Types that say nothing, so that a browser saves what it should show.
const SAYS_NOTHING: [&str; 3] = ["", "binary/octet-stream", "application/octet-stream"];
/// What authentik executes when it starts, where it is in the root of `/data`.
const USER_SETTINGS: &str = "user_settings.py";

/// Looks at the first page of a listing.
pub(super) async fn examine(
    store: &dyn ObjectStore,
    config: &Config,
    page: &ListAnswer,
    report: &mut Report,
) {
    let more = if page.next.is_some() {
        " (of the first 1,000)"
    } else {
        ""
    };
    let is_marker = |object: &&ListedObject| object.key.as_str().ends_with('/');
    let markers = page.objects.iter().filter(is_marker).count();
    report.ok(
        "objects",
        format!(
            "{} files and {markers} directory markers{more}",
            page.objects.len() - markers
        ),
    );
    hidden(config, page, more, report);
    executed(store, config, report).await;
    content_types(store, config, page, report).await;
}

/// Keys that no file can have, and those whose place a directory has.
fn hidden(config: &Config, page: &ListAnswer, more: &str, report: &mut Report) {
    let directories: BTreeSet<&str> = page
        .objects
        .iter()
        .flat_map(|object| directories_of(object.key.as_str()))
        .collect();
    let why = |key: &Key| {
        let is_file = !key.as_str().ends_with('/');
        let is_shadowed = is_file && directories.contains(key.as_str());
        why_hidden(&config.prefix, key).or(is_shadowed.then_some(SHADOWED))
    };
    let hidden: Vec<(&Key, &'static str)> = page
        .objects
        .iter()
        .filter_map(|object| Some((&object.key, why(&object.key)?)))
        .collect();
    if hidden.is_empty() {
        report.ok("keys", format!("each can be a file{more}"));
        return;
    }
    let named: Vec<String> = hidden
        .iter()
        .take(NAMED_LIMIT)
        .map(|(key, why)| format!("{key} ({why})"))
        .collect();
    report.warn(
        "keys",
        format!(
            "{} cannot be shown as files{more}: {}",
            hidden.len(),
            named.join(", ")
        ),
        "rename or delete them with another S3 client; no file of a mount hides them",
    );
}

/// The keys before each slash of a key.
fn directories_of(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('/').filter_map(|(at, _)| key.get(..at))
}

fn why_hidden(prefix: &str, key: &Key) -> Option<&'static str> {
    let path = key.as_str().strip_prefix(prefix)?;
    // What ends in a slash is a directory.
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return None;
    }
    path.split('/').find_map(Name::why_impossible)
}

/// Below the prefix, and in the bucket's root, which others may mount.
async fn executed(store: &dyn ObjectStore, config: &Config, report: &mut Report) {
    let places = [
        (config.prefix.as_str(), "the root of what is mounted"),
        ("", "the bucket's root"),
    ];
    let last = if config.prefix.is_empty() { 1 } else { 2 };
    for (prefix, place) in places.into_iter().take(last) {
        let key = Key::new(format!("{prefix}{USER_SETTINGS}"));
        match store.head(HeadRequest { key }).await {
            Ok(_) => report.warn(
                "user_settings.py",
                format!("it is in {place}: on /data authentik executes it when it starts"),
                "look who wrote it; mount media/ and reports/ by themselves: 'mediafs help authentik'",
            ),
            Err(error) if error.kind.is_no_answer() => report.warn(
                "user_settings.py",
                format!("not known whether it is in {place}: {error}"),
                NO_ANSWER,
            ),
            // Who may not look there cannot mount it either.
            Err(_) => {}
        }
    }
}

/// Whether it is of another kind: tables of types differ in one half for some names, as in
/// `text/javascript` and `application/javascript`.
fn is_another(found: &str, expected: &str) -> bool {
    if SAYS_NOTHING.contains(&found) {
        return true;
    }
    match (found.split_once('/'), expected.split_once('/')) {
        (Some((kind, of)), Some((wanted, of_wanted))) => kind != wanted && of != of_wanted,
        _ => true,
    }
}

/// Objects that browsers save, or show as what they are not.
async fn content_types(
    store: &dyn ObjectStore,
    config: &Config,
    page: &ListAnswer,
    report: &mut Report,
) {
    let types = match config.mime.as_deref().map(ContentTypes::read).transpose() {
        Ok(types) => types.unwrap_or_default(),
        Err(error) => {
            report.fail("mime", error, "change --mime");
            return;
        }
    };
    let expected = page.objects.iter().filter_map(|object| {
        let name = object.key.as_str().rsplit('/').next()?;
        Some((&object.key, types.of(&Name::from_segment(name)?)?))
    });
    let (mut asked, mut wrong) = (0, Vec::new());
    for (key, expected) in expected.take(HEADS_LIMIT) {
        let request = HeadRequest { key: key.clone() };
        let meta = match store.head(request).await {
            Ok(meta) => meta,
            Err(error) if error.kind.is_no_answer() => {
                let found = format!("not known: {error}");
                report.warn("content types", found, NO_ANSWER);
                return;
            }
            Err(_) => continue,
        };
        asked += 1;
        let found = meta.headers.content_type.unwrap_or_default();
        // What comes after a semicolon is its charset.
        let kind = found.split(';').next().unwrap_or_default().trim();
        if is_another(kind, &expected) && !SAYS_NOTHING.contains(&expected.as_str()) {
            wrong.push(format!("{key} ({found:?}, should be {expected})"));
        }
    }
    if wrong.is_empty() {
        report.ok(
            "content types",
            format!("right in {asked} objects looked at"),
        );
        return;
    }
    let count = wrong.len();
    wrong.truncate(NAMED_LIMIT);
    report.warn(
        "content types",
        format!(
            "{count} of {asked} objects looked at have another type than their name says: {}",
            wrong.join(", ")
        ),
        "copy them onto themselves through a mount (cp FILE FILE.new && mv FILE.new FILE): it names the type",
    );
}
