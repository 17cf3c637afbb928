//! `holm site add`: has a member make a token with which a site on another machine can join.

use std::time::Duration;

use anyhow::{bail, ensure};
use clap::Args;
use holm_etcd::holm::{SiteAddRequest, SiteAddResponse};
use serde_json::json;

use crate::ask::Found;
use crate::client::{Client, ConnectionOptions};
use crate::quantity;
use crate::screen::Screen;

/// What is asked for.
#[derive(Clone, Debug, Args)]
pub(super) struct Add {
    /// What the site will be called
    name: String,
    /// How long the token is good, 1s to 168h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = quantity::parse_duration)]
    ttl: Duration,
    /// Where the others will reach the site; without it the site says so itself
    #[arg(long, value_name = "URL")]
    peer_url: Option<String>,
    #[command(flatten)]
    connection: ConnectionOptions,
}

/// Has the token made, and says what to do with it.
pub(super) fn run(add: &Add) -> anyhow::Result<Found> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let peer_url = add.peer_url.as_deref().map(peer_url).transpose()?;
    let request = SiteAddRequest {
        name: add.name.clone(),
        seconds: add.ttl.as_secs(),
        peer_url: peer_url.unwrap_or_default(),
    };
    let answer: SiteAddResponse = runtime.block_on(async {
        let mut client = Client::connect(&add.connection).await?;
        client.call("/holm.v1.Node/SiteAdd", &request).await
    })?;
    let command = join_command(&add.name, &request.peer_url, &answer.token);
    let json = json!({
        "name": add.name,
        "token": answer.token,
        "expires": answer.expires,
        "addresses": answer.addresses,
        "is_member": answer.is_member,
        "command": command,
    });
    Screen::new(add.connection.json).show(&text(add, &answer, &command), &json)?;
    Ok(Found::Yes)
}

fn text(add: &Add, answer: &SiteAddResponse, command: &str) -> String {
    let kind = if answer.is_member {
        "is a site already; once its certificate has ended, this gives it a new one"
    } else {
        "may join, once"
    };
    format!(
        "{} {kind}, within {}. On its machine:\n\n  {command}\n\nIt asks at {}. Whoever has the token can join in its \
         place: hand it over as a secret.",
        add.name,
        span(add.ttl),
        answer.addresses.join(", ")
    )
}

fn join_command(name: &str, peer_url: &str, token: &str) -> String {
    let place = match peer_url {
        "" => "ITS-ADDRESS:2380".to_owned(),
        url => crate::config::place(url),
    };
    format!("holm up --name {name} --peer {place} --join {token}")
}

/// A URL for links, also of host:port.
fn peer_url(text: &str) -> anyhow::Result<String> {
    let url = match text.split_once("://") {
        None => format!("https://{text}"),
        Some(("https", _)) => text.trim_end_matches('/').to_owned(),
        Some(_) => bail!("--peer-url: `{text}`: sites talk over TLS only: write https://host:port"),
    };
    let place = crate::config::place(&url);
    let port = place
        .rsplit_once(':')
        .map(|(_host, port)| port.parse::<u16>());
    ensure!(
        matches!(port, Some(Ok(_))),
        "--peer-url: `{text}` is no URL: write https://host:port"
    );
    Ok(url)
}

fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 3_600 == 0 => format!("{} h", seconds / 3_600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_sites_are_made_whole_and_plain_ones_refused() {
        let url = |text| peer_url(text).map_err(|error| error.to_string());
        assert_eq!(url("b:2380"), Ok("https://b:2380".to_owned()));
        assert_eq!(url("https://b:2380/"), Ok("https://b:2380".to_owned()));
        assert!(url("http://b:2380").unwrap_err().contains("TLS only"));
        assert!(
            url("https://b")
                .unwrap_err()
                .contains("write https://host:port")
        );
        assert_eq!(
            join_command("b", "https://b:2380", "T"),
            "holm up --name b --peer b:2380 --join T"
        );
        assert_eq!(span(Duration::from_secs(5_400)), "90 min");
    }
}
