//! A log file of bounded size.
//!
//! Several processes of one mount write to it, each through a descriptor of its own:
//! the daemon, its supervisor and its notifier. So each line goes to the file that has
//! the name at that moment, whoever moved the one before away: another process of the
//! mount, or logrotate(8).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use clap::Args;
use rustix::fs::{FlockOperation, OFlags, fcntl_getfl, fcntl_setfl, flock};

use crate::private;

/// Where a log file is and how large it may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFileSettings {
    /// Absolute.
    pub path: PathBuf,
    /// A file that is this long is moved aside; 0: never.
    pub limit_bytes: u64,
    /// The file and those moved aside.
    pub count: usize,
    /// In the mount's own directory, where no symlink is followed; else an
    /// administrator's choice, perhaps a device or a link.
    pub is_private: bool,
}

/// The same as arguments of a subcommand.
#[derive(Debug, Clone, Args)]
pub struct LogFileArgs {
    /// File to log to [default: standard error]
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Size at which the log file is moved aside; 0: never
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    log_file_size: u64,
    /// Log files that are kept, with the one that is written
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    log_file_count: usize,
    /// It is in the mount's own directory: no symlink is followed
    #[arg(long, hide = true)]
    log_is_private: bool,
}

impl LogFileArgs {
    pub fn settings(self) -> Option<LogFileSettings> {
        Some(LogFileSettings {
            path: self.log_file?,
            limit_bytes: self.log_file_size,
            count: self.log_file_count,
            is_private: self.log_is_private,
        })
    }
}

impl LogFileSettings {
    /// As `LogFileArgs` reads them.
    pub fn to_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["--log-file".into(), self.path.clone().into()];
        args.extend([
            "--log-file-size".into(),
            self.limit_bytes.to_string().into(),
        ]);
        args.extend(["--log-file-count".into(), self.count.to_string().into()]);
        args.extend(self.is_private.then(|| "--log-is-private".into()));
        args
    }

    /// Errors: with the file's name.
    pub fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        // A pipe that nobody reads is refused, and no terminal becomes this process's own.
        let flags = OFlags::NONBLOCK.union(OFlags::NOCTTY);
        options
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags.bits() as i32);
        let file = if self.is_private {
            private::open(&self.path, &options)?
        } else {
            options.open(&self.path)?
        };
        fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
        Ok(file)
    }

    /// Where the file was moved to so many times ago.
    fn aside(&self, number: usize) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

/// Which file a descriptor or a name is of.
type FileId = (u64, u64);

fn id(metadata: &fs::Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// A log file that is open.
#[derive(Debug)]
pub struct LogFile {
    args: LogFileSettings,
    file: File,
    id: FileId,
    /// Devices and pipes have no length and keep their place.
    is_regular: bool,
}

impl LogFile {
    /// Errors: it cannot be opened, or is a pipe that nobody reads.
    pub fn open(args: LogFileSettings) -> io::Result<Self> {
        let file = args.open()?;
        let metadata = file.metadata()?;
        let (is_regular, id) = (metadata.is_file(), id(&metadata));
        Ok(Self {
            args,
            file,
            id,
            is_regular,
        })
    }

    /// The file, with room for so many bytes more. Errors: the disk's.
    pub fn with_room_for(&mut self, bytes: usize) -> io::Result<&mut File> {
        if !self.is_regular {
            return Ok(&mut self.file);
        }
        let followed = self.follow();
        let limit = self.args.limit_bytes;
        let len = self.file.metadata()?.len();
        if limit > 0 && len > 0 && len.saturating_add(bytes as u64) > limit {
            // Else the one that was moved away serves until another can be opened.
            followed?;
            self.rotate()?;
        }
        Ok(&mut self.file)
    }

    /// Opens the file that has the name now, where it is another one or none.
    pub fn follow(&mut self) -> io::Result<()> {
        let named = fs::metadata(&self.args.path);
        if named.is_ok_and(|metadata| id(&metadata) == self.id) {
            return Ok(());
        }
        let file = self.args.open()?;
        self.replace_in_standard_output(&file)?;
        let metadata = file.metadata()?;
        (self.id, self.is_regular) = (id(&metadata), metadata.is_file());
        self.file = file;
        Ok(())
    }

    /// What goes to standard output and error besides, where they are the same file.
    fn replace_in_standard_output(&self, new: &File) -> io::Result<()> {
        let is_this = |descriptor| {
            let stat = rustix::fs::fstat(descriptor);
            stat.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.id)
        };
        if is_this(rustix::stdio::stdout()) {
            rustix::stdio::dup2_stdout(new)?;
        }
        if is_this(rustix::stdio::stderr()) {
            rustix::stdio::dup2_stderr(new)?;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_err() {
            // Another process is at it; the next line finds what it did.
            return Ok(());
        }
        let named = fs::metadata(&self.args.path);
        if named.is_ok_and(|metadata| id(&metadata) == self.id)
            && let Err(error) = self.move_aside()
        {
            // The directory is another user's: what the file has is given up.
            self.file.set_len(0)?;
            let note = format!("emptied, since it cannot be renamed: {error}\n");
            self.file.write_all(note.as_bytes())?;
            flock(&self.file, FlockOperation::Unlock)?;
            return Ok(());
        }
        // The lock goes with the descriptor.
        self.follow()
    }

    fn move_aside(&self) -> io::Result<()> {
        let last = self.args.count.saturating_sub(1);
        if last == 0 {
            return fs::remove_file(&self.args.path);
        }
        for number in (1..last).rev() {
            match fs::rename(self.args.aside(number), self.args.aside(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.args.path, self.args.aside(1))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const LINE: &[u8] = b"a line of sixteen\n";

    fn args(dir: &Path, limit_bytes: u64, count: usize) -> LogFileSettings {
        LogFileSettings {
            path: dir.join("log"),
            limit_bytes,
            count,
            is_private: true,
        }
    }

    fn write(log: &mut LogFile, line: &[u8]) {
        log.with_room_for(line.len())
            .unwrap()
            .write_all(line)
            .unwrap();
    }

    fn files(dir: &Path) -> Vec<(String, u64)> {
        let mut files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                (name, entry.metadata().unwrap().len())
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn no_more_files_are_kept_than_asked_for_and_none_is_longer() {
        for count in [1, 2, 4] {
            let dir = tempfile::tempdir().unwrap();
            // Two processes, which take turns.
            let mut logs = [0; 2].map(|_| LogFile::open(args(dir.path(), 100, count)).unwrap());
            for number in 0..200 {
                write(&mut logs[number % 2], LINE);
            }
            let files = files(dir.path());
            assert_eq!(files.len(), count, "{files:?}");
            assert!(files.iter().all(|(_, len)| *len <= 100), "{files:?}");
            let kept: u64 = files.iter().map(|(_, len)| *len).sum();
            // The last lines, and of the others as many as fit.
            assert!(kept >= 90 * (count as u64 - 1), "{files:?}");
        }
    }

    #[test]
    fn without_a_limit_it_is_never_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(args(dir.path(), 0, 2)).unwrap();
        for _ in 0..1000 {
            write(&mut log, LINE);
        }
        assert_eq!(files(dir.path()), [("log".to_owned(), 18_000)]);
    }

    #[test]
    fn a_file_that_others_moved_away_or_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(args(dir.path(), 1000, 2)).unwrap();
        write(&mut log, b"first\n");
        fs::rename(dir.path().join("log"), dir.path().join("moved")).unwrap();
        write(&mut log, b"second\n");
        fs::remove_file(dir.path().join("log")).unwrap();
        write(&mut log, b"third\n");
        let read = |name| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(
            (read("moved").as_str(), read("log").as_str()),
            ("first\n", "third\n")
        );
    }

    #[test]
    fn a_directory_that_cannot_be_changed_costs_what_the_file_had() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(args(dir.path(), 100, 2)).unwrap();
        // Nothing is renamed over a directory that has something in it.
        fs::create_dir_all(dir.path().join("log.1/x")).unwrap();
        for _ in 0..20 {
            write(&mut log, LINE);
        }
        let text = fs::read_to_string(dir.path().join("log")).unwrap();
        assert!(text.starts_with("emptied, since it cannot be renamed"));
        assert!(text.ends_with("sixteen\n") && text.len() < 200);
    }

    #[test]
    fn a_device_keeps_its_place_and_a_pipe_that_nobody_reads_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let null = LogFileSettings {
            path: "/dev/null".into(),
            is_private: false,
            ..args(dir.path(), 10, 2)
        };
        let mut log = LogFile::open(null.clone()).unwrap();
        for _ in 0..10 {
            write(&mut log, LINE);
        }
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let refused = LogFile::open(LogFileSettings { path: pipe, ..null });
        assert!(refused.is_err());
    }
}
