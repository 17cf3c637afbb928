//! Keyspaces: each an etcd cluster of its own to stock clients, over one log; made, killed, opened again, removed.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use holm_process_tests::foreign::Certificates;
use holm_process_tests::sites::{Sites, eventually, signal_process, until};
use holm_process_tests::{Program, Server, Setup, server};
use rustix::process::Signal;
use serde_json::Value;

/// Runs a command of ours against these addresses.
fn holm(endpoint: &str, words: &[&str]) -> Result<Output> {
    let output = Command::new(server::locate(Program::Holm)?)
        .args(words)
        .args(["--endpoints", endpoint])
        .output()?;
    Ok(output)
}

fn answer(endpoint: &str, words: &[&str]) -> Result<Value> {
    let output = holm(endpoint, &[words, &["--json"]].concat())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{words:?}: {said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn refusal(endpoint: &str, words: &[&str]) -> Result<String> {
    let output = holm(endpoint, words)?;
    ensure!(!output.status.success(), "{words:?} was taken");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs a stock etcdctl.
fn etcdctl(endpoint: &str, words: &[&str]) -> Result<String> {
    let program = server::installed("etcdctl").context("no etcdctl on this machine")?;
    let output = Command::new(program)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoint])
        .args(words)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "etcdctl {words:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The addresses of a keyspace, by the names of its sites.
fn addresses(view: &Value) -> Vec<(String, String)> {
    let sites = view["sites"].as_array().cloned().unwrap_or_default();
    let site = |site: &Value| {
        let name = site["name"].as_str()?.to_owned();
        Some((name, site["addresses"][0].as_str()?.to_owned()))
    };
    sites.iter().filter_map(site).collect()
}

fn revision(endpoint: &str) -> Result<i64> {
    let text = etcdctl(endpoint, &["get", "nothing", "-w", "json"])?;
    let value: Value = serde_json::from_str(&text)?;
    value["header"]["revision"].as_i64().context("a revision")
}

/// Folders of engines beside that of keyspace `default`.
fn engines(data: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(data.join("kv"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "1" && !name.starts_with("1.") {
            names.push(name);
        }
    }
    Ok(names)
}

fn what_cannot_be_says_what_to_do(home: &str) -> Result<()> {
    for (words, text) in [
        (&["keyspace", "create", "orders"][..], "already"),
        (&["keyspace", "create", "Orders"], "small letters"),
        (
            &["keyspace", "create", "x", "--guarantee", "ledger"],
            "not built yet",
        ),
        (
            &["keyspace", "create", "x", "--sites", "nowhere"],
            "the sites are",
        ),
        (&["keyspace", "show", "x"], "holm keyspace list"),
        (
            &["keyspace", "remove", "default", "--yes"],
            "cannot be removed",
        ),
        (&["keyspace", "remove", "orders"], "--yes"),
    ] {
        let said = refusal(home, words)?;
        ensure!(said.contains(text), "{words:?}: {said}");
    }
    Ok(())
}

/// Kills the sites, and who started them.
fn kill_all(sites: &mut Sites) -> Result<()> {
    for name in ["a", "b", "c"] {
        let id = sites.site(name)?["pid"].as_u64().context("a process")?;
        signal_process(id, Signal::KILL)?;
    }
    sites.kill()
}

#[test]
fn a_keyspace_of_one_node_is_a_cluster_of_its_own() -> Result<()> {
    let mut server = Server::start(Setup::new(Program::Holm).in_memory())?;
    let home = server.address().to_string();
    let view = answer(&home, &["keyspace", "create", "orders"])?;
    let orders = addresses(&view)[0].1.clone();

    // Its own keys, revisions, leases, users; nothing of one is seen in the other.
    ensure!(revision(&orders)? == 1, "it begins anew");
    etcdctl(&home, &["put", "a", "home"])?;
    etcdctl(&home, &["put", "b", "home"])?;
    etcdctl(&orders, &["put", "a", "orders"])?;
    ensure!(etcdctl(&orders, &["get", "a", "--print-value-only"])? == "orders\n");
    ensure!(etcdctl(&home, &["get", "a", "--print-value-only"])? == "home\n");
    ensure!(etcdctl(&orders, &["get", "b"])?.is_empty());
    ensure!((revision(&home)?, revision(&orders)?) == (3, 2));
    etcdctl(&orders, &["lease", "grant", "600"])?;
    etcdctl(&orders, &["user", "add", "ann:secret"])?;
    ensure!(etcdctl(&home, &["lease", "list"])?.contains("found 0 leases"));
    ensure!(etcdctl(&home, &["user", "list"])?.is_empty());
    let members = etcdctl(&orders, &["member", "list"])?;
    ensure!(members.contains(&orders), "{members}");
    ensure!(
        etcdctl(&orders, &["endpoint", "status"])?.contains("true"),
        "it leads"
    );
    let saved = server.data().join("saved.db");
    etcdctl(&orders, &["snapshot", "save", &saved.to_string_lossy()])?;
    let found = holm(&home, &["get", "a", "--keyspace", "orders"])?;
    ensure!(String::from_utf8_lossy(&found.stdout).contains("orders"));

    what_cannot_be_says_what_to_do(&home)?;

    // The same after a crash, at the same address.
    server.kill()?;
    server.again()?;
    eventually("it serves again", || {
        let found = etcdctl(&orders, &["get", "a", "--print-value-only"])?;
        ensure!(found == "orders\n", "{found}");
        Ok(())
    })?;
    ensure!((revision(&home)?, revision(&orders)?) == (3, 2));
    let status = answer(&home, &["status"])?;
    ensure!(status["keyspaces"][1]["name"] == "orders", "{status}");

    // Removed in the middle of a crash: gone all the same, and its id is not used again.
    answer(&home, &["keyspace", "remove", "orders", "--yes"])?;
    server.kill()?;
    server.again()?;
    until("its files are deleted", || {
        Ok(engines(&server.data())?.is_empty())
    })?;
    ensure!(
        etcdctl(&orders, &["get", "a"]).is_err(),
        "nobody answers there"
    );
    let view = answer(&home, &["keyspace", "create", "orders"])?;
    ensure!(view["id"] == 3, "{view}");
    let orders = addresses(&view)[0].1.clone();
    ensure!(revision(&orders)? == 1, "it begins anew");
    Ok(())
}

#[test]
fn a_keyspace_of_three_sites_survives_the_death_of_all_and_changes_its_sites() -> Result<()> {
    let words = ["--election-timeout=500", "--heartbeat-interval=50"];
    let mut sites = Sites::start(3, &words)?;
    let home = sites.endpoint("a")?.to_string();
    let view = answer(&home, &["keyspace", "create", "orders", "--sites", "a,b"])?;
    let at = addresses(&view);
    ensure!(at.len() == 2, "{view}");
    let put = |endpoint: &str, value: &str| {
        eventually("a put is taken", || {
            etcdctl(endpoint, &["put", "a", value]).map(drop)
        })
    };
    let reads = |endpoint: &str, value: &str| {
        eventually("a read finds it", || {
            let found = etcdctl(endpoint, &["get", "a", "--print-value-only"])?;
            ensure!(found.trim_end() == value, "{found}");
            Ok(())
        })
    };
    put(&at[0].1, "1")?;
    reads(&at[1].1, "1")?;
    let c = sites.endpoint("c")?.to_string();
    ensure!(
        etcdctl(&c, &["get", "a"])?.is_empty(),
        "default has no such key"
    );
    let seen = answer(&c, &["keyspace", "show", "orders"])?;
    ensure!(
        addresses(&seen) == at,
        "every site knows where it is: {seen}"
    );
    until("its members are named", || {
        let members = etcdctl(&at[0].1, &["member", "list"])?;
        Ok(at.iter().all(|(_, address)| members.contains(address)))
    })?;

    kill_all(&mut sites)?;
    sites.again()?;
    reads(&at[1].1, "1")?;
    put(&at[1].1, "2")?;

    // c comes, a goes.
    eventually("c is taken in", || {
        answer(&c, &["keyspace", "members", "orders", "add", "c"]).map(drop)
    })?;
    let view = answer(&home, &["keyspace", "show", "orders"])?;
    let new = addresses(&view);
    let third = new
        .iter()
        .find(|(name, _)| name == "c")
        .context("c serves it")?;
    put(&third.1, "2")?;
    reads(&third.1, "2")?;
    eventually("a is let go", || {
        answer(&c, &["keyspace", "members", "orders", "remove", "a"]).map(drop)
    })?;
    until("what a had is deleted", || {
        Ok(engines(&sites.data().join("a"))?.is_empty())
    })?;
    put(&third.1, "3")?;
    reads(&at[1].1, "3")?;
    let said = refusal(&home, &["keyspace", "members", "orders", "add", "a"])?;
    ensure!(said.contains("cannot come back"), "{said}");

    answer(&home, &["keyspace", "remove", "orders", "--yes"])?;
    for name in ["b", "c"] {
        until("its files are deleted", || {
            Ok(engines(&sites.data().join(name))?.is_empty())
        })?;
    }
    let list = answer(&home, &["keyspace", "list"])?;
    ensure!(list.as_array().map(Vec::len) == Some(1), "{list}");
    sites.stop()?;
    Ok(())
}

/// What a stock etcdctl tells of this many events of a watch on all keys, from the first revision.
fn told(endpoint: &str, events: usize) -> Result<String> {
    let program = server::installed("etcdctl").context("no etcdctl on this machine")?;
    let mut watch = Command::new(program)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoint, "watch", "", "--prefix", "--rev=1"])
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = watch.stdout.take().context("it is piped")?;
    // Each event is three lines: what happened, the key, the value.
    let lines = std::io::BufRead::lines(std::io::BufReader::new(lines)).take(3 * events);
    let lines: Vec<String> = lines.collect::<std::io::Result<_>>()?;
    watch.kill()?;
    watch.wait()?;
    Ok(lines.join(" "))
}

#[test]
fn a_watch_at_a_keyspaces_address_tells_of_that_keyspace_alone() -> Result<()> {
    let mut server = Server::start(Setup::new(Program::Holm).in_memory())?;
    let home = server.address().to_string();
    let view = answer(&home, &["keyspace", "create", "orders"])?;
    let orders = addresses(&view)[0].1.clone();
    for value in ["1", "2"] {
        etcdctl(&home, &["put", "a", &format!("home{value}")])?;
        etcdctl(&orders, &["put", "b", &format!("orders{value}")])?;
    }
    etcdctl(&orders, &["del", "b"])?;
    ensure!(told(&orders, 3)? == "PUT b orders1 PUT b orders2 DELETE b ");
    ensure!(told(&home, 2)? == "PUT a home1 PUT a home2");
    server.kill()?;
    server.again()?;
    until("the past is told after a crash, too", || {
        Ok(told(&orders, 3)? == "PUT b orders1 PUT b orders2 DELETE b ")
    })
}

#[test]
fn a_keyspaces_address_has_the_tls_of_the_default_listener() -> Result<()> {
    let files = Certificates::make("ada")?;
    let mut setup = Setup::new(Program::Holm)
        .in_memory()
        .with("--client-cert-auth");
    setup = setup.with(&format!("--trusted-ca-file={}", files.authority.display()));
    setup.tls = Some((files.certificate.clone(), files.key.clone()));
    let server = Server::start(setup)?;
    let home = format!("https://{}", server.address());
    let [authority, certificate, key] =
        [&files.authority, &files.certificate, &files.key].map(|it| it.display().to_string());
    let known = [
        "--cacert",
        &authority,
        "--cert",
        &certificate,
        "--key",
        &key,
    ];
    let view = answer(
        &home,
        &[&["keyspace", "create", "orders"][..], &known].concat(),
    )?;
    let orders = addresses(&view)[0].1.clone();
    ensure!(orders.starts_with("https://"), "{view}");
    etcdctl(&orders, &[&["put", "a", "1"][..], &known].concat())?;
    let found = holm(
        &home,
        &[&["get", "a", "--keyspace", "orders"][..], &known].concat(),
    )?;
    ensure!(
        String::from_utf8_lossy(&found.stdout).contains("a  1"),
        "{found:?}"
    );

    // Without a certificate, and without TLS, nobody is heard.
    let brief = ["--command-timeout=3s", "put", "a", "2"];
    ensure!(etcdctl(&orders, &[&["--cacert", &authority][..], &brief].concat()).is_err());
    ensure!(etcdctl(&orders.replace("https", "http"), &brief).is_err());
    let still = etcdctl(
        &orders,
        &[&["get", "a", "--print-value-only"][..], &known].concat(),
    )?;
    ensure!(still == "1\n", "{still}");
    Ok(())
}

#[test]
fn a_stock_etcdctl_changes_who_belongs_to_a_keyspace() -> Result<()> {
    let mut sites = Sites::start(3, &["--election-timeout=500", "--heartbeat-interval=50"])?;
    let home = sites.endpoint("a")?.to_string();
    let view = answer(&home, &["keyspace", "create", "bills", "--sites", "a"])?;
    let at_a = addresses(&view)[0].1.clone();
    eventually("a put is taken", || {
        etcdctl(&at_a, &["put", "a", "1"]).map(drop)
    })?;
    let members: Value = serde_json::from_str(&etcdctl(&home, &["member", "list", "-w", "json"])?)?;
    let member = |name: &str| {
        let all = members["members"].as_array().into_iter().flatten();
        let found = all.into_iter().find(|it| it["name"] == name);
        found.cloned().context("it is a member")
    };
    let said = etcdctl(
        &at_a,
        &["member", "add", "x", "--peer-urls=http://127.0.0.1:1"],
    );
    let said = format!("{:?}", said.err());
    ensure!(said.contains("no site"), "{said}");
    let url = member("b")?["peerURLs"][0]
        .as_str()
        .context("a URL")?
        .to_owned();
    etcdctl(
        &at_a,
        &["member", "add", "b", &format!("--peer-urls={url}")],
    )?;
    let at_b = eventually("b serves it", || {
        let view = answer(&home, &["keyspace", "show", "bills"])?;
        let found = addresses(&view).into_iter().find(|(name, _)| name == "b");
        let (_name, address) = found.context("b has no address yet")?;
        ensure!(etcdctl(&address, &["get", "a", "--print-value-only"])? == "1\n");
        Ok(address)
    })?;
    let id = member("a")?["ID"].as_u64().context("an id")?;
    eventually("a is let go", || {
        etcdctl(&at_b, &["member", "remove", &format!("{id:x}")]).map(drop)
    })?;
    until("what a had is deleted", || {
        Ok(engines(&sites.data().join("a"))?.is_empty())
    })?;
    eventually("b goes on alone", || {
        etcdctl(&at_b, &["put", "a", "2"]).map(drop)
    })?;
    ensure!(etcdctl(&at_b, &["get", "a", "--print-value-only"])? == "2\n");
    sites.stop()?;
    Ok(())
}
