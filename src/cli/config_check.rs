//! What a mount would refuse of a configuration whose values are good: what they name has
//! to be there too. No request is sent, and nothing is made.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use rustix::fs::Access;

use crate::config::Config;
use crate::files::ContentTypes;
use crate::private;
use crate::session::{self, FS_TYPE, MountpointError, check_mountpoint, check_overlay};
use crate::store::s3::{OnNetworkError, ProfileSettings};
use crate::store::{GivenKeys, KeySource};

/// What is wrong, by setting.
pub fn wrong(config: &Config) -> Vec<String> {
    let mut wrong = unreadable(config);
    let checks = [
        ("mime", mime(config)),
        ("mountpoint", mountpoint(config)),
        ("overlay", overlay(config)),
        ("spool", spool(config)),
        ("log-file", log_file(config)),
        ("profile", profile(config)),
    ];
    let failed = checks
        .into_iter()
        .filter_map(|(name, why)| Some((name, why?)));
    wrong.extend(failed.map(|(name, why)| format!("{name}: {why}")));
    if wrong.is_empty() {
        wrong.extend(not_connected(config));
    }
    wrong
}

fn unreadable(config: &Config) -> Vec<String> {
    let s3 = &config.s3;
    let key = s3.requests.sse_customer_key_file.as_deref();
    let files = [
        ("credentials-file", s3.credentials_file.as_deref()),
        ("ca-bundle", s3.ca_bundle.as_deref()),
        ("sse-customer-key-file", key),
    ];
    let files = files.into_iter().filter_map(|(name, path)| {
        let path = path?;
        let error = File::open(path).err()?;
        let path = path.display();
        Some(format!(
            "{name}: {path}: name a file that can be read: {error}"
        ))
    });
    files.collect()
}

fn mime(config: &Config) -> Option<String> {
    let path = config.mime.as_deref()?;
    let why = ContentTypes::read(path).err()?;
    Some(format!("{}: {why}", path.display()))
}

/// A mount of ours there may be the one that is configured.
fn mountpoint(config: &Config) -> Option<String> {
    match check_mountpoint(config).err()? {
        MountpointError::AlreadyMounted { fs_type, .. } if fs_type == FS_TYPE => None,
        error => Some(error.to_string()),
    }
}

fn overlay(config: &Config) -> Option<String> {
    let error = check_overlay(config).err()?;
    Some(session::in_words(&error))
}

fn spool(config: &Config) -> Option<String> {
    let error = private::check_directory(&config.spool_dir).err()?;
    Some(error.to_string())
}

/// One that is not there is made.
fn log_file(config: &Config) -> Option<String> {
    let path = config.log_file_path()?;
    let error = match OpenOptions::new().append(true).open(path) {
        Ok(_) => return None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let dir = path.parent().unwrap_or(Path::new("/"));
            let may = rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK);
            may.err()?.into()
        }
        Err(error) => error,
    };
    let path = path.display();
    Some(format!(
        "{path}: name a file in a directory that is there: {error}"
    ))
}

/// Credentials of a profile or a file that is named come from there, or from nowhere.
fn profile(config: &Config) -> Option<String> {
    if config.s3.requests.anonymous {
        return None;
    }
    let of_authentik = match config.s3.authentik.as_ref().map(KeySource::read) {
        // They come first; what cannot be read is told by whoever reads it.
        Some(Ok(GivenKeys::Keys(_)) | Err(_)) => return None,
        Some(Ok(GivenKeys::Profile(name))) => Some(name),
        Some(Ok(GivenKeys::None)) | None => None,
    };
    let (own, file) = (config.s3.profile.as_deref(), &config.s3.credentials_file);
    let name = own.or(of_authentik.as_deref());
    if !ProfileSettings::is_missing_blocking(name, file.as_deref()) {
        return None;
    }
    Some(match (own, of_authentik) {
        (None, Some(name)) => format!(
            "no usable credentials: authentik's settings name the profile {name:?}, and the AWS configuration has none of that name"
        ),
        _ => session::no_credentials(config),
    })
}

/// Why no request could be sent as it is configured.
fn not_connected(config: &Config) -> Option<String> {
    let runtime = tokio::runtime::Runtime::new().ok()?;
    let connected = runtime.block_on(session::s3(config, OnNetworkError::Refuse));
    connected.err().map(|error| error.to_string())
}
