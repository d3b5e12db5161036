//! Where a Kubo node's RPC is: an URL, a multiaddr, or a repository.

use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::config::KUBO_FILE_BYTES_MAX;

/// The address of an RPC, as it was configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KuboAddress {
    /// A server.
    Url(Url),
    /// A repository whose file `api` names the server. It is read for every
    /// request, since a node that restarts may choose another port.
    Repository(PathBuf),
}

impl KuboAddress {
    /// Reads `http://…`, `/ip4/127.0.0.1/tcp/5001`, or the path of a repository.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("http://") || text.starts_with("https://") {
            let url = Url::parse(text).map_err(|error| format!("{text}: {error}"))?;
            return Ok(Self::Url(url));
        }
        if is_multiaddr(text) {
            return multiaddr(text).map(Self::Url);
        }
        Ok(Self::Repository(PathBuf::from(text)))
    }

    /// The server's URL now.
    pub(super) fn url(&self) -> Result<Url, String> {
        match self {
            Self::Url(url) => Ok(url.clone()),
            Self::Repository(dir) => {
                let file = dir.join("api");
                let text = read_small(&file).map_err(|error| {
                    format!("{}: {error} (is the Kubo daemon running?)", file.display())
                })?;
                multiaddr(text.trim())
            }
        }
    }
}

impl KuboAddress {
    /// The URL of a command, without its parameters.
    pub(super) fn command(&self, command: &str) -> Result<Url, String> {
        let mut url = self.url()?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments
                .pop_if_empty()
                .extend(["api", "v0"])
                .extend(command.split('/'));
        }
        Ok(url)
    }

    /// What a client is made for: the server, or where one of a repository would be.
    pub(super) fn base(&self) -> Result<Url, String> {
        match self {
            Self::Url(url) => Ok(url.clone()),
            // What a node writes into its repository is plain HTTP nearby.
            Self::Repository(_) => Url::parse("http://127.0.0.1").map_err(|e| e.to_string()),
        }
    }
}

/// Reads a small text file of a Kubo repository.
pub(super) fn read_small(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(KUBO_FILE_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn is_multiaddr(text: &str) -> bool {
    ["/ip4/", "/ip6/", "/dns/", "/dns4/", "/dns6/"]
        .iter()
        .any(|start| text.starts_with(start))
}

/// Turns `/<kind>/<host>/tcp/<port>[/http|/https]` into an URL.
fn multiaddr(text: &str) -> Result<Url, String> {
    let refuse = || format!("{text} is not an address like /ip4/127.0.0.1/tcp/5001");
    let parts: Vec<&str> = text.split('/').collect();
    let ["", kind, host, "tcp", port, rest @ ..] = parts.as_slice() else {
        return Err(refuse());
    };
    let scheme = match rest {
        [] | ["http"] => "http",
        ["https"] | ["tls", "http"] => "https",
        _ => return Err(refuse()),
    };
    let fits = match *kind {
        "ip4" => host.parse::<Ipv4Addr>().is_ok(),
        "ip6" => host.parse::<Ipv6Addr>().is_ok(),
        "dns" | "dns4" | "dns6" => !host.is_empty(),
        _ => false,
    };
    let port: u16 = port.parse().map_err(|_| refuse())?;
    let host = if *kind == "ip6" {
        format!("[{host}]")
    } else {
        (*host).to_owned()
    };
    let url = Url::parse(&format!("{scheme}://{host}:{port}/")).map_err(|_| refuse())?;
    if fits { Ok(url) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_every_form_are_read() {
        for (text, url) in [
            ("/ip4/127.0.0.1/tcp/5001", "http://127.0.0.1:5001/"),
            ("/ip6/::1/tcp/5001/http", "http://[::1]:5001/"),
            ("/dns4/kubo.example/tcp/443/https", "https://kubo.example/"),
            ("http://127.0.0.1:5001", "http://127.0.0.1:5001/"),
        ] {
            let address = KuboAddress::parse(text).unwrap();
            assert_eq!(address.url().unwrap().as_str(), url);
        }
    }

    #[test]
    fn rubbish_is_refused_with_an_example() {
        for text in [
            "/ip4/127.0.0.1/udp/5001",
            "/ip4/1.2.3/tcp/1",
            "/ip4/127.0.0.1/tcp/70000",
        ] {
            assert!(KuboAddress::parse(text).unwrap_err().contains("/tcp/5001"));
        }
    }

    #[test]
    fn a_repository_is_asked_again_after_its_node_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let address = KuboAddress::parse(&dir.path().display().to_string()).unwrap();
        assert!(
            address
                .url()
                .unwrap_err()
                .contains("is the Kubo daemon running?")
        );
        for port in [4001, 4002] {
            std::fs::write(
                dir.path().join("api"),
                format!("/ip4/127.0.0.1/tcp/{port}\n"),
            )
            .unwrap();
            assert_eq!(address.url().unwrap().port(), Some(port));
        }
    }
}
