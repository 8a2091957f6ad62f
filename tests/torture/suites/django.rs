//! Django's FileSystemStorage, as an application uses it for its uploads.

use std::collections::BTreeMap;

use crate::support::Amount;
use crate::support::{Mount, run_python, sha256};

/// Does what an application does, and prints the digest that each file must have.
const PROGRAM: &str = include_str!("django_storage.py");

#[test]
fn what_django_saves_is_in_the_bucket_under_the_name_it_returned() {
    // As applications use it: attributes are the mount's, and no key but the files.
    let fixed = ["--allow-other", "--uid", "0", "--gid", "0"];
    let builder = Mount::builder().args(fixed).within(Amount::deadline());
    let mut mount = builder.start();
    let uploads = mount.scratch().join("uploads");
    std::fs::create_dir(&uploads).unwrap();
    let count = Amount::of("20", "200");
    let told = run_python(PROGRAM, &[&mount.root, &uploads, count.as_ref()]);
    let wanted: BTreeMap<String, String> = serde_json::from_str(&told).unwrap();
    let saved: Vec<_> = wanted.keys().cloned().collect();
    mount.wait_for_keys("what was saved", |keys| keys == saved);
    mount.remount();
    for (name, digest) in &wanted {
        assert_eq!(sha256(&mount.object(name).unwrap()), *digest, "{name}");
        let file = std::fs::read(mount.path(name)).unwrap();
        assert_eq!(sha256(&file), *digest, "{name} on the next mount");
    }
    let left = std::fs::read_dir(&uploads).unwrap().count();
    assert_eq!(left, 0, "temporary files");
    println!(
        "suite django: {} files saved, every check passed",
        saved.len()
    );
}
