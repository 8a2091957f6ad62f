//! fio: blocks with checksums, written by several processes and verified, then
//! verified again on the next mount, which has them from S3.

use crate::support::Amount;
use crate::support::Mount;
use crate::support::suite::{builder, run, tool};

const PROCESSES: u64 = 3;

/// A pattern of writing, for a file of each process.
struct Job {
    name: &'static str,
    options: &'static [&'static str],
    /// Bytes of each process.
    size_bytes: u64,
}

fn jobs() -> [Job; 4] {
    let size_bytes = |slice: u64, full: u64| Amount::of(slice, full) << 20;
    [
        Job {
            name: "sequential",
            options: &["--rw=write", "--bs=128k"],
            size_bytes: size_bytes(16, 256),
        },
        Job {
            name: "random",
            options: &["--rw=randwrite", "--bs=4k"],
            size_bytes: size_bytes(8, 64),
        },
        Job {
            name: "mixed-with-fsync",
            options: &["--rw=randwrite", "--bsrange=1k-256k", "--fsync=64"],
            size_bytes: size_bytes(8, 64),
        },
        Job {
            name: "mapped",
            options: &["--rw=randwrite", "--bs=4k", "--ioengine=mmap"],
            size_bytes: size_bytes(8, 64),
        },
    ]
}

#[test]
fn blocks_written_by_several_processes_verify_at_once_and_on_the_next_mount() {
    let mut mount = builder().start();
    for job in &jobs() {
        let done = fio(&mount, job, &[]);
        let wanted = PROCESSES * job.size_bytes;
        assert_eq!(done.written_bytes, wanted, "{}", job.name);
        assert_eq!(done.read_bytes, wanted, "{}", job.name);
    }
    mount.remount();
    let mut verified_bytes = 0;
    for job in &jobs() {
        let done = fio(&mount, job, &["--verify_only"]);
        assert_eq!(done.read_bytes, PROCESSES * job.size_bytes, "{}", job.name);
        verified_bytes += done.read_bytes;
    }
    println!(
        "suite fio: {} jobs x {PROCESSES} processes, {} MiB verified twice, 0 wrong",
        jobs().len(),
        verified_bytes >> 20
    );
}

struct Done {
    read_bytes: u64,
    written_bytes: u64,
}

/// Runs one job; fio ends with an error at the first block that is wrong.
#[track_caller]
fn fio(mount: &Mount, job: &Job, more: &[&str]) -> Done {
    let mut command = tool("fio");
    command
        .arg(format!("--name={}", job.name))
        .arg(format!("--directory={}", mount.root.display()))
        .arg(format!("--size={}", job.size_bytes))
        .arg(format!("--numjobs={PROCESSES}"))
        .args(["--ioengine=psync", "--verify=crc32c", "--verify_fatal=1"])
        .args(["--do_verify=1", "--verify_state_save=0"])
        .args(["--group_reporting", "--output-format=json"])
        .args(job.options)
        .args(more)
        .current_dir(mount.scratch());
    let told = run(&mut command);
    // Warnings may stand before the report.
    let report = &told[told.find('{').expect(&told)..];
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    let bytes = |direction: &str| report["jobs"][0][direction]["io_bytes"].as_u64().unwrap();
    assert_eq!(report["jobs"][0]["error"], 0, "{told}");
    Done {
        read_bytes: bytes("read"),
        written_bytes: bytes("write"),
    }
}
