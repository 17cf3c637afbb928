//! The programs that Holm is held against: etcd, etcdctl, and what fetches foreign clients.

use std::process::Command;

use crate::process::{find, must};

/// A program that tests/process uses, and the Debian package that has it.
struct Peer {
    program: &'static str,
    package: Option<&'static str>,
    without: &'static str,
}

const PEERS: &[Peer] = &[
    Peer {
        program: "etcd",
        package: Some("etcd-server"),
        without: "the differential test and the foreign suites' own baseline",
    },
    Peer {
        program: "etcdctl",
        package: Some("etcd-client"),
        without: "etcdctl's commands",
    },
    Peer {
        program: "mosquitto",
        package: Some("mosquitto"),
        without: "streams from a broker",
    },
    Peer {
        program: "mosquitto_pub",
        package: Some("mosquitto-clients"),
        without: "streams from a broker",
    },
    Peer {
        program: "chromium",
        package: Some("chromium"),
        without: "the page of streams in a browser",
    },
    Peer {
        program: "python3",
        package: None,
        without: "the Python clients' suites, and the newer etcd that pip fetches",
    },
    Peer {
        program: "npm",
        package: None,
        without: "the npm client's suite",
    },
];

/// Installs what is missing where that is possible; gives what stays untested, in words.
pub(crate) fn provide() -> Vec<String> {
    let packages: Vec<&str> = PEERS
        .iter()
        .filter(|peer| find(peer.program).is_none())
        .filter_map(|peer| peer.package)
        .collect();
    if !packages.is_empty() {
        install(&packages);
    }
    PEERS
        .iter()
        .filter(|peer| find(peer.program).is_none())
        .map(|peer| format!("{}: {} is not installed", peer.without, peer.program))
        .collect()
}

fn install(packages: &[&str]) {
    if !is_root() || find("apt-get").is_none() {
        return;
    }
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    let installed = must(Command::new("apt-get").args(["update", "--quiet"]))
        .and_then(|()| must(Command::new("apt-get").args(arguments)));
    if let Err(error) = installed {
        println!("could not install {}: {error:#}", packages.join(" "));
    }
}

fn is_root() -> bool {
    let id = crate::process::output(Command::new("id").arg("-u"));
    id.is_ok_and(|id| id.trim() == "0")
}
