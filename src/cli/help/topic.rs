//! The topics: each a file beside this one, shown as text and installed as a man page.

/// One page of `mediafs help`.
#[derive(Debug, Clone, Copy)]
pub struct Topic {
    pub name: &'static str,
    /// Begins with `# NAME: SUMMARY`.
    pub markdown: &'static str,
}

macro_rules! topics {
    ($($name:literal),*) => {
        [$(Topic { name: $name, markdown: include_str!(concat!($name, ".md")) }),*]
    };
}

/// Every topic, in the order in which an operator meets them.
pub const TOPICS: [Topic; 23] = topics![
    "setup",
    "durability",
    "coherence",
    "attributes",
    "outages",
    "objects",
    "networks",
    "stores",
    "upgrades",
    "containers",
    "kubernetes",
    "authentik",
    "spool",
    "status",
    "logs",
    "metrics",
    "limits",
    "performance",
    "privileges",
    "doctor",
    "migrate",
    "overlay",
    "troubleshooting"
];

impl Topic {
    pub fn named(name: &str) -> Option<Self> {
        TOPICS.into_iter().find(|topic| topic.name == name)
    }

    /// What it is about, in half a line.
    pub fn summary(self) -> &'static str {
        let title = self.markdown.lines().next().unwrap_or_default();
        title.split_once(": ").map_or(title, |(_, summary)| summary)
    }
}

/// The list of topics, as it stands below the list of commands.
pub fn list() -> String {
    let lines = TOPICS.map(|topic| format!("  {:15}  {}\n", topic.name, topic.summary()));
    format!(
        "Topics, shown by 'mediafs help TOPIC':\n{}",
        lines.concat().trim_end()
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cli::help::text;
    use crate::ops::own_attributes;

    #[test]
    fn each_topic_begins_with_its_name_and_fits_a_terminal() {
        for topic in TOPICS {
            let title = format!("# {}: {}", topic.name, topic.summary());
            assert_eq!(topic.markdown.lines().next(), Some(title.as_str()));
            for line in topic.markdown.lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", topic.name);
            }
            for line in text::render(topic.markdown).lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", topic.name);
            }
        }
        for line in list().lines() {
            assert!(line.len() <= 80, "{line}");
        }
    }

    #[test]
    fn each_attribute_that_mediafs_tells_is_documented_and_no_other() {
        const MARK: &str = "user.mediafs.";
        let known: BTreeSet<String> = own_attributes().collect();
        let attributes = Topic::named("attributes").unwrap().markdown;
        for name in &known {
            let row = format!("\n| `{name}` ");
            assert!(attributes.contains(&row), "{name} has no row");
        }
        for topic in TOPICS {
            for (at, _) in topic.markdown.match_indices(MARK) {
                let rest = &topic.markdown[at + MARK.len()..];
                let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
                let name = format!("{MARK}{}", &rest[..end.unwrap_or(rest.len())]);
                assert!(known.contains(&name), "{}: {name}", topic.name);
            }
        }
    }

    /// `mediafs help TOPIC` in a page leads somewhere.
    #[test]
    fn a_topic_that_a_page_names_is_there() {
        const MARK: &str = "`mediafs help ";
        for topic in TOPICS {
            for (at, _) in topic.markdown.match_indices(MARK) {
                let rest = &topic.markdown[at + MARK.len()..];
                let name = rest.split('`').next().unwrap();
                assert!(Topic::named(name).is_some(), "{}: {name}", topic.name);
            }
        }
    }
}
