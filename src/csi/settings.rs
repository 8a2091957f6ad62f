//! What a volume's daemon is configured with.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// Settings of `mediafs mount`, by their names.
pub type Settings = BTreeMap<String, Value>;
/// What is to be mounted: `BUCKET/PREFIX`, the mountpoint, and options as in fstab. Errors:
/// in words.
pub type ReadOptions = fn(&str, &Path, &[String]) -> Result<Settings, String>;
