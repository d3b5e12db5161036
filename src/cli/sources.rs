//! `cidfs sources`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::Common;
use super::backend::Backend;
use super::failure::Failure;
use super::output::{human_bytes, list, number, print, print_json, safe, text};
use crate::source::SourceSpec;

/// Flags of `cidfs sources`.
#[derive(Debug, Args)]
pub(super) struct Sources {
    #[command(subcommand)]
    command: Option<SourcesCommand>,
}

#[derive(Debug, Subcommand)]
enum SourcesCommand {
    /// List the sources and their figures (the default)
    Ls,
    /// Ask sources for a block that all have
    Test {
        /// Name of one source; all without it
        name: Option<String>,
    },
    /// Add a source to the running daemon and to config.toml
    Add {
        /// A CAR file or directory, a gateway's or Kubo RPC's URL, a Kubo repository
        spec: String,
        /// Only until the daemon ends
        #[arg(long)]
        temporary: bool,
    },
    /// Remove a source from the running daemon and from config.toml
    Rm {
        /// Its name, as `cidfs sources` shows it
        name: String,
        /// Only until the daemon ends
        #[arg(long)]
        temporary: bool,
    },
}

impl Sources {
    /// Whether it changes nothing of what a repository has.
    pub(super) fn only_reads(&self) -> bool {
        match self.command {
            None | Some(SourcesCommand::Ls | SourcesCommand::Test { .. }) => true,
            Some(SourcesCommand::Add { .. } | SourcesCommand::Rm { .. }) => false,
        }
    }
}

pub(super) async fn run(common: &Common, args: Sources) -> Result<(), Failure> {
    let backend = Backend::open(common).await?;
    let result = match args.command.unwrap_or(SourcesCommand::Ls) {
        SourcesCommand::Ls => backend.json("sources/list", json!({})).await?,
        SourcesCommand::Test { name } => {
            backend.json("sources/test", json!({"name": name})).await?
        }
        SourcesCommand::Add { spec, temporary } => {
            let spec = absolute(&spec);
            backend
                .json("sources/add", json!({"spec": spec, "save": !temporary}))
                .await?
        }
        SourcesCommand::Rm { name, temporary } => {
            backend
                .json("sources/remove", json!({"name": name, "save": !temporary}))
                .await?
        }
    };
    backend.close().await?;
    if common.json {
        return print_json(&result);
    }
    let mut failed = false;
    let mut out = String::new();
    for source in list(&result, "sources") {
        out.push_str(&line(source));
        out.push('\n');
    }
    for one in list(&result, "results") {
        let good = one.get("ok").and_then(Value::as_bool).unwrap_or(false);
        failed |= !good;
        let how = if good {
            "ok".to_owned()
        } else {
            safe(&text(one, "error"))
        };
        out.push_str(&format!(
            "{}: {how} ({} ms)\n",
            safe(&text(one, "name")),
            number(one, "ms")
        ));
    }
    print(&out)?;
    if failed {
        Err(Failure::Quiet(4))
    } else {
        Ok(())
    }
}

/// Makes a path in a specification absolute: the daemon's directory is another.
/// What is no specification stays as it is, to be refused where it is used.
pub(super) fn absolute(spec: &str) -> String {
    let parsed = SourceSpec::parse(spec).ok();
    let path = parsed.and_then(|parsed| Some((parsed.kind, parsed.path?)));
    let whole = path.and_then(|(kind, path)| {
        let path = std::path::absolute(path).ok()?;
        Some(format!("{}:{}", kind.word(), path.to_str()?))
    });
    whole.unwrap_or_else(|| spec.to_owned())
}

/// One source with its figures on a line.
pub(super) fn line(source: &Value) -> String {
    let last = source.get("last_error").and_then(Value::as_str);
    let last = last
        .map(|error| format!(", last error: {}", safe(error)))
        .unwrap_or_default();
    format!(
        "{}: {}, {} blocks, {}, {} failures{last}",
        safe(&text(source, "name")),
        text(source, "health"),
        number(source, "blocks"),
        human_bytes(number(source, "bytes")),
        number(source, "failures"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_sources_mean_the_same_to_the_daemon() {
        let here = std::env::current_dir().unwrap();
        let wanted = format!("car:{}", here.join("x.car").display());
        assert_eq!(absolute("x.car"), wanted);
        assert_eq!(absolute("car:x.car"), wanted);
        assert_eq!(absolute("kubo-repo:/a"), "kubo-repo:/a");
        for same in [
            "https://example.net",
            "kubo:/ip4/127.0.0.1/tcp/5001",
            "nonsense",
        ] {
            assert_eq!(absolute(same), same);
        }
    }
}
