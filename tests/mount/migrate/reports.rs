//! What a run tells of itself.

use crate::support::Migration;
use crate::support::migration::Ended;
use crate::support::programs::has_all;

#[test]
fn a_directory_beside_a_manifest_is_wrong_usage() {
    let all = Migration::new();
    all.file("a", "a");
    let manifest = all.scratch.path().join("manifest");
    let manifest = ["--manifest", manifest.to_str().unwrap()];
    all.ends("import", &[&["--yes"], &manifest[..]].concat(), 0);
    let refused = all.ends("verify", &manifest, 2);
    has_all(
        &refused.said,
        &["in place of DIR", all.tree.to_str().unwrap()],
    );
}

#[test]
fn a_path_where_the_bucket_belongs_is_wrong_usage() {
    let all = Migration::new();
    for name in ["import", "verify", "export"] {
        let tree = all.tree.to_str().unwrap();
        let mut command = all.command_between(name, &all.tree, tree, &["--json"]);
        let refused = Ended::of(&mut command);
        assert_eq!(refused.code, 2, "{name}: {}", refused.said);
        has_all(&refused.said, &[tree, "BUCKET[/PREFIX]", "in their order"]);
    }
}
