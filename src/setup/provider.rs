//! What is known of an S3 service before it is asked.

use clap::ValueEnum;

use crate::config::{Config, Options};

/// Services whose addressing and region are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Provider {
    Aws,
    R2,
    B2,
    Wasabi,
    Gcs,
    Garage,
    Seaweedfs,
    Minio,
    Ceph,
}

/// What stands for the region in an endpoint.
const REGION: &str = "REGION";

#[derive(Debug)]
struct Preset {
    /// None where each installation has its own.
    endpoint: Option<&'static str>,
    region: Option<&'static str>,
    path_style: bool,
    /// What an endpoint looks like.
    example: &'static str,
}

impl Provider {
    /// Sources: the services' own pages on their S3 endpoints.
    fn preset(self) -> Preset {
        let own = |region, example| Preset {
            endpoint: None,
            region: Some(region),
            path_style: true,
            example,
        };
        let hosted = |endpoint, region| Preset {
            endpoint: Some(endpoint),
            region,
            path_style: true,
            example: endpoint,
        };
        match self {
            Self::Aws => Preset {
                endpoint: None,
                region: None,
                path_style: false,
                example: "",
            },
            Self::R2 => own("auto", "https://ACCOUNT.r2.cloudflarestorage.com"),
            Self::B2 => hosted("https://s3.REGION.backblazeb2.com", None),
            Self::Wasabi => hosted("https://s3.REGION.wasabisys.com", Some("us-east-1")),
            Self::Gcs => hosted("https://storage.googleapis.com", Some("auto")),
            Self::Garage => own("garage", "http://HOST:3900"),
            Self::Seaweedfs => own("us-east-1", "http://HOST:8333"),
            Self::Minio => own("us-east-1", "https://HOST:9000"),
            Self::Ceph => own("us-east-1", "https://HOST:7480"),
        }
    }

    /// Adds what the settings leave open. Errors: what nobody can know.
    pub fn fill(self, config: &Config, flags: &mut Options) -> Result<(), String> {
        let preset = self.preset();
        let given = &config.given;
        let region = given.region.clone().or(preset.region.map(str::to_owned));
        if self == Self::Aws {
            if given.endpoint_url.is_some() {
                return Err("--provider aws has no endpoint-url: leave out one of them".to_owned());
            }
            return Ok(());
        }
        let endpoint = match (&given.endpoint_url, preset.endpoint, &region) {
            (Some(url), _, _) => url.clone(),
            (None, Some(url), Some(region)) => url.replace(REGION, region),
            (None, Some(url), None) if url.contains(REGION) => {
                return Err(format!(
                    "name the region with --region: the endpoint is {url}"
                ));
            }
            (None, Some(url), None) => url.to_owned(),
            (None, None, _) => {
                let example = preset.example;
                return Err(format!(
                    "name the endpoint with --endpoint-url, as in {example}"
                ));
            }
        };
        flags.endpoint_url = Some(endpoint);
        flags.region = region;
        flags.force_path_style = given.force_path_style.or(Some(preset.path_style));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigSource, Target};

    fn filled(provider: Provider, given: Options) -> Result<Options, String> {
        let target = Target::Place {
            bucket: "b".into(),
            mountpoint: "/srv/m".into(),
        };
        let source = ConfigSource::new(target, None, given.clone(), "/".into()).unwrap();
        let mut flags = given;
        provider.fill(&source.load().unwrap(), &mut flags)?;
        Ok(flags)
    }

    #[test]
    fn what_is_given_comes_before_what_is_known() {
        let region = |region: &str| Options {
            region: Some(region.to_owned()),
            ..Options::default()
        };
        let b2 = filled(Provider::B2, region("eu-central-003")).unwrap();
        let url = "https://s3.eu-central-003.backblazeb2.com";
        assert_eq!(b2.endpoint_url.as_deref(), Some(url));
        assert!(filled(Provider::B2, Options::default()).is_err());
        let wasabi = filled(Provider::Wasabi, Options::default()).unwrap();
        assert_eq!(wasabi.region.as_deref(), Some("us-east-1"));
        let own = |endpoint: &str| Options {
            endpoint_url: Some(endpoint.to_owned()),
            ..Options::default()
        };
        let garage = filled(Provider::Garage, own("http://s3:3900")).unwrap();
        assert_eq!(garage.region.as_deref(), Some("garage"));
        assert_eq!(garage.force_path_style, Some(true));
        for provider in [
            Provider::R2,
            Provider::Minio,
            Provider::Ceph,
            Provider::Seaweedfs,
        ] {
            let told = filled(provider, Options::default()).unwrap_err();
            assert!(told.contains("--endpoint-url"), "{told}");
        }
        let gcs = filled(Provider::Gcs, Options::default()).unwrap();
        let url = "https://storage.googleapis.com";
        assert_eq!(gcs.endpoint_url.as_deref(), Some(url));
        assert_eq!(gcs.region.as_deref(), Some("auto"));
        let url = "https://abc.r2.cloudflarestorage.com";
        let r2 = filled(Provider::R2, own(url)).unwrap();
        assert_eq!(r2.endpoint_url.as_deref(), Some(url));
        assert_eq!(r2.region.as_deref(), Some("auto"));
        assert_eq!(r2.force_path_style, Some(true));
        assert!(filled(Provider::Aws, own("http://s3")).is_err());
        let aws = filled(Provider::Aws, Options::default()).unwrap();
        assert_eq!(aws.endpoint_url, None);
    }
}
