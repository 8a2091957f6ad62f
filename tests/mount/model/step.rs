//! What one step of a case does, and how steps are drawn.

use libc::{O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::pattern;

/// Files that a case holds open at once.
pub const SLOTS: usize = 3;

/// Few, so that steps meet; the simplest come first, as shrinking goes there.
const PATHS: [&str; 18] = [
    "a",
    "b",
    "c.txt",
    "a",
    "b",
    "a/a",
    "a/b",
    "b/a",
    "b/b",
    "a/a",
    "a/c.txt",
    "b/c.txt",
    "a/a/a",
    "a/a/b",
    "a/b/a",
    "b/a/a",
    "b/b/b",
    "a/a/c.txt",
];
/// Around the borders of pages, which are the mount's blocks too.
const LENGTHS: [usize; 6] = [3, 0, 1, 4096, 4097, 10_000];
const OFFSETS: [u64; 6] = [0, 1, 4095, 4096, 9_999, 20_000];
const OPEN_FLAGS: [i32; 11] = [
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    O_RDWR | O_CREAT,
    O_WRONLY | O_CREAT | O_TRUNC,
    O_RDWR | O_CREAT | O_EXCL,
    O_WRONLY | O_CREAT | O_EXCL,
    O_RDWR | O_TRUNC,
    O_WRONLY | O_APPEND,
    O_RDWR | O_APPEND | O_CREAT,
    O_RDONLY | O_DIRECTORY,
];

/// Bytes to write: which, and how many.
#[derive(Debug, Clone, Copy)]
pub struct Data(pub usize, pub u64);

impl Data {
    pub fn bytes(self) -> Vec<u8> {
        pattern(self.0, self.1)
    }
}

pub type Path = &'static str;
type Slot = usize;

#[derive(Debug, Clone)]
pub enum Step {
    Open(Slot, Path, i32),
    Close(Slot),
    WriteAt(Slot, u64, Data),
    /// At the descriptor's own position.
    Write(Slot, Data),
    ReadAt(Slot, u64, usize),
    SetLen(Slot, u64),
    /// fallocate(2), with its mode.
    Allocate(Slot, i32, u64, u64),
    StatOpen(Slot),
    Sync(Slot),
    /// Open, write, close.
    WriteFile(Path, Data),
    AppendFile(Path, Data),
    Truncate(Path, u64),
    Rename(Path, Path),
    RenameNoReplace(Path, Path),
    Exchange(Path, Path),
    Unlink(Path),
    Mkdir(Path),
    Rmdir(Path),
    ReadDir(Path),
    Stat(Path),
    Chmod(Path, u32),
    /// Closes every file, ends the daemon and starts it again.
    Remount,
    /// Another client puts an object.
    Put(Path, Data),
    /// Another client deletes an object.
    Delete(Path),
}

/// Who changes the bucket while a case runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    ThisMountOnly,
    AnotherToo,
}

fn path() -> impl Strategy<Value = Path> {
    select(&PATHS[..])
}

fn slot() -> impl Strategy<Value = Slot> {
    0..SLOTS
}

fn data() -> impl Strategy<Value = Data> {
    (select(&LENGTHS[..]), 0_u64..1000).prop_map(|(len, seed)| Data(len, seed))
}

fn offset() -> impl Strategy<Value = u64> {
    select(&OFFSETS[..])
}

fn length() -> impl Strategy<Value = usize> {
    select(&LENGTHS[..])
}

fn through_open_files() -> BoxedStrategy<Step> {
    let allocations = [0, libc::FALLOC_FL_KEEP_SIZE, PUNCH_HOLE];
    prop_oneof![
        4 => (slot(), path(), select(&OPEN_FLAGS[..])).prop_map(|(s, p, f)| Step::Open(s, p, f)),
        2 => slot().prop_map(Step::Close),
        3 => (slot(), offset(), data()).prop_map(|(s, o, d)| Step::WriteAt(s, o, d)),
        2 => (slot(), data()).prop_map(|(s, d)| Step::Write(s, d)),
        2 => (slot(), offset(), length()).prop_map(|(s, o, l)| Step::ReadAt(s, o, l)),
        1 => (slot(), offset()).prop_map(|(s, l)| Step::SetLen(s, l)),
        1 => (slot(), select(allocations.to_vec()), offset(), 1_u64..5000)
            .prop_map(|(s, how, o, l)| Step::Allocate(s, how, o, l)),
        1 => slot().prop_map(Step::StatOpen),
        1 => slot().prop_map(Step::Sync),
    ]
    .boxed()
}

const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;

fn by_name() -> BoxedStrategy<Step> {
    prop_oneof![
        4 => (path(), data()).prop_map(|(p, d)| Step::WriteFile(p, d)),
        1 => (path(), data()).prop_map(|(p, d)| Step::AppendFile(p, d)),
        1 => (path(), offset()).prop_map(|(p, l)| Step::Truncate(p, l)),
        4 => (path(), path()).prop_map(|(a, b)| Step::Rename(a, b)),
        1 => (path(), path()).prop_map(|(a, b)| Step::RenameNoReplace(a, b)),
        1 => (path(), path()).prop_map(|(a, b)| Step::Exchange(a, b)),
        3 => path().prop_map(Step::Unlink),
        4 => path().prop_map(Step::Mkdir),
        2 => path().prop_map(Step::Rmdir),
        1 => path().prop_map(Step::ReadDir),
        1 => path().prop_map(Step::Stat),
        1 => (path(), select(vec![0o600, 0o644, 0o755])).prop_map(|(p, m)| Step::Chmod(p, m)),
    ]
    .boxed()
}

pub fn step(clients: Clients) -> BoxedStrategy<Step> {
    let others = match clients {
        Clients::ThisMountOnly => 0,
        Clients::AnotherToo => 4,
    };
    let by_others = prop_oneof![
        2 => (path(), data()).prop_map(|(p, d)| Step::Put(p, d)),
        1 => path().prop_map(Step::Delete),
    ];
    prop_oneof![
        16 => by_name(),
        14 => through_open_files(),
        1 => Just(Step::Remount),
        others => by_others,
    ]
    .boxed()
}
