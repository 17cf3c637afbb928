//! `holm link` and `holm site`: what a person does to the sites that `holm up --sites` runs.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::protocol::{
    ANSWER_BYTES_MAX, Act, Answer, LinkRow, LinkState, Request, SOCKET, STATES, SiteRow,
};
use super::{authority, invite};
use crate::ask::Found;
use crate::quantity;
use crate::screen::{Screen, Table};

/// Longer than a site may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const LINK_EXAMPLES: &str = "\
Examples:
  holm link                          all links: open, cut or slow
  holm link cut a c                  nothing passes between a and c
  holm link cut a c --one-way        nothing passes from a to c; from c to a it does
  holm link slow a b --delay 15ms    15 ms each way, 30 ms a round trip
  holm link heal a c                 this link is open again
  holm link heal                     all are

A cut link loses nothing: connections stay half-open, and what was sent arrives after the heal. To cut a site off
from all others, cut each of its links.";

pub(crate) const SITE_EXAMPLES: &str = "\
Examples:
  holm site                          all sites and how they are
  holm site kill a                   SIGKILL: nothing is said to the site
  holm site start a                  on its old data
  holm site stop a                   the site ends when its requests are answered
  holm site pause a                  SIGSTOP: it is there and does nothing
  holm site resume a
  holm site add b                    on a cluster: a token with which b can join, once, within an hour
  holm site add b --ttl 10m --peer-url https://10.0.0.2:2380 --endpoints 10.0.0.1:2379
  holm site authority                who signs the certificates of a cluster's sites, and until when it is good
  holm site authority replace        another takes its place while all serve; waits until every site is done
  holm site authority replace --no-wait
                                     the sites go on by themselves

`add` and `authority` ask a member of a cluster, the others the sites of this machine.";

/// Where the sites are, and how to answer.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// The folder of the sites, as `holm up --sites` has it
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        env = "HOLM_DATA_DIR",
        hide_env_values = true,
        default_value = "holm.data"
    )]
    data_dir: PathBuf,

    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

/// `holm link`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LinkCommand {
    #[command(subcommand)]
    what: Option<Link>,
    #[command(flatten)]
    options: Options,
}

#[derive(Clone, Debug, Subcommand)]
enum Link {
    /// All links between sites, and what passed
    List,
    /// Let nothing pass between two sites
    Cut {
        /// One site
        a: String,
        /// The other
        b: String,
        /// Cut only the way from A to B
        #[arg(long)]
        one_way: bool,
    },
    /// Open a link again, or all
    Heal {
        /// One site
        #[arg(requires = "b")]
        a: Option<String>,
        /// The other
        b: Option<String>,
    },
    /// Let everything between two sites take longer
    Slow {
        /// One site
        a: String,
        /// The other
        b: String,
        /// How much longer each way takes
        #[arg(long, value_name = "TIME", value_parser = quantity::parse_duration)]
        delay: Duration,
    },
}

/// `holm site`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SiteCommand {
    #[command(subcommand)]
    what: Option<SiteAct>,
    #[command(flatten)]
    options: Options,
}

#[derive(Clone, Debug, Subcommand)]
enum SiteAct {
    /// All sites and how they are
    List,
    /// End a site's process at once, as a power cut does
    Kill(Name),
    /// Start a site on its old data
    Start(Name),
    /// Ask a site to end
    Stop(Name),
    /// Hold a site's process
    Pause(Name),
    /// Let a held site go on
    Resume(Name),
    /// Make a token with which a site on another machine can join, once
    Add(Box<invite::Add>),
    /// Who signs the certificates of the sites, and how far it is replaced
    Authority(Box<authority::Authority>),
}

#[derive(Clone, Debug, Args)]
struct Name {
    /// The site
    site: String,
}

/// Runs `holm link`.
pub(crate) fn link(command: &LinkCommand) -> anyhow::Result<Found> {
    let set = |a: &str, b: &str, one_way, state| Request::Set {
        from: a.to_owned(),
        to: b.to_owned(),
        one_way,
        state,
    };
    let request = match &command.what {
        None | Some(Link::List) => Request::Links,
        Some(Link::Cut { a, b, one_way }) => set(a, b, *one_way, LinkState::Cut),
        Some(Link::Heal {
            a: Some(a),
            b: Some(b),
        }) => set(a, b, false, LinkState::Open),
        Some(Link::Heal { .. }) => Request::HealAll,
        Some(Link::Slow { a, b, delay }) => set(a, b, false, LinkState::slow(*delay)),
    };
    ask(&command.options, &request)
}

/// Runs `holm site`.
pub(crate) fn site(command: &SiteCommand) -> anyhow::Result<Found> {
    let act = |name: &Name, act| Request::Site {
        name: name.site.clone(),
        act,
    };
    let request = match &command.what {
        None | Some(SiteAct::List) => Request::Sites,
        Some(SiteAct::Kill(name)) => act(name, Act::Kill),
        Some(SiteAct::Start(name)) => act(name, Act::Start),
        Some(SiteAct::Stop(name)) => act(name, Act::Stop),
        Some(SiteAct::Pause(name)) => act(name, Act::Pause),
        Some(SiteAct::Resume(name)) => act(name, Act::Resume),
        Some(SiteAct::Add(add)) => return invite::run(add),
        Some(SiteAct::Authority(authority)) => return authority::run(authority),
    };
    ask(&command.options, &request)
}

fn ask(options: &Options, request: &Request) -> anyhow::Result<Found> {
    let (text, json) = match exchange(options, request)? {
        Answer::Refused { why } => bail!("{why}"),
        Answer::Links { links } => (link_table(&links), json!({ "links": links })),
        Answer::Sites { sites } => (site_table(&sites), json!({ "sites": sites })),
    };
    Screen::new(options.json).show(&text, &json)?;
    Ok(Found::Yes)
}

fn exchange(options: &Options, request: &Request) -> anyhow::Result<Answer> {
    let path = options.data_dir.join(SOCKET);
    let mut stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow::anyhow!(
            "no sites run in {}: start some with `holm up --sites 3`, or name their folder with --data-dir",
            options.data_dir.display()
        ),
        _ => anyhow::Error::from(error).context(format!("open {}", path.display())),
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let asked = || format!("ask the sites through {}", path.display());
    stream.write_all(&line).with_context(asked)?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX))
        .read_line(&mut answer)
        .with_context(asked)?;
    serde_json::from_str(&answer).with_context(|| format!("{}: read the answer", asked()))
}

fn link_table(links: &[LinkRow]) -> String {
    let mut table = Table::titled(&["LINK", "STATE", "CONNECTIONS", "PASSED"]);
    for link in links {
        let (first, second) = (&link.first, &link.second);
        let state = if link.there == link.back {
            match link.there {
                LinkState::Slow { .. } => format!("{} each way", state_text(link.there)),
                LinkState::Open | LinkState::Cut => state_text(link.there),
            }
        } else {
            format!(
                "{first} to {second} {}, {second} to {first} {}",
                state_text(link.there),
                state_text(link.back)
            )
        };
        table.row(vec![
            format!("{first} - {second}"),
            state,
            link.connections.to_string(),
            format!(
                "{} to {second}, {} to {first}",
                quantity::bytes(link.bytes_there),
                quantity::bytes(link.bytes_back)
            ),
        ]);
    }
    table.text()
}

fn state_text(state: LinkState) -> String {
    match state {
        LinkState::Open => "open".to_owned(),
        LinkState::Cut => "cut".to_owned(),
        LinkState::Slow { delay_us } => {
            let delay = Duration::from_micros(delay_us);
            format!("slow by {delay:?}")
        }
    }
}

/// The table of sites, and what a state means that is not plainly good.
pub(super) fn site_table(sites: &[SiteRow]) -> String {
    let mut table = Table::titled(&["SITE", "STATE", "ETCD ENDPOINT", "CONSOLE", "PID", "DATA"]);
    for site in sites {
        let pid = site
            .pid
            .map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        table.row(vec![
            site.name.clone(),
            site.state.clone(),
            site.endpoint.clone(),
            site.console.clone(),
            pid,
            site.data.clone(),
        ]);
    }
    let mut text = table.text();
    for site in sites.iter().filter(|site| site.state != "serving") {
        let meaning = STATES.iter().find(|(state, _meaning)| *state == site.state);
        let meaning = meaning.map_or("", |(_state, meaning)| meaning);
        let how = site.ended.as_ref();
        let how = how.map(|how| format!(", {how}; the end of {}/holm.log may say why", site.data));
        let how = how.unwrap_or_default();
        text.push_str(&format!("{} {meaning}{how}\n", site.name));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_read_as_sentences_do() {
        let row = |there, back| LinkRow {
            first: "a".to_owned(),
            second: "b".to_owned(),
            there,
            back,
            bytes_there: 2048,
            bytes_back: 0,
            connections: 2,
        };
        let slow = LinkState::slow(Duration::from_millis(15));
        let text = link_table(&[row(slow, slow), row(LinkState::Cut, LinkState::Open)]);
        let expected = "\
LINK   STATE                    CONNECTIONS  PASSED
a - b  slow by 15ms each way    2            2.0 KiB to b, 0 B to a
a - b  a to b cut, b to a open  2            2.0 KiB to b, 0 B to a
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_site_that_is_not_well_is_explained() {
        let row = |name: &str, state: &str, ended: Option<&str>| SiteRow {
            name: name.to_owned(),
            state: state.to_owned(),
            pid: ended.is_none().then_some(7),
            endpoint: "127.0.0.1:2379".to_owned(),
            console: "127.0.0.1:2381".to_owned(),
            data: "d/a".to_owned(),
            ended: ended.map(str::to_owned),
        };
        let text = site_table(&[
            row("a", "serving", None),
            row("b", "died", Some("signal 9")),
        ]);
        let expected = "\
SITE  STATE    ETCD ENDPOINT   CONSOLE         PID  DATA
a     serving  127.0.0.1:2379  127.0.0.1:2381  7    d/a
b     died     127.0.0.1:2379  127.0.0.1:2381  -    d/a
b ended by itself, signal 9; the end of d/a/holm.log may say why
";
        assert_eq!(text, expected);
        assert!(STATES.iter().all(|(_state, meaning)| !meaning.is_empty()));
    }
}
