//! `cidfs daemon`, and the hidden form of it that `cidfs mount` starts.

use clap::Args;

use super::args::Common;
use super::backend::repo_dir;
use super::failure::Failure;
use crate::control::{MountRequest, OperationError};
use crate::daemon::start::{self, Readiness};
use crate::daemon::{ServeOptions, log, serve};

/// Flags of `cidfs daemon`.
#[derive(Debug, Args)]
pub(super) struct Daemon {
    /// A source of blocks beside those of config.toml; may be repeated
    #[arg(long = "source", value_name = "SPEC")]
    sources: Vec<String>,
    /// Started by `cidfs mount`: standard output is its pipe
    #[arg(long, hide = true)]
    background: bool,
    /// Stays when its last mount is gone
    #[arg(long, hide = true)]
    stay: bool,
    /// The first mount, as JSON
    #[arg(long, hide = true)]
    mount_request: Option<String>,
}

pub(super) async fn run(common: &Common, args: Daemon) -> Result<(), Failure> {
    let repo = repo_dir(common)?;
    if !args.background {
        log::to_stderr(common.verbose, "info");
        let options = ServeOptions {
            repo,
            sources: args.sources,
            mount: None,
            stay: true,
        };
        return Ok(serve(options, |_| tracing::info!("ready")).await?);
    }
    start::detach()?;
    log::to_file(&repo, common.verbose)?;
    let mount = args
        .mount_request
        .as_deref()
        .map(parse_request)
        .transpose()?;
    let options = ServeOptions {
        repo,
        sources: args.sources,
        mount,
        stay: args.stay,
    };
    let mut told = false;
    let outcome = serve(options, |mount| {
        told = true;
        tell(&Readiness::Ready {
            pid: std::process::id(),
            mount,
        });
    })
    .await;
    if let Err(error) = outcome {
        tracing::error!("{error}");
        if !told {
            tell(&Readiness::Failed(error.clone()));
        }
        return Err(Failure::Quiet(error.kind.exit_code()));
    }
    Ok(())
}

fn parse_request(text: &str) -> Result<MountRequest, Failure> {
    serde_json::from_str(text)
        .map_err(|error| OperationError::invalid(format!("--mount-request: {error}")).into())
}

fn tell(readiness: &Readiness) {
    if let Err(error) = start::tell(readiness) {
        tracing::warn!("cannot tell who started this daemon: {error}");
    }
}
