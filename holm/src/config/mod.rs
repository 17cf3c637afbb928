//! A node's configuration: what was said in flags, variables and a file, made into checked values.
//!
//! A flag wins over a variable, a variable over the file, the file over the default. Each complaint names the place
//! that the value came from, the file with its line.

mod cluster;
mod flags;
mod layer;
mod settings;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use holm_net::CertificateFiles;
use holm_runtime::RecordingConfig;
use holm_telemetry::LogConfig;

pub(crate) use cluster::{Cluster, Member, PeerTls, place};
pub(crate) use flags::Flags;
use layer::Said;
pub(crate) use layer::{Layer, Source};
use value::Address;

use crate::join::{Kept, SiteFolder, Wish};
use crate::up::Calling;

/// etcd's default, which its 0 means too.
const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;
const ELECTION_TIMEOUT_MAX: Duration = Duration::from_secs(50);
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Requests above this would not fit beside others into the log's queue.
const REQUEST_BYTES_MAX: u64 = 64 << 20;
/// Below this a recording would hold little more than its beginning.
const RECORD_BYTES_MIN: u64 = 1 << 20;

/// How much history compaction leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retention {
    /// All of it.
    Everything,
    /// What is younger.
    Time(Duration),
    /// So many revisions.
    Revisions(u64),
}

/// Where a listener's certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Plain TCP, on loopback only.
    Off,
    /// The operator's files.
    Files(CertificateFiles),
    /// One that the node makes and signs itself.
    SelfMade,
}

/// Everything a node needs to know to start.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where the data lie.
    pub(crate) data_dir: PathBuf,
    /// The node's name.
    pub(crate) name: String,
    /// The site that it is of; its name if nobody says.
    pub(crate) site: String,
    /// Where clients connect; at least one.
    pub(crate) listen: Vec<SocketAddr>,
    /// Where sites will connect.
    pub(crate) peer: SocketAddr,
    /// Where the console is.
    pub(crate) console: Option<SocketAddr>,
    /// Where streams are served.
    pub(crate) streams: Option<SocketAddr>,
    /// What clients are told.
    pub(crate) client_urls: Vec<String>,
    /// What sites are told.
    pub(crate) peer_urls: Vec<String>,
    /// The cluster that the node belongs to; none if it is alone.
    pub(crate) cluster: Option<Cluster>,
    /// What was said about a cluster whose sites join by tokens.
    pub(crate) wish: Wish,
    /// The clients' TLS.
    pub(crate) tls: Tls,
    /// Retained bytes above which writes are refused.
    pub(crate) quota_bytes: u64,
    /// The largest request.
    pub(crate) request_bytes_max: u64,
    /// Operations in one transaction.
    pub(crate) txn_ops_max: u64,
    /// Silence before a progress notification.
    pub(crate) progress_interval: Duration,
    /// How often a client may ping.
    pub(crate) keepalive_time_min: Duration,
    /// Silence before a client is pinged; zero never pings.
    pub(crate) keepalive_interval: Duration,
    /// How long a pinged client may take to answer.
    pub(crate) keepalive_timeout: Duration,
    /// How often a leader shows that it lives.
    pub(crate) heartbeat: Duration,
    /// How long without a leader before an election.
    pub(crate) election_timeout: Duration,
    /// What automatic compaction keeps.
    pub(crate) retention: Retention,
    /// How logins are remembered, as etcd spells it.
    pub(crate) auth_token: String,
    /// How long a simple login lives that nobody uses.
    pub(crate) auth_token_ttl: Duration,
    /// What is logged.
    pub(crate) log: LogConfig,
    /// Where this run is recorded, if it is.
    pub(crate) record: Option<RecordingConfig>,
    /// What was said and has no effect, for the log.
    pub(crate) remarks: Vec<String>,
}

impl Config {
    /// Makes the configuration of flags and variables, and of the file that they name.
    ///
    /// # Errors
    ///
    /// The first value that makes no sense, with its place; a file that cannot be read, with its line.
    pub(crate) fn load(
        calling: Calling,
        flags: &Flags,
        environment: Environment,
    ) -> anyhow::Result<Self> {
        let unknown = environment.unknown.clone();
        let mut values = Values::gather(calling, flags, environment)?;
        let kept = values.add_kept()?;
        let mut config = Self::resolve(&values, kept)?;
        let is_wished = config.wish.found.is_some() || config.wish.join.is_some();
        if config.cluster.is_none() && !is_wished {
            config.remarks.extend(cluster::remarks(&values));
        }
        for name in unknown {
            config
                .remarks
                .push(format!("variable {name} names no setting and is ignored"));
        }
        for (name, text) in &flags.without_meaning {
            config.remarks.push(format!(
                "--{name}={text} has no meaning here and is ignored"
            ));
        }
        Ok(config)
    }

    /// The site has founded or joined its cluster just now.
    pub(crate) fn take_up(&mut self, kept: Kept) -> anyhow::Result<()> {
        self.cluster = Some(kept.as_cluster(&self.data_dir)?);
        self.wish.kept = Some(kept);
        Ok(())
    }

    fn resolve(values: &Values, kept: Option<Kept>) -> anyhow::Result<Self> {
        let listen = values.read_with("listen", value::addresses)?;
        let peer = values.read_with("peer", value::address)?;
        let console = values.read_with("console", value::optional_address)?;
        let streams = values.read_with("streams-listen", value::optional_address)?;
        let tls = tls(values)?;
        for address in listen.iter().chain(&console) {
            check_listener(address, &tls)?;
        }
        let scheme = if tls == Tls::Off { "http" } else { "https" };
        let client_urls = values.urls("advertise-client-urls", scheme, &listen)?;
        let name = values.read_with("name", value::name)?;
        let site = site(values, &name)?;
        let data_dir = PathBuf::from(values.text("data-dir").text);
        let wish = cluster::wish(values, kept)?;
        let cluster = match &wish.kept {
            Some(kept) => {
                check_kept(values, kept, (&name, peer.socket))?;
                Some(kept.as_cluster(&data_dir)?)
            }
            None => Cluster::of(values, &name)?,
        };
        let peer_urls = match &cluster {
            Some(cluster) if cluster.site.is_some() => vec![cluster.own().url.clone()],
            Some(cluster) => advertised(values, cluster.own())?,
            None if wish.found.is_some() || wish.join.is_some() => {
                vec![cluster::own_url(values, peer.socket)?]
            }
            None => values.urls("initial-advertise-peer-urls", scheme, &[peer])?,
        };
        let quota_bytes =
            match values.read_with("quota-backend-bytes", crate::quantity::parse_bytes)? {
                0 => QUOTA_BYTES_DEFAULT,
                bytes => bytes,
            };
        let heartbeat = values.read_with("heartbeat-interval", value::milliseconds)?;
        let election_timeout = values.read_with("election-timeout", value::milliseconds)?;
        let config = Self {
            data_dir,
            name,
            site,
            listen: sockets(&listen),
            peer: peer.socket,
            console: console.map(|address| address.socket),
            streams: streams.map(|address| address.socket),
            client_urls,
            peer_urls,
            cluster,
            wish,
            tls,
            quota_bytes,
            request_bytes_max: values
                .read_with("max-request-bytes", crate::quantity::parse_bytes)?,
            txn_ops_max: values.read_with("max-txn-ops", value::count)?,
            progress_interval: values
                .read_with("watch-progress-notify-interval", value::seconds)?,
            keepalive_time_min: values.read_with("grpc-keepalive-min-time", value::seconds)?,
            keepalive_interval: values.read_with("grpc-keepalive-interval", value::seconds)?,
            keepalive_timeout: values.read_with("grpc-keepalive-timeout", value::seconds)?,
            heartbeat,
            election_timeout,
            retention: retention(values)?,
            auth_token: values.read_with("auth-token", value::auth_token)?,
            auth_token_ttl: values.read_with("auth-token-ttl", value::seconds)?,
            log: log(values)?,
            record: record(values)?,
            remarks: Vec::new(),
        };
        config.check(values)?;
        Ok(config)
    }

    /// What no value shows alone.
    fn check(&self, values: &Values) -> anyhow::Result<()> {
        let (heartbeat, election) = (
            self.heartbeat.as_millis(),
            self.election_timeout.as_millis(),
        );
        if heartbeat == 0 || election < heartbeat * 5 {
            bail!(
                "{}: {election} ms is less than five heartbeats of {heartbeat} ms: raise \
                 --election-timeout or lower --heartbeat-interval",
                values.text("election-timeout").source
            );
        }
        if self.election_timeout > ELECTION_TIMEOUT_MAX {
            let source = values.text("election-timeout").source;
            bail!("{source}: {election} ms is above the limit of 50 s");
        }
        if self.request_bytes_max == 0 || self.request_bytes_max > REQUEST_BYTES_MAX {
            let source = values.text("max-request-bytes").source;
            bail!("{source}: requests may have 1 byte to 64 MiB");
        }
        if self.progress_interval < PROGRESS_INTERVAL_MIN {
            let source = values.text("watch-progress-notify-interval").source;
            bail!("{source}: the interval must be at least 100ms");
        }
        Ok(())
    }
}

/// The site that the node of this name is of.
fn site(values: &Values, name: &str) -> anyhow::Result<String> {
    match values.given("site") {
        Some(_said) => values.read_with("site", value::name),
        None => Ok(name.to_owned()),
    }
}

fn record(values: &Values) -> anyhow::Result<Option<RecordingConfig>> {
    let bytes_max = values.read_with("record-bytes", crate::quantity::parse_bytes)?;
    if bytes_max < RECORD_BYTES_MIN {
        let source = values.text("record-bytes").source;
        bail!("{source}: a recording needs room for 1 MiB at least");
    }
    let place = values.given("record").map(|said| PathBuf::from(said.text));
    Ok(place.map(|place| RecordingConfig { place, bytes_max }))
}

/// What was said, with the defaults behind it.
#[derive(Debug)]
struct Values {
    said: Layer,
}

impl Values {
    /// What flags, variables and the file that they name say, the stronger above the weaker.
    fn gather(calling: Calling, flags: &Flags, environment: Environment) -> anyhow::Result<Self> {
        let mut said = match flags.config.clone().or(environment.file) {
            Some(path) => layer::from_file(&PathBuf::from(path))?,
            None => Layer::new(),
        };
        said.extend(environment.layer);
        said.extend(flags.layer.clone());
        if calling == Calling::Etcd {
            add_etcds_defaults(&mut said);
        }
        Ok(Self { said })
    }

    /// Puts what the data directory keeps beneath what was said.
    fn add_kept(&mut self) -> anyhow::Result<Option<Kept>> {
        let data_dir = PathBuf::from(self.text("data-dir").text);
        let Some(kept) = Kept::read(&data_dir)? else {
            return Ok(None);
        };
        let path = SiteFolder::of(&data_dir).membership();
        for name in cluster::KEPT {
            let text = kept.settings.get(name).cloned();
            if let Some(text) = text.or_else(|| (name == "name").then(|| kept.name.clone())) {
                let source = Source::Kept(path.clone());
                self.said.entry(name).or_insert(Said { text, source });
            }
        }
        Ok(Some(kept))
    }

    fn text(&self, name: &'static str) -> Said {
        self.said.get(name).cloned().unwrap_or_else(|| {
            let setting = settings::find(name).expect("only settings of the table are asked for");
            Said {
                text: setting.default.to_owned(),
                source: Source::Default(setting.name),
            }
        })
    }

    fn given(&self, name: &'static str) -> Option<Said> {
        Some(self.text(name)).filter(|said| !said.text.is_empty())
    }

    fn read_with<T>(
        &self,
        name: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> anyhow::Result<T> {
        let said = self.text(name);
        read(&said.text).map_err(|hint| anyhow::anyhow!("{}: {hint}", said.source))
    }

    fn is_on(&self, name: &'static str) -> anyhow::Result<bool> {
        self.given(name)
            .map_or(Ok(false), |_said| self.read_with(name, value::truth))
    }

    fn urls(
        &self,
        name: &'static str,
        scheme: &str,
        listeners: &[Address],
    ) -> anyhow::Result<Vec<String>> {
        match self.given(name) {
            Some(_said) => self.read_with(name, value::urls),
            None => Ok(listeners
                .iter()
                .map(|at| format!("{scheme}://{}", at.socket))
                .collect()),
        }
    }
}

fn sockets(addresses: &[Address]) -> Vec<SocketAddr> {
    addresses.iter().map(|address| address.socket).collect()
}

fn tls(values: &Values) -> anyhow::Result<Tls> {
    let path = |name| values.given(name).map(|said| PathBuf::from(said.text));
    let name_users = values.is_on("client-cert-auth")?;
    let trusted_authorities = path("trusted-ca-file");
    match (path("cert-file"), path("key-file")) {
        (Some(certificate), Some(key)) => {
            if name_users && trusted_authorities.is_none() {
                bail!("--client-cert-auth needs --trusted-ca-file: whose certificates to believe");
            }
            let client_certificates_name_users = name_users;
            Ok(Tls::Files(CertificateFiles {
                certificate,
                key,
                trusted_authorities,
                client_certificates_name_users,
            }))
        }
        (Some(_), None) => bail!("--cert-file needs --key-file beside it"),
        (None, Some(_)) => bail!("--key-file needs --cert-file beside it"),
        (None, None) if name_users || trusted_authorities.is_some() => {
            bail!("--client-cert-auth and --trusted-ca-file need --cert-file and --key-file")
        }
        (None, None) if values.is_on("auto-tls")? => Ok(Tls::SelfMade),
        (None, None) => Ok(Tls::Off),
    }
}

fn check_listener(address: &Address, tls: &Tls) -> anyhow::Result<()> {
    let socket = address.socket;
    if *tls == Tls::Off && !socket.ip().is_loopback() {
        bail!(
            "listener {socket} is not loopback and has no TLS: add --cert-file and --key-file, or \
             listen on 127.0.0.1"
        );
    }
    if *tls == Tls::Off && address.demands_tls == Some(true) {
        bail!("listener {socket} is an https URL: add --cert-file and --key-file");
    }
    Ok(())
}

fn log(values: &Values) -> anyhow::Result<LogConfig> {
    Ok(LogConfig {
        level: values.text("log-level").text,
        format: values.read_with("log-format", value::log_format)?,
    })
}

fn retention(values: &Values) -> anyhow::Result<Retention> {
    let said = values.text("auto-compaction-mode");
    match said.text.as_str() {
        "periodic" => {
            let time = values.read_with("auto-compaction-retention", value::hours)?;
            Ok(if time.is_zero() {
                Retention::Everything
            } else {
                Retention::Time(time)
            })
        }
        "revision" => match values.read_with("auto-compaction-retention", value::whole)? {
            0 => Ok(Retention::Everything),
            revisions => Ok(Retention::Revisions(revisions)),
        },
        other => bail!(
            "{}: `{other}` is neither periodic nor revision",
            said.source
        ),
    }
}

/// A site's name and address are what its certificate and the members say.
fn check_kept(
    values: &Values,
    kept: &Kept,
    (name, peer): (&str, SocketAddr),
) -> anyhow::Result<()> {
    if name != kept.name {
        bail!(
            "{}: this data directory is that of site {}, and the flag says {name}: leave it out, or choose another \
             --data-dir",
            values.text("name").source,
            kept.name
        );
    }
    let (url, told) = (cluster::own_url(values, peer)?, kept.url()?);
    if url != told {
        bail!(
            "{}: the other sites reach this one at {told}, and now it would be at {url}: use the same address, or let \
             it listen elsewhere with --peer and say --initial-advertise-peer-urls {told}",
            values.text("peer").source
        );
    }
    Ok(())
}

/// What other sites are told: what the list of members says of this one, and nothing else.
fn advertised(values: &Values, own: &Member) -> anyhow::Result<Vec<String>> {
    if let Some(said) = values.given("initial-advertise-peer-urls") {
        let urls = values.read_with("initial-advertise-peer-urls", value::urls)?;
        if urls != [own.url.as_str()] {
            bail!(
                "{}: {} differs from {} in --initial-cluster: write the same URL, or leave it out",
                said.source,
                urls.join(","),
                own.url
            );
        }
    }
    Ok(vec![own.url.clone()])
}

/// What a script that starts etcd expects where it says nothing.
fn add_etcds_defaults(said: &mut Layer) {
    let name = said
        .get("name")
        .map_or("default", |name| name.text.as_str())
        .to_owned();
    let defaults = [
        ("data-dir", format!("{name}.etcd")),
        ("console", "none".to_owned()),
        ("log-format", "json".to_owned()),
    ];
    for (name, text) in defaults {
        said.entry(name).or_insert(Said {
            text,
            source: Source::Default(name),
        });
    }
}

/// Where the sites of one machine begin: their folder, and the addresses of the first.
#[derive(Clone, Debug)]
pub(crate) struct SitesBase {
    /// The folder of all sites.
    pub(crate) data_dir: PathBuf,
    /// Where etcd clients reach the first site.
    pub(crate) listen: SocketAddr,
    /// Where the others reach it.
    pub(crate) peer: SocketAddr,
    /// Where its console is.
    pub(crate) console: SocketAddr,
    /// Where it serves streams, if sites do.
    pub(crate) streams: Option<SocketAddr>,
    /// Whether anybody said one of the addresses that are kept.
    pub(crate) is_said: bool,
}

/// Settings that `--sites` makes for each site by itself, beside [`cluster::BY_HAND`].
const MADE_FOR_SITES: &[&str] = &[
    "name",
    "site",
    "advertise-client-urls",
    "initial-advertise-peer-urls",
    "cluster",
    "from-snapshot",
    "join",
];

/// Settings that each site gets its own of, counted up from what is said.
const COUNTED_FOR_SITES: &[&str] = &["data-dir", "listen", "peer", "console", STREAMS];
const STREAMS: &str = "streams-listen";

impl SitesBase {
    /// Reads where the sites begin.
    ///
    /// # Errors
    ///
    /// An address that is none or not on loopback, and what `--sites` makes by itself.
    pub(crate) fn load(flags: &Flags, environment: Environment) -> anyhow::Result<Self> {
        let values = Values::gather(Calling::Holm, flags, environment)?;
        let made = MADE_FOR_SITES.iter().chain(&cluster::BY_HAND);
        if let Some(said) = made.copied().find_map(|name| values.said.get(name)) {
            bail!(
                "{}: --sites makes this for each site by itself: leave it out",
                said.source
            );
        }
        let mut addresses = Vec::new();
        for name in ["listen", "peer", "console"] {
            let hint = "every site of --sites has one such address, on 127.0.0.1";
            let said = values.text(name);
            let address = values.read_with(name, value::address)?;
            let loopback = address.socket.ip().is_loopback();
            anyhow::ensure!(loopback, "{}: {}: {hint}", said.source, said.text);
            addresses.push(address.socket);
        }
        let streams = values.read_with(STREAMS, value::optional_address)?;
        Ok(Self {
            data_dir: PathBuf::from(values.text("data-dir").text),
            listen: addresses[0],
            peer: addresses[1],
            console: addresses[2],
            streams: streams.map(|it| it.socket),
            is_said: ["listen", "peer", "console"]
                .iter()
                .any(|name| values.said.contains_key(name)),
        })
    }

    /// The flags that every site is given as they were said here.
    pub(crate) fn passed_on(flags: &Flags) -> Vec<String> {
        let config = flags.config.iter().map(|path| format!("--config={path}"));
        let said = flags.layer.iter();
        let said = said.filter(|(name, _said)| !COUNTED_FOR_SITES.contains(name));
        config
            .chain(said.map(|(name, said)| format!("--{name}={}", said.text)))
            .collect()
    }
}

/// What the environment says about a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// The settings among the variables.
    pub(crate) layer: Layer,
    /// Variables with our prefix that are no settings.
    pub(crate) unknown: Vec<String>,
    /// The file of settings.
    pub(crate) file: Option<String>,
}

impl Environment {
    /// Reads the process's environment.
    pub(crate) fn of_process(calling: Calling) -> Self {
        let prefix = calling.prefix();
        let (layer, unknown) = layer::from_environment(prefix, std::env::vars());
        let file = ["CONFIG", "CONFIG_FILE"]
            .iter()
            .find_map(|name| std::env::var(format!("{prefix}{name}")).ok());
        Self {
            layer,
            unknown,
            file,
        }
    }
}

#[cfg(test)]
mod tests;
