//! What is in the bucket that a mount or an application will stumble over.

use futures::{StreamExt, stream};

use super::keys::Keys;
use super::{Extent, Findings, NO_ANSWER};
use crate::config::Config;
use crate::files::ContentTypes;
use crate::namespace::Name;
use crate::store::{
    FoldDirectories, HeadRequest, Key, LIST_PAGE_LIMIT, ListAnswer, ListProgress, ListRequest,
    ObjectStore, StoreError,
};

/// Objects that are listed, if not all: a request for each thousand.
const LISTED_LIMIT: usize = 20_000;
/// Objects whose Content-Type is asked for, if not of all.
const HEADS_LIMIT: usize = 20;
const HEADS_AT_ONCE: usize = 16;
/// Types that say nothing, so that a browser saves what it should show.
const SAYS_NOTHING: [&str; 3] = ["", "binary/octet-stream", "application/octet-stream"];
/// What authentik executes when it starts, where it is in the root of `/data`.
const USER_SETTINGS: &str = "user_settings.py";

/// Looks at the objects from the first page of their flat listing on.
pub(super) async fn examine(
    store: &dyn ObjectStore,
    config: &Config,
    first: ListAnswer,
    extent: Extent,
    report: &mut Findings,
) {
    let mut keys = Keys::new(config, extent);
    let mut types = match ContentTypeCheck::new(config, extent) {
        Ok(types) => Some(types),
        Err(error) => {
            report.fail("mime", error, "change --mime");
            None
        }
    };
    let (mut page, mut progress) = (first, ListProgress::default());
    let part = loop {
        keys.add_page(&page);
        if let Some(types) = &mut types {
            types.add_page(store, &page).await;
        }
        let count = keys.count();
        let moves_on = progress.step(&config.prefix, &page);
        let Some(token) = page.next.take() else {
            break String::new();
        };
        if extent == Extent::Sample && count >= LISTED_LIMIT {
            break format!(" (of the first {count}; --all looks at every object)");
        }
        let request = ListRequest {
            prefix: config.prefix.clone(),
            fold_directories: FoldDirectories::No,
            token: Some(token),
            max_keys: LIST_PAGE_LIMIT,
        };
        let listed = match moves_on {
            Ok(()) => store.list(request).await,
            Err(error) => Err(error),
        };
        page = match listed {
            Ok(page) => page,
            Err(error) => {
                report.warn("list", format!("after {count} objects: {error}"), NO_ANSWER);
                break format!(" (of the first {count})");
            }
        };
    };
    keys.report(&part, report);
    executed(store, config, report).await;
    if let Some(types) = types {
        types.report(report);
    }
}

/// Below the prefix, and in the bucket's root, which others may mount.
async fn executed(store: &dyn ObjectStore, config: &Config, report: &mut Findings) {
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
#[derive(Debug)]
struct ContentTypeCheck {
    expected: ContentTypes,
    /// How many objects are asked for at most.
    limit: usize,
    named_limit: usize,
    asked: usize,
    /// More than those were there.
    is_cut: bool,
    wrong: usize,
    named: Vec<String>,
    failed: Option<StoreError>,
}

impl ContentTypeCheck {
    /// Errors: what `--mime` names cannot be read.
    fn new(config: &Config, extent: Extent) -> Result<Self, String> {
        let expected = config.mime.as_deref().map(ContentTypes::read).transpose()?;
        Ok(Self {
            expected: expected.unwrap_or_default(),
            limit: match extent {
                Extent::Sample => HEADS_LIMIT,
                Extent::All => usize::MAX,
            },
            named_limit: extent.named_limit(),
            asked: 0,
            is_cut: false,
            wrong: 0,
            named: Vec::new(),
            failed: None,
        })
    }

    async fn add_page(&mut self, store: &dyn ObjectStore, page: &ListAnswer) {
        let left = self.limit - self.asked;
        let expected = page.objects.iter().filter_map(|object| {
            let name = object.key.as_str().rsplit('/').next()?;
            Some((&object.key, self.expected.of(&Name::from_segment(name)?)?))
        });
        let mut expected: Vec<_> = expected.take(left.saturating_add(1)).collect();
        self.is_cut |= expected.len() > left;
        expected.truncate(left);
        let mut heads = stream::iter(expected)
            .map(async |(key, expected)| {
                let request = HeadRequest { key: key.clone() };
                (key, expected, store.head(request).await)
            })
            .buffered(HEADS_AT_ONCE);
        while self.failed.is_none()
            && let Some((key, expected, answer)) = heads.next().await
        {
            match answer {
                Ok(meta) => self.add(key, &expected, meta.headers.content_type),
                Err(error) if error.kind.is_no_answer() => self.failed = Some(error),
                Err(_) => {}
            }
        }
    }

    fn add(&mut self, key: &Key, expected: &str, found: Option<String>) {
        self.asked += 1;
        let found = found.unwrap_or_default();
        // What comes after a semicolon is its charset.
        let kind = found.split(';').next().unwrap_or_default().trim();
        if !is_another(kind, expected) || SAYS_NOTHING.contains(&expected) {
            return;
        }
        self.wrong += 1;
        if self.named.len() < self.named_limit {
            self.named
                .push(format!("{key} ({found:?}, should be {expected})"));
        }
    }

    fn report(self, report: &mut Findings) {
        const CHECK: &str = "content types";
        let asked = self.asked;
        if let Some(error) = self.failed {
            let found = format!("not known after {asked} objects: {error}");
            report.warn(CHECK, found, NO_ANSWER);
            return;
        }
        let more = match self.is_cut {
            true => "; --all looks at every object",
            false => "",
        };
        if self.wrong == 0 {
            report.ok(CHECK, format!("right in {asked} objects looked at{more}"));
            return;
        }
        report.warn(
            CHECK,
            format!(
                "{} of {asked} objects looked at have another type than their name says{more}: {}",
                self.wrong,
                self.named.join(", ")
            ),
            "copy them onto themselves through a mount (cp FILE FILE.new && mv FILE.new FILE): it names the type",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigSource, Options, Target};
    use crate::doctor::Finding;
    use crate::namespace::SHADOWED;
    use crate::store::memory::Memory;
    use crate::store::{ObjectHeaders, PutRequest, WriteCondition};

    async fn report_of(store: &Memory, extent: Extent) -> Vec<Finding> {
        let target = Target::Place {
            bucket: "b".to_owned(),
            mountpoint: "/srv/m".into(),
        };
        let source = ConfigSource::new(target, None, Options::default(), "/".into()).unwrap();
        let first = ListRequest::page("", FoldDirectories::No, None);
        let first = store.list(first).await.unwrap();
        let mut report = Findings::default();
        examine(store, &source.load().unwrap(), first, extent, &mut report).await;
        report.0
    }

    #[tokio::test]
    async fn what_stands_behind_the_first_objects_is_counted_or_told_not_to_be() {
        let store = Memory::default();
        let sample = (0..LISTED_LIMIT).map(|number| format!("a{number:05}.png"));
        let behind = ["b", "b-", "b/c", "z//z"].map(str::to_owned);
        for key in sample.chain(behind) {
            let request = PutRequest {
                key: Key::new(key),
                body: Default::default(),
                headers: ObjectHeaders::default(),
                condition: WriteCondition::Always,
            };
            store.put(request).await.unwrap();
        }
        let found = |findings: &[Finding]| -> Vec<String> {
            findings
                .iter()
                .map(|finding| finding.found.clone())
                .collect()
        };
        let sample = found(&report_of(&store, Extent::Sample).await);
        let part = "(of the first 20000; --all looks at every object)";
        assert!(sample[0].ends_with(part), "{sample:?}");
        assert_eq!(sample[1], format!("each can be a file {part}"));
        assert!(sample[2].starts_with("20 of 20 objects"), "{sample:?}");
        assert!(
            sample[2].contains("--all looks at every object"),
            "{sample:?}"
        );
        let all = found(&report_of(&store, Extent::All).await);
        assert_eq!(all[0], "20004 files and 0 directory markers");
        let expected = format!("2 cannot be shown as files: b ({SHADOWED}), z//z (");
        assert!(all[1].starts_with(&expected), "{all:?}");
        assert!(all[2].starts_with("20000 of 20000 objects"), "{all:?}");
    }
}
