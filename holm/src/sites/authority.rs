//! `holm site authority`: shows who signs the certificates of a cluster's sites, and has another take its place.

use std::time::{Duration, Instant};

use anyhow::bail;
use clap::{Args, Subcommand};
use holm_etcd::holm::{
    AuthorityReplacement, AuthoritySite, SiteAuthorityReplaceRequest, SiteAuthorityRequest,
    SiteAuthorityResponse,
};
use serde_json::{Value, json};

use crate::ask::{self, Found};
use crate::client::{Client, ClientError, ConnectionOptions};
use crate::progress::Progress;
use crate::screen::{Screen, Table};

/// How often it is looked how far a replacement is.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long nobody may answer until this gives up looking; the sites go on all the same.
const PATIENCE: Duration = Duration::from_secs(60);

const STAGES: [(&str, &str); 4] = [
    ("trust", "1 of 3, every site comes to trust the next one"),
    ("sign", "2 of 3, every site gets a certificate of it"),
    ("drop", "3 of 3, every site lets go of the old one"),
    ("finish", "all sites are done"),
];

/// What is asked for.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Authority {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    connection: ConnectionOptions,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Have another authority take its place while the cluster serves, or go on with that
    Replace(Replace),
}

#[derive(Clone, Debug, Args)]
struct Replace {
    /// Begin and return; the sites go on by themselves
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    connection: ConnectionOptions,
}

/// Runs `holm site authority`.
pub(super) fn run(authority: &Authority) -> anyhow::Result<Found> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let Some(What::Replace(replace)) = &authority.what else {
        let connection = &authority.connection;
        let answer = runtime.block_on(look(connection))?;
        return show(connection, &answer);
    };
    let connection = &replace.connection;
    let begun = runtime.block_on(begin(connection))?;
    let answer = if replace.no_wait {
        begun
    } else {
        runtime.block_on(wait(connection, begun))?
    };
    show(connection, &answer)
}

async fn look(connection: &ConnectionOptions) -> Result<SiteAuthorityResponse, ClientError> {
    let mut client = Client::connect(connection).await?;
    let request = SiteAuthorityRequest {};
    client.call("/holm.v1.Node/SiteAuthority", &request).await
}

async fn begin(connection: &ConnectionOptions) -> Result<SiteAuthorityResponse, ClientError> {
    let mut client = Client::connect(connection).await?;
    let request = SiteAuthorityReplaceRequest {};
    let path = "/holm.v1.Node/SiteAuthorityReplace";
    client.call(path, &request).await
}

/// Looks on until all sites are done.
async fn wait(
    connection: &ConnectionOptions,
    begun: SiteAuthorityResponse,
) -> anyhow::Result<SiteAuthorityResponse> {
    let mut progress = Progress::new();
    let mut answered = Instant::now();
    let mut answer = begun;
    while let Some(replacement) = &answer.replacement {
        progress.show(&one_line(replacement));
        tokio::time::sleep(LOOK_EVERY).await;
        let looked = if replacement.is_lost {
            begin(connection).await
        } else {
            look(connection).await
        };
        match looked {
            Ok(newer) => {
                answer = newer;
                answered = Instant::now();
            }
            Err(error) if answered.elapsed() > PATIENCE => {
                let error = anyhow::Error::from(error);
                bail!(
                    "look how far it is: {error:#}; the sites go on by themselves, and `holm site authority` shows it"
                );
            }
            Err(error) => progress.show(&format!("no answer, looking again: {error}")),
        }
    }
    Ok(answer)
}

fn show(connection: &ConnectionOptions, answer: &SiteAuthorityResponse) -> anyhow::Result<Found> {
    Screen::new(connection.json).show(&text(answer, ask::now()), &json(answer))?;
    Ok(Found::Yes)
}

fn one_line(replacement: &AuthorityReplacement) -> String {
    let waits: Vec<&str> = replacement
        .waits_for
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    format!(
        "{}; waits for {}",
        stage(replacement),
        if waits.is_empty() {
            "nobody".to_owned()
        } else {
            waits.join(", ")
        }
    )
}

fn stage(replacement: &AuthorityReplacement) -> &str {
    let known = STAGES
        .iter()
        .find(|(name, _text)| *name == replacement.stage);
    known.map_or(replacement.stage.as_str(), |(_name, text)| text)
}

fn text(answer: &SiteAuthorityResponse, now: u64) -> String {
    let left = ask::span(answer.until.saturating_sub(now));
    let fingerprint = ask::hex(&answer.fingerprint);
    let mut text = format!("authority {fingerprint}\ngood for another {left}\n\n");
    let mut table = Table::titled(&["SITE", "VOTE", "TRUSTS", "CERTIFICATE BY", "SIGNS FOR"]);
    for site in &answer.sites {
        let vote = if site.has_vote { "yes" } else { "no" };
        let trusts: Vec<String> = site.trusts.iter().map(|it| short(it)).collect();
        let told = |text: String| {
            if site.has_reported {
                text
            } else {
                "?".to_owned()
            }
        };
        table.row(vec![
            site.name.clone(),
            vote.to_owned(),
            told(trusts.join(", ")),
            told(short(&site.signed_by)),
            told(short(&site.signs_for)),
        ]);
    }
    text.push_str(&table.text());
    if let Some(replacement) = &answer.replacement {
        text.push('\n');
        text.push_str(&replacement_text(replacement));
    }
    text
}

/// How far a replacement is, and whom it waits for, a line each.
pub(crate) fn replacement_text(replacement: &AuthorityReplacement) -> String {
    let mut text = format!(
        "the authority is being replaced by {}, made at {}: {}\n",
        short(&replacement.fingerprint),
        replacement.by,
        stage(replacement)
    );
    for wait in &replacement.waits_for {
        text.push_str(&format!("waits for {}: it {}\n", wait.name, wait.why));
    }
    if replacement.is_lost {
        text.push_str(
            "the next one's key was lost with the site that had it: `holm site authority replace` makes another\n",
        );
    }
    text
}

/// The beginning of a fingerprint, which tells it from the others that there are.
fn short(fingerprint: &[u8]) -> String {
    match fingerprint {
        [] => "-".to_owned(),
        all => ask::hex(all.get(..4).unwrap_or(all)),
    }
}

fn json(answer: &SiteAuthorityResponse) -> Value {
    let site = |site: &AuthoritySite| {
        json!({
            "name": site.name,
            "member": format!("{:x}", site.node),
            "has_vote": site.has_vote,
            "has_reported": site.has_reported,
            "trusts": site.trusts.iter().map(|it| ask::hex(it)).collect::<Vec<_>>(),
            "signed_by": some(&site.signed_by),
            "signs_for": some(&site.signs_for),
        })
    };
    json!({
        "fingerprint": ask::hex(&answer.fingerprint),
        "until": answer.until,
        "sites": answer.sites.iter().map(site).collect::<Vec<_>>(),
        "replacement": answer.replacement.as_ref().map(replacement_json),
    })
}

/// A replacement as JSON.
pub(crate) fn replacement_json(replacement: &AuthorityReplacement) -> Value {
    json!({
        "fingerprint": ask::hex(&replacement.fingerprint),
        "stage": replacement.stage,
        "by": replacement.by,
        "is_lost": replacement.is_lost,
        "waits_for": replacement.waits_for.iter().map(|it| json!({
            "name": it.name,
            "member": format!("{:x}", it.node),
            "why": it.why,
        })).collect::<Vec<_>>(),
    })
}

fn some(fingerprint: &[u8]) -> Option<String> {
    (!fingerprint.is_empty()).then(|| ask::hex(fingerprint))
}

#[cfg(test)]
mod tests {
    use holm_etcd::holm::AuthorityWait;

    use super::*;

    #[test]
    fn an_authority_that_is_replaced_reads_as_the_design_draws_it() {
        let (old, next) = (vec![0xab; 32], vec![0x12; 32]);
        let site = |name: &str, trusts: &[&Vec<u8>], has_reported| AuthoritySite {
            name: name.to_owned(),
            has_vote: true,
            has_reported,
            trusts: trusts.iter().map(|it| (*it).clone()).collect(),
            signed_by: old.clone(),
            signs_for: if name == "a" {
                next.clone()
            } else {
                Vec::new()
            },
            ..AuthoritySite::default()
        };
        let wait = AuthorityWait {
            node: 3,
            name: "c".to_owned(),
            why: "is to trust the next authority; no link for 7 s".to_owned(),
        };
        let mut answer = SiteAuthorityResponse {
            fingerprint: old.clone(),
            until: 1_000 + 3_649 * 86_400,
            sites: vec![site("a", &[&old, &next], true), site("c", &[], false)],
            replacement: Some(AuthorityReplacement {
                fingerprint: next.clone(),
                stage: "trust".to_owned(),
                by: "a".to_owned(),
                waits_for: vec![wait],
                is_lost: false,
            }),
        };
        let expected = format!(
            "authority {}\ngood for another 3649 days\n
SITE  VOTE  TRUSTS              CERTIFICATE BY  SIGNS FOR
a     yes   abababab, 12121212  abababab        12121212
c     yes   ?                   ?               ?

the authority is being replaced by 12121212, made at a: 1 of 3, every site comes to trust the next one
waits for c: it is to trust the next authority; no link for 7 s
",
            "ab".repeat(32)
        );
        assert_eq!(text(&answer, 1_000), expected);
        assert_eq!(json(&answer)["replacement"]["waits_for"][0]["name"], "c");
        answer.replacement = None;
        assert_eq!(json(&answer)["replacement"], Value::Null);
    }
}
