//! Every setting of a node: one row gives its flag, its variable, its key in the file, its default and its help.
//!
//! The names are etcd's wherever etcd has the setting, so that what people know and what their scripts say keeps
//! working.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// `data-dir` is the flag `--data-dir`, the variable `HOLM_DATA_DIR` and the key `data-dir`.
    pub(crate) name: &'static str,
    /// Other flags, variables and keys for the same thing.
    pub(crate) aliases: &'static [&'static str],
    /// What to call the value in help; empty for a switch.
    pub(crate) value: &'static str,
    /// What holds where nobody says anything; empty where help explains it.
    pub(crate) default: &'static str,
    /// The group in help.
    pub(crate) heading: &'static str,
    /// What it does, with the unit; empty for one that only our own processes tell each other.
    pub(crate) help: &'static str,
}

const ROW: Setting = Setting {
    name: "",
    aliases: &[],
    value: "",
    default: "",
    heading: "",
    help: "",
};

const NODE: &str = "Node";
const LISTENERS: &str = "Listeners";
const CLUSTER: &str = "Cluster";
const TLS: &str = "TLS";
const LIMITS: &str = "Limits";
const UPKEEP: &str = "Upkeep";
const LOG: &str = "Log";

/// All settings, in the order of help.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        name: "data-dir",
        value: "FOLDER",
        default: "holm.data",
        heading: NODE,
        help: "Where the data lie; made if it is not there, used by one process at a time",
        ..ROW
    },
    Setting {
        name: "name",
        value: "NAME",
        default: "default",
        heading: NODE,
        help: "What this node is called in the member list",
        ..ROW
    },
    Setting {
        name: "site",
        value: "NAME",
        heading: NODE,
        help: "The site that this node is of, the same at each of a site's nodes: together they are one island of a \
               local-first keyspace [default: the node's name, a site by itself]",
        ..ROW
    },
    Setting {
        name: "listen",
        aliases: &["listen-client-urls"],
        value: "ADDRESS",
        default: "127.0.0.1:2379",
        heading: LISTENERS,
        help: "Where etcd clients connect, host:port or a URL; several with commas. gRPC, the JSON \
               gateway, /health and /metrics. Off loopback this needs TLS",
    },
    Setting {
        name: "peer",
        aliases: &["listen-peer-urls"],
        value: "ADDRESS",
        default: "127.0.0.1:2380",
        heading: LISTENERS,
        help: "Where other sites connect. Nothing listens here for a node alone; the address is \
               checked and shown in the member list",
    },
    Setting {
        name: "console",
        aliases: &["listen-metrics-urls"],
        value: "ADDRESS",
        default: "127.0.0.1:2381",
        heading: LISTENERS,
        help: "Where /health, /livez, /readyz, /version and /metrics are served apart from clients; \
               `none` closes it",
    },
    Setting {
        name: "streams-listen",
        value: "ADDRESS",
        default: "none",
        heading: LISTENERS,
        help: "Run streams, and serve them here: `holm stream create` makes them, their page is at /. On loopback \
               alone; 127.0.0.1:2385 is where the commands look. With --sites the next site's port is 100 higher",
        ..ROW
    },
    Setting {
        name: "advertise-client-urls",
        value: "URLS",
        heading: LISTENERS,
        help: "What clients are told to connect to [default: the addresses of --listen]",
        ..ROW
    },
    Setting {
        name: "initial-advertise-peer-urls",
        value: "URLS",
        heading: LISTENERS,
        help: "What other sites are told to connect to [default: the address of --peer]",
        ..ROW
    },
    Setting {
        name: "cluster",
        value: "NAME",
        heading: CLUSTER,
        help: "Found a cluster of this name, which other sites join with a token of `holm site add`; this site \
               makes and keeps the cluster's authority",
        ..ROW
    },
    Setting {
        name: "from-snapshot",
        value: "FILE",
        heading: CLUSTER,
        help: "With --cluster: found it with what this file holds, of `holm snapshot save` or etcd's, in a data \
               directory that is empty or missing; once founded, of no account",
        ..ROW
    },
    Setting {
        name: "join",
        value: "TOKEN",
        heading: CLUSTER,
        help: "Join the cluster that the token is of, as --name at --peer; once joined, neither is needed again",
        ..ROW
    },
    Setting {
        name: "peer-cert-ttl",
        value: "TIME",
        default: "720h",
        heading: CLUSTER,
        help: "How long the certificates are good that this site signs, for itself and for others; each is renewed \
               when a third of its time is left, without a pause. 5s to 8760h",
        ..ROW
    },
    Setting {
        name: "initial-cluster",
        value: "NAME=URL,...",
        heading: CLUSTER,
        help: "All sites that the cluster begins with, this one among them, each with the https URL \
               that the others reach it at; one alone is a node alone",
        ..ROW
    },
    Setting {
        name: "initial-cluster-state",
        value: "STATE",
        default: "new",
        heading: CLUSTER,
        help: "`new` founds the cluster, `existing` joins one that is there already",
        ..ROW
    },
    Setting {
        name: "initial-cluster-token",
        value: "TOKEN",
        default: "holm-cluster",
        heading: CLUSTER,
        help: "Tells clusters with the same names and URLs apart; the same at all sites",
        ..ROW
    },
    Setting {
        name: "peer-cert-file",
        value: "FILE",
        heading: CLUSTER,
        help: "This site's certificate for links between sites and its chain, PEM; a replaced file \
               is taken up while running",
        ..ROW
    },
    Setting {
        name: "peer-key-file",
        value: "FILE",
        heading: CLUSTER,
        help: "That certificate's private key, PEM",
        ..ROW
    },
    Setting {
        name: "peer-trusted-ca-file",
        value: "FILE",
        heading: CLUSTER,
        help: "Who signs the sites' certificates, PEM",
        ..ROW
    },
    Setting {
        name: "peer-via",
        value: "NAME=ADDRESS,...",
        heading: CLUSTER,
        ..ROW
    },
    Setting {
        name: "cert-file",
        value: "FILE",
        heading: TLS,
        help: "This node's certificate and its chain, PEM; a replaced file is taken up while running",
        ..ROW
    },
    Setting {
        name: "key-file",
        value: "FILE",
        heading: TLS,
        help: "The certificate's private key, PEM",
        ..ROW
    },
    Setting {
        name: "trusted-ca-file",
        value: "FILE",
        heading: TLS,
        help: "Who signs clients' certificates, PEM; every client must then show one",
        ..ROW
    },
    Setting {
        name: "client-cert-auth",
        heading: TLS,
        help: "A client's certificate names its user by the common name; needs --trusted-ca-file",
        ..ROW
    },
    Setting {
        name: "auto-tls",
        heading: TLS,
        help: "Make a certificate that signs itself, kept in the data directory; for trying things out",
        ..ROW
    },
    Setting {
        name: "quota-backend-bytes",
        value: "BYTES",
        default: "2GiB",
        heading: LIMITS,
        help: "Retained bytes above which writes are refused until something is deleted or compacted; \
               0 is the default",
        ..ROW
    },
    Setting {
        name: "max-request-bytes",
        value: "BYTES",
        default: "1536KiB",
        heading: LIMITS,
        help: "The largest request",
        ..ROW
    },
    Setting {
        name: "max-txn-ops",
        value: "N",
        default: "128",
        heading: LIMITS,
        help: "Operations in one transaction",
        ..ROW
    },
    Setting {
        name: "watch-progress-notify-interval",
        aliases: &["experimental-watch-progress-notify-interval"],
        value: "TIME",
        default: "10m",
        heading: LIMITS,
        help: "How long a watch that asked for it stays silent before it is told the revision; at \
               least 100ms",
    },
    Setting {
        name: "grpc-keepalive-min-time",
        value: "TIME",
        default: "5s",
        heading: LIMITS,
        help: "A client that pings more often, three times with no answer in between, is \
               disconnected with `too_many_pings`",
        ..ROW
    },
    Setting {
        name: "grpc-keepalive-interval",
        value: "TIME",
        default: "2h",
        heading: LIMITS,
        help: "How long a client may be silent before it is pinged; 0 never pings",
        ..ROW
    },
    Setting {
        name: "grpc-keepalive-timeout",
        value: "TIME",
        default: "20s",
        heading: LIMITS,
        help: "How long a pinged client may take to answer before it is disconnected",
        ..ROW
    },
    Setting {
        name: "heartbeat-interval",
        value: "TIME",
        default: "100ms",
        heading: LIMITS,
        help: "How often a leader shows that it lives; a bare number is milliseconds",
        ..ROW
    },
    Setting {
        name: "election-timeout",
        value: "TIME",
        default: "1000ms",
        heading: LIMITS,
        help: "How long without a leader before an election; the least lease is one and a half of it, \
               a request may take 5 s and two of it. At least five heartbeats, at most 50s",
        ..ROW
    },
    Setting {
        name: "auto-compaction-mode",
        value: "MODE",
        default: "periodic",
        heading: UPKEEP,
        help: "`periodic` keeps the history of a time, `revision` keeps a number of revisions",
        ..ROW
    },
    Setting {
        name: "auto-compaction-retention",
        value: "AMOUNT",
        default: "0",
        heading: UPKEEP,
        help: "How much history to keep: a time such as 1h (a bare number is hours) or a number of \
               revisions; 0 keeps all until somebody compacts",
        ..ROW
    },
    Setting {
        name: "auth-token",
        value: "SPEC",
        default: "simple",
        heading: UPKEEP,
        help: "How logins are remembered: `simple`, or \
               `jwt,sign-method=RS256,pub-key=FILE,priv-key=FILE,ttl=5m`",
        ..ROW
    },
    Setting {
        name: "auth-token-ttl",
        value: "TIME",
        default: "300s",
        heading: UPKEEP,
        help: "How long a login of `simple` lives that nobody uses",
        ..ROW
    },
    Setting {
        name: "log-level",
        value: "LEVEL",
        default: "info",
        heading: LOG,
        help: "debug, info, warn or error, or a filter such as `info,holm_net=debug`",
        ..ROW
    },
    Setting {
        name: "log-format",
        value: "FORMAT",
        default: "text",
        heading: LOG,
        help: "`text` for people, `json` with etcd's keys, one object a line",
        ..ROW
    },
    Setting {
        name: "record",
        value: "FOLDER",
        heading: LOG,
        help: "Record what the replicated log of this run is told, in a file of its own in this folder, for \
               `holm rehearse --recorded`; a site alone has none",
        ..ROW
    },
    Setting {
        name: "record-bytes",
        value: "SIZE",
        default: "256MiB",
        heading: LOG,
        help: "How large a recording may become; then it ends, and the site goes on",
        ..ROW
    },
];

/// Settings of etcd that mean nothing here: accepted when called as `etcd`, and logged.
pub(crate) const WITHOUT_MEANING: &[&str] = &[
    "auto-compaction-batch-limit",
    "backend-batch-interval",
    "backend-batch-limit",
    "backend-bbolt-freelist-type",
    "bcrypt-cost",
    "cipher-suites",
    "client-crl-file",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "corrupt-check-time",
    "enable-grpc-gateway",
    "enable-pprof",
    "enable-v2",
    "experimental-compaction-batch-limit",
    "experimental-corrupt-check-time",
    "experimental-enable-distributed-tracing",
    "experimental-initial-corrupt-check",
    "experimental-memory-mlock",
    "feature-gates",
    "initial-corrupt-check",
    "initial-election-tick-advance",
    "listen-client-http-urls",
    "log-outputs",
    "logger",
    "max-concurrent-streams",
    "max-learners",
    "max-snapshots",
    "max-wals",
    "memory-mlock",
    "metrics",
    "peer-auto-tls",
    "peer-client-cert-auth",
    "pre-vote",
    "snapshot-count",
    "socket-reuse-address",
    "socket-reuse-port",
    "strict-reconfig-check",
    "tls-max-version",
    "tls-min-version",
    "unsafe-no-fsync",
    "wal-dir",
    "warning-apply-duration",
];

/// The setting of that name or alias.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS
        .iter()
        .find(|setting| setting.name == name || setting.aliases.contains(&name))
}
