//! Suites and programs that others wrote, run on a real mount.
//!
//! Each test prints its figures in a line that starts with `suite `.

mod archives;
mod copies;
mod cpython;
mod django;
mod editors;
mod fio;
mod fsx;
mod logrotate;
mod nginx;
mod php;
mod pjdfstest;
mod sqlite;
