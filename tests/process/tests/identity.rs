//! Who asks: signed tokens of each family, and the common name of a client's certificate.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_process_tests::foreign::Certificates;
use holm_process_tests::{Answer, Gateway, Program, Server, Setup, difference, peer};
use serde_json::{Value, json};

/// How long tokens are good here.
const LIFETIME: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

/// The flag for tokens that are signed with one of the keys that the tokens' own tests use.
fn flag(method: &str, key: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../store/etcd/src/token/tests");
    let file = |name: String| folder.join(name).display().to_string();
    let (private, public) = (
        file(format!("{key}.pem")),
        file(format!("{key}-public.pem")),
    );
    let seconds = LIFETIME.as_secs();
    format!(
        "--auth-token=jwt,sign-method={method},priv-key={private},pub-key={public},ttl={seconds}s"
    )
}

fn ok(gateway: &mut Gateway, path: &str, body: &Value) -> Result<Answer> {
    let answer = gateway.post(path, body)?;
    ensure!(answer.is_ok(), "{path}: {}", answer.body);
    Ok(answer)
}

/// Enables users and logs root in.
fn login(gateway: &mut Gateway) -> Result<String> {
    ok(
        gateway,
        "auth/user/add",
        &json!({"name": "root", "password": "pw"}),
    )?;
    // Old etcds have the role root only if it is made.
    gateway.post("auth/role/add", &json!({"name": "root"}))?;
    ok(
        gateway,
        "auth/user/grant",
        &json!({"user": "root", "role": "root"}),
    )?;
    ok(gateway, "auth/enable", &json!({}))?;
    let body = json!({"name": "root", "password": "pw"});
    let answer = ok(gateway, "auth/authenticate", &body)?;
    let token = answer.body["token"]
        .as_str()
        .context("a login gives a token")?;
    ensure!(token.split('.').count() == 3, "not a signed token: {token}");
    Ok(token.to_owned())
}

/// What a server says to a good token, a forged one, none, and the good one after its time.
fn answers(program: Program, method: &str, key: &str) -> Result<[Answer; 4]> {
    let server = Server::start(Setup::new(program).in_memory().with(&flag(method, key)))?;
    let mut gateway = Gateway::new(server.address());
    // Before it is given, so that a slow answer makes its life longer and never shorter.
    let given = Instant::now();
    let token = login(&mut gateway)?;
    let (head, signature) = token.rsplit_once('.').context("a token has a signature")?;
    // One letter in its midst, so that no spare bits of base64 are all that changes.
    let (before, behind) = signature.split_at(signature.len() / 2);
    let other = if behind.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{head}.{before}{other}{}", &behind[1..]);
    let mut ask = |token: Option<&str>| {
        gateway.authorize(token.map(str::to_owned));
        gateway.post("kv/range", &json!({"key": "YQ=="}))
    };
    let answers = [ask(Some(&token))?, ask(Some(&forged))?, ask(None)?];
    let mut late = ask(Some(&token))?;
    while late.is_ok() && given.elapsed() < PATIENCE {
        sleep(Duration::from_millis(100));
        late = ask(Some(&token))?;
    }
    let lived = given.elapsed();
    ensure!(
        lived >= LIFETIME - Duration::from_secs(1),
        "it lived {lived:?}"
    );
    let [good, forged, none] = answers;
    Ok([good, forged, none, late])
}

#[test]
fn signed_tokens_of_three_families_are_taken_until_they_expire() {
    for (method, key) in [("RS256", "rsa"), ("PS256", "rsa"), ("ES256", "ec")] {
        let holm = answers(Program::Holm, method, key).unwrap();
        let [good, forged, none, late] = &holm;
        assert!(good.is_ok(), "{method}: {good:?}");
        for (refused, text) in [
            (forged, "etcdserver: invalid auth token"),
            (late, "etcdserver: invalid auth token"),
            (none, "etcdserver: user name is empty"),
        ] {
            assert_eq!(refused.message(), text, "{method}");
        }
        let version = peer::version(Program::Etcd).unwrap();
        let etcd = answers(Program::Etcd, method, key).unwrap();
        for (expected, answer) in etcd.into_iter().zip(&holm) {
            let expected = peer::older::gateway_answer(version, expected);
            let found = difference::between(&expected, answer);
            assert!(found.is_empty(), "{method}: {found:?}");
        }
    }
}

/// Runs etcdctl with a certificate, or without one; whether it succeeded, and what it said.
fn etcdctl(
    server: &Server,
    files: &Certificates,
    with: bool,
    line: &str,
) -> Result<(bool, String)> {
    let mut command = Command::new("timeout");
    command.args([
        "20".as_ref(),
        peer::tool(Program::Etcd, "etcdctl")?.as_os_str(),
    ]);
    command.env("ETCDCTL_API", "3");
    command.args(["--endpoints", &server.url(), "--command-timeout", "5s"]);
    command.arg("--cacert").arg(&files.authority);
    if with {
        command.arg("--cert").arg(&files.certificate);
        command.arg("--key").arg(&files.key);
    }
    let output = command.args(line.split(' ')).output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

/// A user's rights come from the common name of the certificate, unless a token says who asks.
fn named_by_certificate(program: Program) -> Result<()> {
    let files = Certificates::make("ada")?;
    let mut setup = Setup::new(program).in_memory().with("--client-cert-auth");
    setup = setup.with(&format!("--trusted-ca-file={}", files.authority.display()));
    setup.tls = Some((files.certificate.clone(), files.key.clone()));
    let server = Server::start(setup)?;
    let say = |with, line: &str| etcdctl(&server, &files, with, line);
    for line in [
        "user add root:pw",
        "user add ada:secret",
        "role add reader",
        "role grant-permission reader readwrite a",
        "user grant-role ada reader",
        "put z 1",
    ] {
        let (succeeded, said) = say(true, line)?;
        ensure!(succeeded, "{line}: {said}");
    }
    // Old etcds have the role root only if it is made.
    say(true, "role add root")?;
    say(true, "user grant-role root root")?;
    let (enabled, said) = say(true, "auth enable")?;
    ensure!(enabled, "auth enable: {said}");
    for (with, line, succeeds, words) in [
        (true, "put a 1", true, "OK"),
        (true, "get z", false, "permission denied"),
        (true, "user list", false, "permission denied"),
        (true, "get z --user root:pw", true, "1"),
        (false, "get a", false, ""),
    ] {
        let (succeeded, said) = say(with, line)?;
        ensure!(
            succeeded == succeeds && said.contains(words),
            "{line}: {said}"
        );
    }
    Ok(())
}

#[test]
fn the_common_name_of_a_client_certificate_is_the_user() {
    for program in [Program::Etcd, Program::Holm] {
        named_by_certificate(program)
            .with_context(|| format!("{program:?}"))
            .unwrap();
    }
}
