//! The authority of a cluster is replaced by another while its sites serve: nothing fails, the old one is refused
//! afterwards, and who is killed or away meanwhile goes on where it was.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holm_link::Identity;
use holm_net::{Authority, LinkFiles, Rotating, Trust, visit};
use holm_process_tests::machine::{Machine, three};
use holm_process_tests::sites::until;
use holm_process_tests::writers::Writers;
use serde_json::Value;

/// Somebody who has taken an authority's key, and signs itself a member's certificate with it.
struct Thief {
    folder: tempfile::TempDir,
}

impl Thief {
    /// Steals at a site.
    fn at(site: &Machine) -> Result<Self> {
        let folder = tempfile::TempDir::with_prefix("holm-thief-")?;
        let file = |name: &str| site.data().join("site").join(name);
        let stolen = Authority::load(&file("authority.pem"), &file("authority-key.pem"))?;
        let identity = Identity::new("shop", "b", "b")?;
        let issued = stolen.issue(&identity, Duration::from_secs(86_400))?;
        issued.save_as_one(&folder.path().join("node.pem"))?;
        Ok(Self { folder })
    }

    /// Whether a site lets it in, whose own certificate is trusted whoever signed it.
    fn is_let_in(&self, site: &Machine) -> Result<bool> {
        let trusted = self.folder.path().join("trusted.pem");
        fs::copy(site.data().join("site/authority.pem"), &trusted)?;
        let own = self.folder.path().join("node.pem");
        let files = LinkFiles {
            certificate: own.clone(),
            key: own,
            authorities: trusted,
        };
        let trust = Trust::Member(Rotating::load(files)?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let answer = runtime.block_on(visit(&site.peer.to_string(), &trust, b"hello"));
        Ok(answer.is_ok())
    }
}

fn key_file(site: &Machine) -> PathBuf {
    site.data().join("site/authority-key.pem")
}

/// Whom the replacement waits for, and its stage; `None` while there is none.
fn waited_for(site: &Machine) -> Result<Option<(String, Vec<String>)>> {
    let shown = site.ask(&["site", "authority"])?;
    let replacement = &shown["replacement"];
    let Some(stage) = replacement["stage"].as_str() else {
        return Ok(None);
    };
    let waits = replacement["waits_for"].as_array().context("a list")?;
    let names = waits.iter().filter_map(|it| it["name"].as_str());
    Ok(Some((stage.to_owned(), names.map(str::to_owned).collect())))
}

/// All sites trust one authority alone, which signed their certificates and whose key the voters have.
fn check_whole(shown: &Value, sites: usize, old: &str) -> Result<()> {
    let fingerprint = shown["fingerprint"].as_str().context("a fingerprint")?;
    ensure!(
        fingerprint != old && shown["replacement"].is_null(),
        "{shown}"
    );
    let all = shown["sites"].as_array().context("sites")?;
    ensure!(all.len() == sites, "{shown}");
    for site in all {
        ensure!(
            site["trusts"] == serde_json::json!([fingerprint]),
            "{shown}"
        );
        ensure!(site["signed_by"] == fingerprint, "{shown}");
        ensure!(site["signs_for"] == fingerprint, "{shown}");
    }
    Ok(())
}

#[test]
fn an_authority_is_replaced_under_traffic_and_the_old_one_is_refused() -> Result<()> {
    let sites = three("1h")?;
    let [a, b, _] = &sites;
    let old = a.ask(&["site", "authority"])?;
    let old = old["fingerprint"].as_str().context("it has one")?;
    let token = format!("--join={}", b.token("d", "10m")?);
    let thief = Thief::at(b)?;
    let stolen = fs::read(key_file(b))?;
    ensure!(thief.is_let_in(a)?, "before, whoever has the key is let in");
    let writers = Writers::at(&sites)?;
    // Whichever site is asked, and not the leader.
    let shown = b.ask(&["site", "authority", "replace"])?;
    check_whole(&shown, 3, old)?;
    ensure!(shown["sites"][0]["has_reported"] == true, "{shown}");
    let done = writers.end()?;
    ensure!(done > 100, "{done} requests show nothing");
    for site in &sites {
        ensure!(!thief.is_let_in(site)?, "{} lets the thief in", site.name);
        ensure!(fs::read(key_file(site))? != stolen, "{}", site.name);
        ensure!(!site.data().join("site/authority-next.pem").exists());
        ensure!(!site.said().contains("ERROR"), "{}", site.said());
    }
    let d = Machine::new("d")?;
    let refused = d.refusal(&d.first(&[&token]))?;
    ensure!(refused.contains("make another token"), "{refused}");
    Ok(())
}

#[test]
fn who_is_killed_or_away_or_joins_meanwhile_goes_on_where_it_was() -> Result<()> {
    let [mut a, b, mut c] = three("1h")?;
    let old = a.ask(&["site", "authority"])?;
    let old = old["fingerprint"]
        .as_str()
        .context("it has one")?
        .to_owned();
    c.stop()?;
    a.ask(&["site", "authority", "replace", "--no-wait"])?;
    let waits_for = |site: &Machine, stage: &str, names: &[&str]| -> Result<bool> {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Ok(waited_for(site)? == Some((stage.to_owned(), names)))
    };
    until("it waits for c alone", || waits_for(&b, "trust", &["c"]))?;
    let status = b.ask(&["status"])?;
    let why = status["replacement"]["waits_for"][0]["why"].as_str();
    let why = why.context("status says why")?;
    ensure!(
        why.contains("is to trust the next authority; no link for"),
        "{why}"
    );
    // Who made the next one is killed: it has the key, and the others do not.
    a.kill()?;
    a.again()?;
    let mut d = Machine::new("d")?;
    let join = format!("--join={}", b.token("d", "10m")?);
    d.start(&d.first(&[&join]))?;
    until("it waits for c alone, and d has joined", || {
        Ok(b.ask(&["status"])?["voters"] == 4 && waits_for(&b, "trust", &["c"])?)
    })?;
    c.again()?;
    until("it goes on", || {
        Ok(waited_for(&b)?.is_none_or(|(stage, _names)| stage != "trust"))
    })?;
    // In the middle of it, wherever that is.
    a.kill()?;
    a.again()?;
    until("all are done", || Ok(waited_for(&b)?.is_none()))?;
    for site in [&a, &b, &c, &d] {
        until("the site knows of it", || Ok(waited_for(site)?.is_none()))?;
    }
    check_whole(&b.ask(&["site", "authority"])?, 4, &old)?;
    d.client()?.put("after", "1")?;
    until("a site has what another wrote", || {
        Ok(c.client()?.value("after")?.as_deref() == Some("1"))
    })
}
