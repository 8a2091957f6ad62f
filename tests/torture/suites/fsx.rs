//! fsx: random reads, writes, truncations and mappings of one file, each read
//! compared with what was written.

use std::fs;

use crate::support::Amount;
use crate::support::Mount;
use crate::support::data::assert_same_bytes;
use crate::support::suite::{builder, run, suite};

/// Operations that do not upload the file.
const WEIGHTS: &str = "
invalidate = 1
mapread = 10
read = 10
write = 10
truncate = 5
posix_fallocate = 2
punch_hole = 5
sendfile = 5
posix_fadvise = 2
copy_file_range = 5
";

/// One run of fsx for each seed, on a file of its own.
struct Plan {
    name: &'static str,
    seeds: &'static [u64],
    operations: u64,
    config: &'static str,
    /// Weight of each operation that uploads the whole file, where a read has
    /// 10: the server keeps what it was sent, which stays within a few gigabytes.
    uploads: f64,
}

#[test]
fn random_operations_on_a_file_of_one_block_read_what_they_wrote() {
    let mut mount = builder().start();
    let plan = Plan {
        name: "fsx, file of one block",
        seeds: Amount::of(&[1, 2], &[1, 2, 3, 4]),
        operations: Amount::of(4_000, 100_000),
        // A mapped write ends with msync(2), an upload too.
        config: "flen = 262144\n[weights]\nmapwrite = 3\n",
        uploads: Amount::of(0.5, 0.3),
    };
    check(&mut mount, &plan);
}

#[test]
fn random_operations_on_a_file_of_many_blocks_and_parts_read_what_they_wrote() {
    let options = [
        ["--block-size", "64KiB"],
        ["--memory-cache", "16MiB"],
        ["--part-size", "5MiB"],
    ];
    let mut mount = builder().args(options.concat()).start();
    let plan = Plan {
        name: "fsx, file of several parts",
        seeds: Amount::of(&[11], &[11, 12]),
        operations: Amount::of(2_000, 100_000),
        config: "flen = 12582912\nnomsyncafterwrite = true\n[weights]\nmapwrite = 10\n",
        uploads: Amount::of(0.5, 0.03),
    };
    check(&mut mount, &plan);
}

fn check(mount: &mut Mount, plan: &Plan) {
    let config = mount.scratch().join("fsx.toml");
    let mut text = format!("{}{WEIGHTS}", plan.config);
    for operation in ["close_open", "fsync", "fdatasync"] {
        text += &format!("{operation} = {}\n", plan.uploads);
    }
    fs::write(&config, text).unwrap();
    for seed in plan.seeds {
        let mut command = suite("fsx");
        command
            .arg("-f")
            .arg(&config)
            .arg("-P")
            .arg(mount.scratch())
            .args(["-N", &plan.operations.to_string()])
            .args(["-S", &seed.to_string()])
            .arg(mount.path(seed.to_string()));
        let told = run(&mut command);
        assert!(told.contains("All operations completed A-OK!"), "{told}");
    }
    let name = |seed: &u64| seed.to_string();
    let read = |mount: &Mount, seed| fs::read(mount.path(name(seed))).unwrap();
    let before: Vec<_> = plan.seeds.iter().map(|seed| read(mount, seed)).collect();
    mount.remount();
    for (seed, bytes) in plan.seeds.iter().zip(before) {
        assert_same_bytes(&mount.object(&name(seed)).unwrap(), &bytes, "the object");
        assert_same_bytes(&read(mount, seed), &bytes, "the file of the next mount");
    }
    println!(
        "suite {}: {} seeds x {} operations, 0 wrong",
        plan.name,
        plan.seeds.len(),
        plan.operations
    );
}
