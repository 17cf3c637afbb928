//! Precedence and complaints.

use clap::{CommandFactory, FromArgMatches, Parser};
use holm_telemetry::LogFormat;

use super::*;

#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(flatten)]
    flags: Flags,
}

fn flags(words: &[&str]) -> Flags {
    let matches = Line::command()
        .try_get_matches_from(words)
        .expect("the words are flags");
    Line::from_arg_matches(&matches)
        .expect("matches of the same command")
        .flags
}

fn variables(pairs: &[(&str, &str)]) -> Layer {
    let pairs = pairs
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    layer::from_environment("HOLM_", pairs).0
}

fn load(words: &[&str], pairs: &[(&str, &str)], file: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("holm.toml");
    std::fs::write(&path, file).expect("a temporary file");
    let path = path.display().to_string();
    let environment = Environment {
        layer: variables(pairs),
        unknown: Vec::new(),
        file: Some(path.clone()),
    };
    Config::load(Calling::Holm, &flags(words), environment)
        .map_err(|error| format!("{error:#}").replace(&path, "holm.toml"))
}

fn refusal(words: &[&str]) -> String {
    load(words, &[], "").expect_err("the words are refused")
}

#[test]
fn nothing_said_is_loopback_with_etcds_limits() {
    let config = load(&[], &[], "").unwrap();
    assert_eq!(config.listen, ["127.0.0.1:2379".parse().unwrap()]);
    assert_eq!(config.console, Some("127.0.0.1:2381".parse().unwrap()));
    assert_eq!(config.client_urls, ["http://127.0.0.1:2379"]);
    assert_eq!(config.peer_urls, ["http://127.0.0.1:2380"]);
    assert_eq!(
        (config.quota_bytes, config.request_bytes_max),
        (2 << 30, 1_572_864)
    );
    assert_eq!(
        (config.txn_ops_max, config.retention),
        (128, Retention::Everything)
    );
    assert_eq!(config.election_timeout, Duration::from_secs(1));
    assert_eq!(config.progress_interval, Duration::from_secs(600));
    assert_eq!(config.keepalive_time_min, Duration::from_secs(5));
    assert_eq!(config.keepalive_interval, Duration::from_secs(7_200));
    assert_eq!(config.keepalive_timeout, Duration::from_secs(20));
    assert_eq!(config.tls, Tls::Off);
}

#[test]
fn flag_wins_over_variable_and_variable_over_file() {
    let file = "name = 'file'\nmax-txn-ops = 1\nquota-backend-bytes = 4096";
    let pairs = [("HOLM_NAME", "variable"), ("HOLM_MAX_TXN_OPS", "2")];
    let config = load(&["--name=flag"], &pairs, file).unwrap();
    assert_eq!(config.name, "flag");
    assert_eq!(config.txn_ops_max, 2);
    assert_eq!(config.quota_bytes, 4096);
}

#[test]
fn complaints_name_the_place() {
    let listen = refusal(&["--listen=nowhere"]);
    assert_eq!(
        listen,
        "--listen: `nowhere` is no address: write host:port, such as 127.0.0.1:2379"
    );
    let variable = load(&[], &[("HOLM_MAX_TXN_OPS", "many")], "").unwrap_err();
    assert_eq!(
        variable,
        "variable HOLM_MAX_TXN_OPS: `many` is no whole number"
    );
    let file = load(&[], &[], "\nmax-txn-ops = 0").unwrap_err();
    assert_eq!(file, "holm.toml:2: max-txn-ops: the least is 1");
}

#[test]
fn listener_off_loopback_needs_tls() {
    let text = refusal(&["--listen=0.0.0.0:2379"]);
    let expected = "listener 0.0.0.0:2379 is not loopback and has no TLS: add --cert-file and \
                    --key-file, or listen on 127.0.0.1";
    assert_eq!(text, expected);
    assert!(refusal(&["--console=0.0.0.0:2381"]).starts_with("listener 0.0.0.0:2381 is not"));
    let config = load(&["--listen=0.0.0.0:2379", "--auto-tls"], &[], "").unwrap();
    assert_eq!(config.client_urls, ["https://0.0.0.0:2379"]);
}

#[test]
fn halves_of_tls_are_refused() {
    assert_eq!(
        refusal(&["--cert-file=c"]),
        "--cert-file needs --key-file beside it"
    );
    assert_eq!(
        refusal(&["--key-file=k"]),
        "--key-file needs --cert-file beside it"
    );
    assert!(refusal(&["--client-cert-auth"]).contains("need --cert-file and --key-file"));
    let both = ["--cert-file=c", "--key-file=k", "--client-cert-auth=true"];
    assert!(refusal(&both).contains("needs --trusted-ca-file"));
    assert!(refusal(&["--listen=https://127.0.0.1:1"]).contains("is an https URL"));
}

#[test]
fn etcds_spellings_are_understood() {
    let words = [
        "--listen-client-urls=http://127.0.0.1:1,http://127.0.0.1:2",
        "--listen-peer-urls=http://127.0.0.1:3",
        "--listen-metrics-urls=http://127.0.0.1:4",
        "--auto-compaction-mode=revision",
        "--auto-compaction-retention=1000",
        "--heartbeat-interval=10",
        "--quota-backend-bytes=0",
        "--snapshot-count=10000",
        "--initial-cluster=default=http://127.0.0.1:3",
        "--initial-cluster-state=new",
    ];
    let config = load(&words, &[], "").unwrap();
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.retention, Retention::Revisions(1000));
    assert_eq!(config.heartbeat, Duration::from_millis(10));
    assert_eq!(config.quota_bytes, 2 << 30);
    assert_eq!(
        config.remarks,
        [
            "--initial-cluster-state=new has no meaning for a node alone and is ignored",
            "--snapshot-count=10000 has no meaning here and is ignored"
        ]
    );
    assert_eq!(config.cluster, None);
}

#[test]
fn periodic_retention_counts_hours() {
    let time =
        |text: &str| load(&[&format!("--auto-compaction-retention={text}")], &[], "").unwrap();
    assert_eq!(
        time("1").retention,
        Retention::Time(Duration::from_secs(3600))
    );
    assert_eq!(
        time("30m").retention,
        Retention::Time(Duration::from_secs(1800))
    );
}

#[test]
fn impossible_combinations_are_refused() {
    assert!(refusal(&["--election-timeout=300"]).contains("less than five heartbeats of 100 ms"));
    assert!(refusal(&["--election-timeout=60s"]).contains("above the limit of 50 s"));
    assert!(refusal(&["--max-request-bytes=0"]).contains("1 byte to 64 MiB"));
    assert!(refusal(&["--watch-progress-notify-interval=10ms"]).contains("at least 100ms"));
}

/// Three sites as a node called b is told of them, with certificates that are files at least.
fn three(words: &[&str]) -> Result<Config, String> {
    let mut line = vec!["--name=b"];
    if !words
        .iter()
        .any(|word| word.starts_with("--initial-cluster="))
    {
        line.push("--initial-cluster=a=https://h1:2380,b=https://h2:2380,c=https://h3:2380");
    }
    line.extend(words);
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let tls = ["peer-cert-file", "peer-key-file", "peer-trusted-ca-file"];
    let tls = tls.map(|name| format!("--{name}={}", file.path().display()));
    let missing = |flag: &&str| !words.iter().any(|word| word.starts_with(&flag[..12]));
    line.extend(tls.iter().map(String::as_str).filter(missing));
    load(&line, &[], "")
}

#[test]
fn members_are_known_by_ids_that_all_of_them_compute() {
    let config = three(&["--peer-via=a=127.0.0.1:25431"]).unwrap();
    let cluster = config.cluster.unwrap();
    let url = |url: &str| [url.to_owned()];
    let own = holm_runtime::member_id("holm-cluster", &url("https://h2:2380"));
    assert_eq!((cluster.node, cluster.own().name.as_str()), (own, "b"));
    assert_eq!(config.peer_urls, ["https://h2:2380"]);
    let addresses: Vec<&str> = cluster
        .members
        .iter()
        .map(|it| it.address.as_str())
        .collect();
    assert_eq!(addresses, ["127.0.0.1:25431", "h2:2380", "h3:2380"]);
    let other = three(&["--initial-cluster-token=other"]).unwrap().cluster;
    let other = other.unwrap();
    assert!(other.cluster != cluster.cluster && other.node != cluster.node);
    assert!(!cluster.is_joining);
    let joining = three(&["--initial-cluster-state=existing"]).unwrap();
    assert!(joining.cluster.unwrap().is_joining);
}

#[test]
fn a_list_of_members_that_cannot_be_is_refused_with_a_remedy() {
    let cases = [
        (
            "--initial-cluster=a=https://h:1,c=https://h:2",
            "--initial-cluster: this node is called b and the list names a, c: write b=URL into it, or set --name \
             to one of them",
        ),
        (
            "--initial-cluster=b=https://h:1,a=https://h:2,b=https://h:3",
            "--initial-cluster: b is in the list twice: give each member a name and one URL of its own",
        ),
        (
            "--initial-cluster=b=https://h:1,a=https://h:1",
            "--initial-cluster: b and a have the same URL https://h:1: each needs its own",
        ),
        (
            "--initial-cluster=b=https://h:1,a=http://h:2",
            "--initial-cluster: a=http://h:2: sites talk to each other over TLS only: write https://",
        ),
        (
            "--initial-cluster=b=https://h:1,a=https://h:port",
            "--initial-cluster: a=https://h:port: write https://host:port",
        ),
        (
            "--initial-cluster=b=https://h:1,a",
            "--initial-cluster: `a` is no member: write name=https://host:port, commas between",
        ),
        (
            "--initial-cluster-state=old",
            "--initial-cluster-state: `old` is neither new nor existing",
        ),
        (
            "--peer-via=z=127.0.0.1:1",
            "--peer-via: z is no other member: the list names a, b, c",
        ),
        (
            "--initial-advertise-peer-urls=https://h9:1",
            "--initial-advertise-peer-urls: https://h9:1 differs from https://h2:2380 in --initial-cluster: write \
             the same URL, or leave it out",
        ),
    ];
    for (word, expected) in cases {
        assert_eq!(three(&[word]).unwrap_err(), expected);
    }
    let eight: Vec<String> = (0..8).map(|at| format!("b{at}=https://h:{at}")).collect();
    let eight = format!("--initial-cluster=b=https://h:9,{}", eight.join(","));
    assert!(
        three(&[&eight])
            .unwrap_err()
            .contains("more than the limit of 7")
    );
}

#[test]
fn sites_without_certificates_for_links_are_refused() {
    let list = "--initial-cluster=b=https://h:1,a=https://h:2";
    let text = refusal(&["--name=b", list]);
    assert_eq!(
        text,
        "--initial-cluster names other sites, and sites talk over TLS only: add --peer-cert-file (`holm up --sites \
         3` makes all of this by itself)"
    );
    let text = refusal(&["--name=b", list, "--peer-cert-file=/nowhere/b.pem"]);
    assert_eq!(text, "--peer-cert-file: there is no file /nowhere/b.pem");
}

#[test]
fn what_sites_make_by_themselves_is_refused_and_the_rest_is_passed_on() {
    let base = |words: &[&str]| {
        SitesBase::load(&flags(words), Environment::default()).map_err(|error| error.to_string())
    };
    let text = base(&["--sites=3", "--site=a"]).unwrap_err();
    assert!(text.starts_with("--site: --sites makes this"), "{text}");
    let text = base(&["--sites=3", "--name=x"]).unwrap_err();
    assert_eq!(
        text,
        "--name: --sites makes this for each site by itself: leave it out"
    );
    let text = base(&["--sites=3", "--listen=0.0.0.0:1"]).unwrap_err();
    assert!(
        text.starts_with("--listen: 0.0.0.0:1: every site"),
        "{text}"
    );
    assert!(!base(&["--sites=3"]).unwrap().is_said);
    let words = [
        "--sites=3",
        "--data-dir=d",
        "--listen=127.0.0.1:0",
        "--max-txn-ops=9",
    ];
    assert!(base(&words).unwrap().is_said);
    assert_eq!(SitesBase::passed_on(&flags(&words)), ["--max-txn-ops=9"]);
}

#[test]
fn a_node_is_a_site_by_itself_unless_it_says_of_which_it_is() {
    let config = load(&["--name=a1"], &[], "").unwrap();
    assert_eq!(config.site, "a1");
    let config = load(&["--name=a1", "--site=a"], &[], "").unwrap();
    assert_eq!((config.name.as_str(), config.site.as_str()), ("a1", "a"));
}

#[test]
fn every_setting_has_its_own_names() {
    let mut names: Vec<&str> = settings::WITHOUT_MEANING.to_vec();
    for setting in settings::SETTINGS {
        names.push(setting.name);
        names.extend(setting.aliases);
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn called_as_etcd_the_folder_and_the_log_are_as_there() {
    let flags = flags(&["--name=n1", "--log-format=text"]);
    let config = Config::load(Calling::Etcd, &flags, Environment::default()).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("n1.etcd"));
    assert_eq!(config.console, None);
    assert_eq!(config.log.format, LogFormat::Text);
    let config = Config::load(Calling::Etcd, &self::flags(&[]), Environment::default()).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn yaml_is_refused_by_name() {
    let flags = flags(&["--config=etcd.yaml"]);
    let error = Config::load(Calling::Holm, &flags, Environment::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "etcd.yaml:1: this is etcd's YAML: holm reads TOML with the same keys"
    );
}
