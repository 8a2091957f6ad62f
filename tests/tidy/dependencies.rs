//! The crates that the program is made of: under which licences, and each in one version.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// The program may be passed on under its own licence with parts under these.
const LICENCES: [&str; 7] = [
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];
/// In two versions, since two crates that we use want one each. What is needed once more
/// takes this name off the list; another name on it has a reason: `rand` and its parts are
/// there for failpoints too, which no build but that of tests has.
const TWICE: [&str; 18] = [
    "base64",
    "block-buffer",
    "cpufeatures",
    "crypto-common",
    "digest",
    "getrandom",
    "lock_api",
    "lru",
    "parking_lot",
    "parking_lot_core",
    "rand",
    "rand_chacha",
    "rand_core",
    "sha1",
    "syn",
    "toml_datetime",
    "toml_edit",
    "winnow",
];

#[derive(Debug)]
struct Crate {
    name: String,
    version: String,
    licence: String,
}

/// Every crate but those that only tests use.
fn used() -> Vec<Crate> {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["metadata", "--locked", "--offline", "--format-version=1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let by_id = |list: &Value| -> BTreeMap<String, Value> {
        let list = list.as_array().unwrap().iter();
        list.map(|it| (text(&it["id"]), it.clone())).collect()
    };
    let (packages, nodes) = (by_id(&told["packages"]), by_id(&told["resolve"]["nodes"]));
    let mut found = BTreeSet::new();
    let mut left = vec![text(&told["resolve"]["root"])];
    while let Some(id) = left.pop() {
        let deps = nodes[&id]["deps"].as_array().unwrap();
        let deps = deps.iter().filter(|dep| {
            let kinds = dep["dep_kinds"].as_array().unwrap();
            kinds.iter().any(|kind| kind["kind"] != "dev")
        });
        if found.insert(id.clone()) {
            left.extend(deps.map(|dep| text(&dep["pkg"])));
        }
    }
    let crates = found.iter().map(|id| &packages[id]);
    let crates = crates.map(|package| Crate {
        name: text(&package["name"]),
        version: text(&package["version"]),
        licence: text(&package["license"]),
    });
    crates.collect()
}

/// Whether a licence lets us choose those of the list. The form with a slash is older
/// than SPDX's; alternatives stand below what is needed together.
fn is_allowed(licence: &str) -> bool {
    let licence = licence.replace('/', " OR ");
    licence.split(" AND ").all(|needed| {
        let needed = needed.trim().trim_matches(['(', ')']);
        let mut choices = needed.split(" OR ").map(str::trim);
        choices.any(|choice| LICENCES.contains(&choice))
    })
}

#[test]
fn every_crate_is_under_a_licence_of_the_list() {
    let crates = used();
    assert!(crates.len() > 100, "{}", crates.len());
    let others = crates.iter().filter(|it| !is_allowed(&it.licence));
    let others: Vec<&Crate> = others.collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn a_licence_is_judged_by_what_it_lets_us_choose() {
    for allowed in [
        "MIT",
        "GPL-3.0 OR MIT",
        "GPL-3.0/MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
    ] {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT-0"] {
        assert!(!is_allowed(refused), "{refused}");
    }
}

#[test]
fn no_crate_but_those_of_the_list_is_there_in_two_versions() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for it in used() {
        versions.entry(it.name).or_default().insert(it.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let names: Vec<&str> = versions.keys().map(String::as_str).collect();
    assert_eq!(names, TWICE, "{versions:#?}");
}
