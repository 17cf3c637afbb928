//! Suites of clients that we did not write, fetched by name and run against a server of ours.
//!
//! Each suite is fetched once into a cache outside the tree (`HOLM_CACHE`, by default
//! `$XDG_CACHE_HOME/holm/foreign`) with versions pinned, for a suite that changes under us
//! proves nothing. Nothing of a suite is changed but the address it connects to, and for the
//! Rust crate its build script: the original asks for protoc.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::server::Server;

/// What a suite reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Tests that passed.
    pub passed: u64,
    /// The names of those that failed.
    pub failed: Vec<String>,
    /// The last lines of the output, for a person.
    pub tail: String,
}

/// Where suites are kept between runs.
///
/// # Errors
///
/// No folder can be made.
pub fn cache(name: &str) -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let base = variable("HOLM_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|base| base.join("holm")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/holm")))
        .unwrap_or_else(|| std::env::temp_dir().join("holm"));
    let folder = base.join("foreign").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// Fetches once: `work` runs in a fresh folder, and only its success is kept.
///
/// # Errors
///
/// What `work` says.
pub fn once(name: &str, work: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = cache(name)?;
    // Tests run beside each other, in one process or in several, and one fetches for all.
    let lock = fs::File::create(folder.with_file_name(format!("{name}.lock")))?;
    lock.lock()?;
    let mark = folder.join("fetched");
    if !mark.exists() {
        fs::remove_dir_all(&folder)?;
        fs::create_dir_all(&folder)?;
        work(&folder)?;
        fs::write(mark, "")?;
    }
    Ok(folder)
}

/// Runs a program in a folder and gives all it wrote; a failure is an error with its end.
///
/// # Errors
///
/// The program is not there or fails.
pub fn must(folder: &Path, words: &[&str]) -> Result<String> {
    let (success, text) = run(folder, words, &BTreeMap::new())?;
    ensure!(
        success,
        "`{}` failed:\n{}",
        words.join(" "),
        tail(&text, 20)
    );
    Ok(text)
}

fn run(
    folder: &Path,
    words: &[&str],
    variables: &BTreeMap<&str, String>,
) -> Result<(bool, String)> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .current_dir(folder)
        .envs(variables)
        .output()
        .with_context(|| format!("start {}", words[0]))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}

/// Replaces text in one file.
///
/// # Errors
///
/// The file does not hold the text: the suite is not the one that was pinned.
pub fn replace(file: &Path, from: &str, to: &str) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    ensure!(
        text.contains(from),
        "{} does not hold `{from}`",
        file.display()
    );
    fs::write(file, text.replace(from, to)).with_context(|| format!("write {}", file.display()))
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Copies a folder of sources, so that an address can be put into the copy.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let words = [Path::new("-r"), from, to].map(|path| path.to_string_lossy().into_owned());
    must(Path::new("/"), &["cp", &words[0], &words[1], &words[2]]).map(drop)
}

/// The Python client `etcd3` 0.12 and its own tests.
///
/// # Errors
///
/// It cannot be fetched or started.
pub fn python(server: &Server, deselected: &[&str]) -> Result<Report> {
    let suite = once("python-etcd3-0.12.0", |folder| {
        must(folder, &["python3", "-m", "venv", "venv"])?;
        let pip = folder.join("venv/bin/pip").to_string_lossy().into_owned();
        let tools = [
            "grpcio",
            "protobuf<3.21",
            "six",
            "tenacity<7",
            "hypothesis<5",
            "mock",
            "pytest<9",
        ];
        let mut words = vec![pip.as_str(), "install", "--quiet"];
        words.extend(tools);
        must(folder, &words)?;
        let source = [
            "download",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--no-binary",
            ":all:",
            "etcd3==0.12.0",
        ];
        must(
            folder,
            &[pip.as_str(), "install", "--quiet", "setuptools", "wheel"],
        )?;
        let mut words = vec![pip.as_str()];
        words.extend(source);
        must(folder, &words)?;
        must(folder, &["tar", "xf", "etcd3-0.12.0.tar.gz"]).map(drop)
    })?;
    let work = tempfile::tempdir()?;
    let copied = work.path().join("suite");
    copy(&suite.join("etcd3-0.12.0"), &copied)?;
    let port = server.address().port();
    replace(
        &copied.join("etcd3/client.py"),
        "port=2379",
        &format!("port={port}"),
    )?;
    let python = suite.join("venv/bin/python").to_string_lossy().into_owned();
    let mut words = vec![python.as_str(), "-m", "pytest", "-q", "-rfE", "tests"];
    let deselected: Vec<String> = deselected
        .iter()
        .map(|name| format!("--deselect=tests/test_etcd3.py::{name}"))
        .collect();
    words.extend(deselected.iter().map(String::as_str));
    let variables = BTreeMap::from([
        ("PYTHON_ETCD_HTTP_URL", server.url()),
        ("TEST_ETCD_VERSION", "v3.4.23".to_owned()),
        ("ETCDCTL_API", "3".to_owned()),
    ]);
    let (_, text) = run(&copied, &words, &variables)?;
    let failed = lines_after(&text, &["FAILED ", "ERROR "]);
    Ok(Report {
        passed: number_before(&text, " passed"),
        failed,
        tail: tail(&text, 40),
    })
}

/// Fetches the Python client `etcd3gw` 2.7.0, which speaks to the JSON gateway; it needs
/// Python 3.10.
///
/// # Errors
///
/// It cannot be had.
pub fn fetch_python_gateway() -> Result<PathBuf> {
    once("python-etcd3gw-2.7.0", |folder| {
        must(folder, &["python3", "-m", "venv", "venv"])?;
        let tools = [
            "pbr>=6.1.1",
            "setuptools",
            "wheel",
            "pytest<9",
            "oslotest",
            "requests",
            "futurist",
        ];
        let install = ["venv/bin/pip", "install", "--quiet"];
        must(folder, &[&install[..], &tools[..]].concat())?;
        let download = ["venv/bin/pip", "download", "--quiet", "--no-deps"];
        let package = [
            "--no-build-isolation",
            "--no-binary",
            ":all:",
            "etcd3gw==2.7.0",
        ];
        must(folder, &[&download[..], &package[..]].concat())?;
        must(folder, &["tar", "xf", "etcd3gw-2.7.0.tar.gz"]).map(drop)
    })
}

/// Runs the tests of what [`fetch_python_gateway`] fetched.
///
/// # Errors
///
/// It cannot be started.
pub fn python_gateway(suite: &Path, server: &Server) -> Result<Report> {
    let python = suite.join("venv/bin/python").to_string_lossy().into_owned();
    let words = [
        "-m",
        "pytest",
        "-q",
        "-rfE",
        "-p",
        "no:cacheprovider",
        "etcd3gw/tests",
    ];
    let variables = BTreeMap::from([
        ("TOOZ_TEST_HTTP_URL", server.url()),
        ("TOOZ_TEST_ETCD_PORT", server.address().port().to_string()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
    ]);
    let words = [&[python.as_str()], &words[..]].concat();
    let (_, text) = run(&suite.join("etcd3gw-2.7.0"), &words, &variables)?;
    Ok(Report {
        passed: number_before(&text, " passed"),
        failed: lines_after(&text, &["FAILED ", "ERROR "]),
        tail: tail(&text, 40),
    })
}

/// The npm package `etcd3` and its own tests, over TLS.
///
/// The tests are in the archive of 1.0.2 and in none after it, so that version is what runs.
///
/// # Errors
///
/// It cannot be fetched or started.
pub fn npm(server: &Server, certificates: &Certificates) -> Result<Report> {
    let suite = once("npm-etcd3-1.0.2", |folder| {
        must(folder, &["npm", "pack", "--silent", "etcd3@1.0.2"])?;
        must(folder, &["tar", "xf", "etcd3-1.0.2.tgz"])?;
        let package = folder.join("package");
        let tools = [
            "mocha@8",
            "chai@4",
            "chai-subset@1",
            "chai-as-promised@7",
            "sinon@9",
            "@grpc/grpc-js@1.3.8",
        ];
        let mut words = vec![
            "npm",
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--no-save",
            "--legacy-peer-deps",
        ];
        words.extend(tools);
        must(&package, &words)?;
        for file in ["auth.proto", "kv.proto", "rpc.proto"] {
            fs::copy(
                package.join("proto").join(file),
                package.join("lib/proto").join(file),
            )?;
        }
        Ok(())
    })?;
    let package = suite.join("package");
    let place = package.join("lib/src/test/certs");
    fs::create_dir_all(place.join("certs"))?;
    fs::create_dir_all(place.join("private"))?;
    fs::copy(&certificates.authority, place.join("certs/ca.crt"))?;
    fs::copy(
        &certificates.certificate,
        place.join("certs/etcd0.localhost.crt"),
    )?;
    fs::copy(&certificates.key, place.join("private/etcd0.localhost.key"))?;
    let variables = BTreeMap::from([
        ("ETCD_ADDR", server.address().to_string()),
        ("ETCD_VERSION", "3.4.23".to_owned()),
    ]);
    let words = [
        "npx",
        "mocha",
        "--exit",
        "--require",
        "lib/src/test/_setup.js",
        "lib/src/test/*.test.js",
    ];
    let (_, text) = run(&package, &words, &variables)?;
    let failed = numbered(&text);
    Ok(Report {
        passed: number_before(&text, " passing"),
        failed,
        tail: tail(&text, 60),
    })
}

/// The Rust crate `etcd-client` and its own tests.
///
/// # Errors
///
/// It cannot be fetched or started.
pub fn rust(server: &Server) -> Result<Report> {
    let suite = once("rust-etcd-client-0.21.1", |folder| {
        fs::create_dir_all(folder.join("fetch/src"))?;
        fs::write(folder.join("fetch/src/lib.rs"), "")?;
        let manifest = "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[dependencies]\netcd-client = \"=0.21.1\"\n[workspace]\n";
        fs::write(folder.join("fetch/Cargo.toml"), manifest)?;
        let text = must(
            &folder.join("fetch"),
            &["cargo", "metadata", "--format-version", "1", "--quiet"],
        )?;
        let source = crate_folder(&text, "etcd-client")?;
        copy(&source, &folder.join("crate"))?;
        let manifest = folder.join("crate/Cargo.toml");
        let text = fs::read_to_string(&manifest)?;
        fs::write(
            &manifest,
            format!("{text}\n[build-dependencies.protox]\nversion = \"0.10\"\n[workspace]\n"),
        )?;
        fs::write(folder.join("crate/build.rs"), BUILD_WITHOUT_PROTOC)?;
        fs::copy(
            folder.join("crate/tests/testing.rs"),
            folder.join("testing.rs"),
        )?;
        Ok(())
    })?;
    let copied = suite.join("crate");
    fs::copy(suite.join("testing.rs"), copied.join("tests/testing.rs"))?;
    replace(
        &copied.join("tests/testing.rs"),
        "localhost:2379",
        &server.address().to_string(),
    )?;
    let target = suite.join("target").to_string_lossy().into_owned();
    let variables = BTreeMap::from([
        ("CARGO_TARGET_DIR", target),
        ("RUST_BACKTRACE", "0".to_owned()),
    ]);
    let words = [
        "cargo",
        "test",
        "--no-fail-fast",
        "--test",
        "client",
        "--test",
        "namespace",
        "--",
        "--test-threads",
        "1",
    ];
    let (_, text) = run(&copied, &words, &variables)?;
    let results = text
        .lines()
        .filter(|line| line.starts_with("test ") && line.ends_with("... FAILED"));
    let failed = results
        .filter_map(|line| line.split(' ').nth(1))
        .map(str::to_owned)
        .collect();
    let sums = text.lines().filter(|line| line.starts_with("test result:"));
    let passed = sums.map(|line| number_before(line, " passed")).sum();
    Ok(Report {
        passed,
        failed,
        tail: tail(&text, 60),
    })
}

const BUILD_WITHOUT_PROTOC: &str = r#"
fn main() {
    let api = "proto/etcd/api";
    let server = "proto/etcd/server/etcdserver/api";
    let files = [
        format!("{api}/authpb/auth.proto"),
        format!("{api}/etcdserverpb/rpc.proto"),
        format!("{api}/mvccpb/kv.proto"),
        format!("{server}/v3election/v3electionpb/v3election.proto"),
        format!("{server}/v3lock/v3lockpb/v3lock.proto"),
    ];
    let descriptors = protox::compile(files, ["proto"]).expect("the crate's own files compile");
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors).expect("and so does their code");
}
"#;

fn crate_folder(metadata: &str, name: &str) -> Result<PathBuf> {
    let line = metadata
        .lines()
        .find(|line| line.starts_with('{'))
        .context("cargo metadata is JSON")?;
    let value: serde_json::Value = serde_json::from_str(line)?;
    let mut packages = value["packages"].as_array().into_iter().flatten();
    let Some(package) = packages.find(|package| package["name"] == name) else {
        bail!("cargo does not know {name}");
    };
    let manifest = Path::new(
        package["manifest_path"]
            .as_str()
            .context("a package has a manifest")?,
    );
    Ok(manifest
        .parent()
        .context("a manifest lies in a folder")?
        .to_owned())
}

fn number_before(text: &str, word: &str) -> u64 {
    let found = text.lines().rev().find_map(|line| line.split_once(word));
    let digits = found.and_then(|(before, _)| {
        before
            .rsplit(|letter: char| !letter.is_ascii_digit())
            .next()
    });
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn lines_after(text: &str, marks: &[&str]) -> Vec<String> {
    let found = text
        .lines()
        .filter_map(|line| marks.iter().find_map(|mark| line.strip_prefix(mark)));
    found
        .map(|rest| rest.split(" - ").next().unwrap_or(rest).to_owned())
        .collect()
}

/// The titles beneath mocha's list of failures: `1) watch()` and what is indented below it.
fn numbered(text: &str) -> Vec<String> {
    let Some((_, list)) = text.split_once(" failing") else {
        return Vec::new();
    };
    let mut lines = list.lines().map(str::trim);
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let Some((number, title)) = line.split_once(") ") else {
            continue;
        };
        if number.chars().all(|letter| letter.is_ascii_digit()) {
            let rest: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            found.push(format!("{title} {}", rest.join(" ")));
        }
    }
    found
}

/// A certificate authority and what it signed, as files.
#[derive(Debug)]
pub struct Certificates {
    folder: tempfile::TempDir,
    /// The authority's certificate.
    pub authority: PathBuf,
    /// A certificate for localhost and 127.0.0.1.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes an authority, and one certificate for this machine that servers and clients use.
    ///
    /// # Errors
    ///
    /// Files that cannot be written.
    pub fn make(common_name: &str) -> Result<Self> {
        Self::with(
            common_name,
            &["localhost", "etcd0.localhost", "127.0.0.1"],
            4096,
        )
    }

    /// As [`Certificates::make`], for other names and valid until the end of a year.
    ///
    /// # Errors
    ///
    /// Files that cannot be written.
    pub fn with(common_name: &str, names: &[&str], year: i32) -> Result<Self> {
        use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
        let folder = tempfile::tempdir()?;
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority
            .distinguished_name
            .push(DnType::CommonName, "holm test authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let signed = authority.self_signed(&authority_key)?;
        let issuer = Issuer::from_params(&authority, &authority_key);
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut leaf = CertificateParams::new(names)?;
        leaf.not_after = rcgen::date_time_ymd(year, 12, 31);
        leaf.distinguished_name
            .push(DnType::CommonName, common_name);
        let certificate = leaf.signed_by(&key, &issuer)?;
        let write = |name: &str, text: String| -> Result<PathBuf> {
            let file = folder.path().join(name);
            fs::write(&file, text)?;
            Ok(file)
        };
        Ok(Self {
            authority: write("ca.crt", signed.pem())?,
            certificate: write("node.crt", certificate.pem())?,
            key: write("node.key", key.serialize_pem())?,
            folder,
        })
    }

    /// The folder that holds the files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reports_of_all_runners_are_read() {
        assert_eq!(
            number_before("6 failed, 76 passed, 115 warnings in 79.18s", " passed"),
            76
        );
        assert_eq!(
            number_before("  142 passing (5s)\n  2 pending\n", " passing"),
            142
        );
        let pytest =
            "FAILED tests/test_etcd3.py::TestEtcd3::test_x - assert 1 == 3\nERROR tests/a.py::b\n";
        assert_eq!(
            lines_after(pytest, &["FAILED ", "ERROR "]),
            ["tests/test_etcd3.py::TestEtcd3::test_x", "tests/a.py::b"]
        );
        let mocha = "  1 failing\n\n  1) watch()\n       unsubscribing\n\n     Error: x\n";
        assert_eq!(numbered(mocha), ["watch() unsubscribing"]);
    }
}
