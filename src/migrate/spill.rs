//! A list that is longer than memory: a line of JSON for each entry, on the local disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::marker::PhantomData;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is written from its start to its end, then read.
#[derive(Debug)]
pub struct Spill<T> {
    out: BufWriter<File>,
    count: u64,
    of: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned> Spill<T> {
    /// Its file has no name.
    pub fn new(scratch: &Path, name: &str) -> io::Result<Self> {
        Ok(Self {
            out: BufWriter::new(unnamed(&scratch.join(name))?),
            count: 0,
            of: PhantomData,
        })
    }

    pub fn push(&mut self, entry: &T) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, entry)?;
        self.out.write_all(b"\n")?;
        self.count += 1;
        Ok(())
    }

    pub fn len(&self) -> u64 {
        self.count
    }

    /// The entries, in their order.
    pub fn read(self) -> io::Result<impl Iterator<Item = io::Result<T>> + Send>
    where
        T: Send,
    {
        let mut file = self.out.into_inner().map_err(|error| error.into_error())?;
        file.rewind()?;
        let lines = BufReader::new(file).lines();
        Ok(lines.map(|line| Ok(serde_json::from_str(&line?)?)))
    }
}

/// A file that is gone when nobody has it open.
pub fn unnamed(path: &Path) -> io::Result<File> {
    let own = format!("{}.{}", path.display(), std::process::id());
    let path = Path::new(&own);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let file = crate::private::open(path, &options)?;
    fs::remove_file(path)?;
    Ok(file)
}
