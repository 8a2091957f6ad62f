//! Who moves the folder, and who reads the bucket.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::{APPLICATION_USER, WITHIN, as_user};
use crate::support::programs::{at_home, python, run_within, said, succeeds};
use crate::support::{MountBuilder, Server};

/// Who moves the folder: a plain user, and root where it has to be.
pub struct Operator {
    pub program: PathBuf,
    pub home: PathBuf,
    pub config: PathBuf,
    pub bucket: String,
}

impl Operator {
    pub fn new(plan: &MountBuilder, server: &Server) -> Self {
        let home = plan.scratch().join("home");
        let run = home.join("run");
        fs::create_dir_all(&run).unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).unwrap();
        let bucket = format!("{}-story", plan.bucket);
        let (endpoint, owner) = (&server.endpoint, &server.owner);
        let settings = [
            ("ENDPOINT", endpoint.as_str()),
            ("REGION", server.region),
            ("ACCESS_KEY", &owner.access_key),
            ("SECRET_KEY", &owner.secret_key),
            ("BUCKET_NAME", &bucket),
        ];
        let line = |(name, value)| format!("AUTHENTIK_STORAGE__MEDIA__S3__{name}={value}\n");
        let text: String = settings.map(line).concat();
        fs::write(home.join(".env"), text).unwrap();
        for path in [&home, &run, &home.join(".env")] {
            chown(path, Some(APPLICATION_USER), Some(APPLICATION_USER)).unwrap();
        }
        Self {
            program: plan.program(),
            config: home.join(".config/mediafs/mnt.toml"),
            home,
            bucket,
        }
    }

    pub fn runs(&self, command: &mut Command) -> Output {
        run_within(WITHIN, at_home(command, &self.home))
    }

    /// `mediafs` as the user, which is to end with one of these.
    #[track_caller]
    pub fn does(&self, words: &[&str], codes: &[i32]) -> String {
        let mut command = as_user(Command::new(&self.program).args(words));
        ends(&self.runs(&mut command), codes)
    }

    #[track_caller]
    pub fn does_as_root(&self, words: &[&str], codes: &[i32]) -> String {
        ends(&self.runs(Command::new(&self.program).args(words)), codes)
    }

    /// A command that moves or compares data.
    #[track_caller]
    pub fn moves(&self, name: &str, folder: &Path, args: &[&str], codes: &[i32]) -> String {
        let place = format!("{}/media", self.bucket);
        let folder = folder.to_str().unwrap();
        let places = match name {
            "export" => [&place, folder],
            _ => [folder, &place],
        };
        let config = ["--config", self.config.to_str().unwrap()];
        let yes = if name == "verify" {
            &[][..]
        } else {
            &["--yes"]
        };
        self.does(&[&[name], &places[..], &config, yes, args].concat(), codes)
    }
}

#[track_caller]
pub fn ends(output: &Output, codes: &[i32]) -> String {
    let text = said(output);
    let code = output.status.code().unwrap();
    assert!(codes.contains(&code), "{code}: {text}");
    text
}

/// Lists and reads the bucket as authentik's own S3 backend does: each key with the type
/// and the bytes of its presigned URL.
pub fn as_authentik(bucket: &str) -> BTreeMap<String, (String, String)> {
    const PROGRAM: &str = r#"
import hashlib, json, sys, urllib.request
import boto3
from botocore.config import Config
endpoint, region, key, secret, bucket = sys.argv[1:]
s3 = boto3.session.Session(key, secret, region_name=region).client(
    "s3", endpoint_url=endpoint,
    config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))
found = {}
for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="media/"):
    for item in page.get("Contents", []):
        url = s3.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": item["Key"]}, ExpiresIn=900)
        with urllib.request.urlopen(url) as answer:
            body = answer.read()
        found[item["Key"]] = [answer.headers["Content-Type"], hashlib.sha256(body).hexdigest()]
print(json.dumps(found))
"#;
    let server = Server::shared();
    let mut command = Command::new(python());
    command.args(["-c", PROGRAM, &server.endpoint, server.region]);
    command.args([&*server.owner.access_key, &*server.owner.secret_key, bucket]);
    let found: Value = serde_json::from_str(&succeeds(&mut command)).unwrap();
    let entries = found.as_object().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    entries
        .map(|(key, it)| (key.clone(), (text(&it[0]), text(&it[1]))))
        .collect()
}
