//! `mount-s3` as far as the bench needs it. No registry has the program of Mountpoint for
//! S3, but its crates, from which this puts it together with the program's own defaults.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use mountpoint_s3_client::config::AddressingStyle;
use mountpoint_s3_client::user_agent::UserAgent;
use mountpoint_s3_fs::data_cache::{
    CacheLimit, DataCacheConfig, DiskDataCacheConfig, ManagedCacheDir,
};
use mountpoint_s3_fs::fs::{CacheConfig, TimeToLive};
use mountpoint_s3_fs::fuse::config::{FuseOptions, FuseSessionConfig, MountPoint};
use mountpoint_s3_fs::memory::{CandidateSize, PagedPool};
use mountpoint_s3_fs::s3::config::{
    ClientConfig, MemoryLimitSetting, PartConfig, Region, TargetThroughputSetting,
};
use mountpoint_s3_fs::s3::{Bucket, Prefix, S3Path, S3Personality};
use mountpoint_s3_fs::{
    MountpointConfig, Runtime, S3FilesystemConfig, Superblock, SuperblockConfig,
};

const PART_BYTES: usize = 8 << 20;
const CACHE_BLOCK_BYTES: u64 = 1 << 20;
const THREADS: usize = 16;

/// Mounts a bucket with Mountpoint's crates, in the foreground.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    bucket: String,
    root: PathBuf,
    #[arg(short)]
    foreground: bool,
    #[arg(long)]
    endpoint_url: String,
    #[arg(long)]
    region: String,
    #[arg(long)]
    force_path_style: bool,
    #[arg(long)]
    allow_delete: bool,
    #[arg(long)]
    allow_overwrite: bool,
    /// Seconds
    #[arg(long)]
    metadata_ttl: Option<u64>,
    #[arg(long)]
    cache: Option<PathBuf>,
}

impl Args {
    fn filesystem(&self) -> S3FilesystemConfig {
        let ttl = match self.metadata_ttl {
            Some(seconds) => TimeToLive::Duration(Duration::from_secs(seconds)),
            None => TimeToLive::Minimal,
        };
        S3FilesystemConfig {
            cache_config: CacheConfig::new(ttl),
            allow_delete: self.allow_delete,
            allow_overwrite: self.allow_overwrite,
            ..Default::default()
        }
    }

    fn client(&self, memory: usize) -> Result<ClientConfig> {
        let style = match self.force_path_style {
            true => AddressingStyle::Path,
            false => AddressingStyle::Automatic,
        };
        let part = PartConfig::with_part_size(PART_BYTES);
        Ok(ClientConfig {
            region: Region::new_user_specified(self.region.clone()),
            endpoint_url: Some(self.endpoint_url.clone()),
            addressing_style: style,
            dual_stack: false,
            transfer_acceleration: false,
            auth_config: Default::default(),
            requester_pays: false,
            expected_bucket_owner: None,
            throughput_target: TargetThroughputSetting::Default,
            bind: None,
            part_config: part.validate(MemoryLimitSetting::Default(memory))?,
            user_agent: UserAgent::new(None),
            tls_config: None,
        })
    }

    fn data_cache(&self) -> Result<(DataCacheConfig, Option<ManagedCacheDir>)> {
        let mut config = DataCacheConfig {
            disk_cache_config: None,
            express_cache_config: None,
        };
        let Some(parent) = &self.cache else {
            return Ok((config, None));
        };
        let dir = ManagedCacheDir::new_from_parent_with_cache_key(parent, None, true)?;
        config.disk_cache_config = Some(DiskDataCacheConfig {
            cache_directory: dir.as_path_buf(),
            block_size: CACHE_BLOCK_BYTES,
            limit: CacheLimit::default(),
        });
        Ok((config, Some(dir)))
    }
}

/// 95 % of the machine's memory, as the program has it by default.
fn memory_target() -> Result<usize> {
    let info = std::fs::read_to_string("/proc/meminfo")?;
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total.and_then(|it| it.trim().strip_suffix(" kB"));
    let kib: usize = total.context("/proc/meminfo has no MemTotal")?.parse()?;
    Ok((kib << 10) / 100 * 95)
}

fn main() -> Result<()> {
    let args = Args::parse();
    let options = FuseOptions {
        read_only: false,
        auto_unmount: false,
        allow_root: false,
        allow_other: false,
        clone_fd: false,
    };
    let session = FuseSessionConfig::new(MountPoint::new(&args.root)?, options, THREADS)?;
    let (cache, dir) = args.data_cache()?;
    let filesystem = args.filesystem();
    let names = SuperblockConfig {
        cache_config: filesystem.cache_config.clone(),
        s3_personality: S3Personality::Standard,
    };
    let memory = memory_target()?;
    let client = args.client(memory)?;
    let pool = PagedPool::config()
        .with_candidate_sizes([CandidateSize::new(client.part_config.read_size_bytes)])
        .with_memory_limit(memory)
        .build();
    let path = S3Path::new(Bucket::new(&args.bucket)?, Prefix::new("")?);
    let client = client.create_client(pool.clone(), Some(&path))?;
    let runtime = Runtime::new(client.event_loop_group());
    let superblock = Superblock::new(client.clone(), path, names);
    let mut session = MountpointConfig::new(session, filesystem, cache)?
        .create_fuse_session(superblock, client, runtime, pool)
        .context("cannot mount")?;
    session.run_on_close(Box::new(move || drop(dir)));
    session.join()
}
