//! Holm's own addition to the API: the service `holm.v1.Node`, on the clients' port.
//!
//! etcd's clients never call it, and its messages appear in none of theirs. A client of ours that
//! asks an etcd is told that there is no such method.
//!
//! Fields are numbered as protobuf has them; numbers are never used twice.

pub mod cache;

/// How a site stands in a local-first keyspace whose data are an older copy: it goes as a lost one alone.
pub const OLDER_COPY: &str = "older copy";

/// What [`NodeStatus`] is asked with: nothing yet.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct NodeStatusRequest {}

/// How a node and its keyspace are.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeStatus {
    /// The version of holm.
    #[prost(string, tag = "1")]
    pub version: String,
    /// The keyspace's name.
    #[prost(string, tag = "2")]
    pub keyspace: String,
    /// What it guarantees.
    #[prost(string, tag = "3")]
    pub guarantee: String,
    /// The cluster.
    #[prost(fixed64, tag = "4")]
    pub cluster: u64,
    /// The node.
    #[prost(fixed64, tag = "5")]
    pub node: u64,
    /// Whether it leads.
    #[prost(bool, tag = "6")]
    pub is_leader: bool,
    /// The newest term known.
    #[prost(uint64, tag = "7")]
    pub term: u64,
    /// The newest op applied.
    #[prost(uint64, tag = "8")]
    pub applied: u64,
    /// The newest revision.
    #[prost(int64, tag = "9")]
    pub revision: i64,
    /// The revision below which nothing can be read.
    #[prost(int64, tag = "10")]
    pub compacted: i64,
    /// Live keys.
    #[prost(uint64, tag = "11")]
    pub keys: u64,
    /// Old versions that can still be read.
    #[prost(uint64, tag = "12")]
    pub old_versions: u64,
    /// Bytes of records that are still needed.
    #[prost(uint64, tag = "13")]
    pub retained_bytes: u64,
    /// Bytes of the keyspace's files.
    #[prost(uint64, tag = "14")]
    pub file_bytes: u64,
    /// How many bytes may be retained.
    #[prost(uint64, tag = "15")]
    pub quota_bytes: u64,
    /// Bytes that wait for a flush.
    #[prost(uint64, tag = "16")]
    pub unflushed_bytes: u64,
    /// What the cleaner is at: `idle`, `copying`, `relinking`, `waiting`.
    #[prost(string, tag = "17")]
    pub cleaner: String,
    /// How many bytes a second it may copy; 0 while there is no limit.
    #[prost(uint64, tag = "18")]
    pub cleaner_bytes_per_second: u64,
    /// How long ago the newest checkpoint was finished; missing if that was in an earlier run.
    #[prost(uint64, optional, tag = "19")]
    pub checkpoint_age_ms: Option<u64>,
    /// How large it is; 0 if there is none yet.
    #[prost(uint64, tag = "20")]
    pub checkpoint_bytes: u64,
    /// Watchers.
    #[prost(uint64, tag = "21")]
    pub watchers: u64,
    /// Those that are behind.
    #[prost(uint64, tag = "22")]
    pub slow_watchers: u64,
    /// Leases.
    #[prost(uint64, tag = "23")]
    pub leases: u64,
    /// Raised alarms, by etcd's names.
    #[prost(string, repeated, tag = "24")]
    pub alarms: Vec<String>,
    /// How long the node has been running.
    #[prost(uint64, tag = "25")]
    pub uptime_ms: u64,
    /// Who leads; 0 if the node knows of nobody.
    #[prost(fixed64, tag = "26")]
    pub leader: u64,
    /// Whether it has no vote, or none yet.
    #[prost(bool, tag = "27")]
    pub is_learner: bool,
    /// What a node that is cut off says in all its answers; empty while there is a leader.
    #[prost(string, tag = "28")]
    pub island: String,
    /// What the node calls itself.
    #[prost(string, tag = "29")]
    pub name: String,
    /// Its part in the cluster: `leader`, `follower`, `candidate`, `recovering`; a node alone leads.
    #[prost(string, tag = "30")]
    pub role: String,
    /// Ops that it knows to be committed.
    #[prost(uint64, tag = "31")]
    pub committed: u64,
    /// Ops that survive a crash of this node.
    #[prost(uint64, tag = "32")]
    pub durable: u64,
    /// How many nodes vote; 0 for a node alone.
    #[prost(uint64, tag = "33")]
    pub voters: u64,
    /// Whether fewer nodes than a majority can be reached from here, this one included.
    #[prost(bool, tag = "34")]
    pub is_cut_off: bool,
    /// Its links to the others.
    #[prost(message, repeated, tag = "35")]
    pub links: Vec<NodeLink>,
    /// Its certificate for links; missing at a node alone.
    #[prost(message, optional, tag = "36")]
    pub certificate: Option<NodeCertificate>,
    /// Sites that may join and have not.
    #[prost(message, repeated, tag = "37")]
    pub invitations: Vec<Invitation>,
    /// The keyspaces that are open at the node, this one first.
    #[prost(message, repeated, tag = "38")]
    pub keyspaces: Vec<KeyspaceStatus>,
    /// How far the cluster's authority is replaced; missing while it is not.
    #[prost(message, optional, tag = "39")]
    pub replacement: Option<AuthorityReplacement>,
    /// The site that the node is of; another than its name where a site has several nodes. Empty in older releases.
    #[prost(string, tag = "40")]
    pub site: String,
}

/// How a keyspace is at a node.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyspaceStatus {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its newest revision.
    #[prost(int64, tag = "2")]
    pub revision: i64,
    /// Live keys.
    #[prost(uint64, tag = "3")]
    pub keys: u64,
    /// Bytes of records that are still needed.
    #[prost(uint64, tag = "4")]
    pub retained_bytes: u64,
    /// Bytes of its files.
    #[prost(uint64, tag = "5")]
    pub file_bytes: u64,
    /// Who leads it; 0 if the node knows of nobody.
    #[prost(fixed64, tag = "6")]
    pub leader: u64,
    /// Where clients reach it at this node.
    #[prost(string, repeated, tag = "7")]
    pub addresses: Vec<String>,
    /// Raised alarms.
    #[prost(uint64, tag = "8")]
    pub alarms: u64,
    /// What it guarantees.
    #[prost(string, tag = "9")]
    pub guarantee: String,
    /// What the site has taken in, if the keyspace is local-first.
    #[prost(message, repeated, tag = "10")]
    pub vector: Vec<SlotSeq>,
    /// How many keys have concurrent writes of which one is shown.
    #[prost(uint64, tag = "11")]
    pub conflicts: u64,
    /// The keyspace's other sites, if it is local-first.
    #[prost(message, repeated, tag = "12")]
    pub islands: Vec<IslandStatus>,
    /// Why it is shut to clients of this site; empty if it is not.
    #[prost(string, tag = "13")]
    pub shut: String,
}

/// Up to which of a slot's updates a site has taken in all.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SlotSeq {
    /// The slot.
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    /// The number of the newest.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
}

/// How another site of a local-first keyspace is, as far as the one that was asked knows.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IslandStatus {
    /// The site.
    #[prost(fixed64, tag = "1")]
    pub node: u64,
    /// What it is called; empty if that is not known.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its slot.
    #[prost(uint32, tag = "3")]
    pub slot: u32,
    /// How long ago it last said something; missing if it has not since this site started.
    #[prost(uint64, optional, tag = "4")]
    pub silent_for_ms: Option<u64>,
    /// Whether that is too long ago.
    #[prost(bool, tag = "5")]
    pub is_cut: bool,
    /// What it said that it has taken in.
    #[prost(message, repeated, tag = "6")]
    pub vector: Vec<SlotSeq>,
}

/// A node's certificate for links.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct NodeCertificate {
    /// Until when it is good, in seconds since 1970.
    #[prost(uint64, tag = "1")]
    pub until: u64,
    /// Whether the node can sign others'.
    #[prost(bool, tag = "2")]
    pub is_authority: bool,
}

/// A site that may join.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Invitation {
    /// What it will be called.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Until when, in seconds since 1970.
    #[prost(uint64, tag = "2")]
    pub expires: u64,
}

/// Asks for a token with which a site may join.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SiteAddRequest {
    /// What the site will be called.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How long the token is good, in seconds.
    #[prost(uint64, tag = "2")]
    pub seconds: u64,
    /// Where the others will reach it; empty if it may say so itself.
    #[prost(string, tag = "3")]
    pub peer_url: String,
}

/// A token.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SiteAddResponse {
    /// The token: whoever has it can join, once.
    #[prost(string, tag = "1")]
    pub token: String,
    /// Until when, in seconds since 1970.
    #[prost(uint64, tag = "2")]
    pub expires: u64,
    /// Where the token says to ask.
    #[prost(string, repeated, tag = "3")]
    pub addresses: Vec<String>,
    /// Whether a member has that name already: it gets a new certificate and nothing else.
    #[prost(bool, tag = "4")]
    pub is_member: bool,
}

/// Asks for the cluster's authority.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SiteAuthorityRequest {}

/// Asks for the authority to be replaced, or for that to go on.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SiteAuthorityReplaceRequest {}

/// The cluster's authority.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SiteAuthorityResponse {
    /// SHA-256 of its certificate: of the one that is replaced, while one is.
    #[prost(bytes = "vec", tag = "1")]
    pub fingerprint: Vec<u8>,
    /// Until when it is good, in seconds since 1970.
    #[prost(uint64, tag = "2")]
    pub until: u64,
    /// All members.
    #[prost(message, repeated, tag = "3")]
    pub sites: Vec<AuthoritySite>,
    /// How far it is replaced; missing while it is not.
    #[prost(message, optional, tag = "4")]
    pub replacement: Option<AuthorityReplacement>,
}

/// What a member has of authorities.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AuthoritySite {
    /// The member.
    #[prost(fixed64, tag = "1")]
    pub node: u64,
    /// What it is called.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Whether it votes.
    #[prost(bool, tag = "3")]
    pub has_vote: bool,
    /// Whether it has told what follows.
    #[prost(bool, tag = "4")]
    pub has_reported: bool,
    /// The fingerprints of those that it trusts.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub trusts: Vec<Vec<u8>>,
    /// The fingerprint of the one that signed its certificate; empty if none of them did.
    #[prost(bytes = "vec", tag = "6")]
    pub signed_by: Vec<u8>,
    /// The fingerprint of the one that it can sign for; empty if it cannot.
    #[prost(bytes = "vec", tag = "7")]
    pub signs_for: Vec<u8>,
}

/// How far an authority is replaced.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AuthorityReplacement {
    /// SHA-256 of the next one's certificate.
    #[prost(bytes = "vec", tag = "1")]
    pub fingerprint: Vec<u8>,
    /// `trust`, `sign`, `drop` or `finish`.
    #[prost(string, tag = "2")]
    pub stage: String,
    /// The member that made it.
    #[prost(string, tag = "3")]
    pub by: String,
    /// For whom it waits.
    #[prost(message, repeated, tag = "4")]
    pub waits_for: Vec<AuthorityWait>,
    /// Whether its key was lost with the member that had it, so that another has to be made.
    #[prost(bool, tag = "5")]
    pub is_lost: bool,
}

/// A member for which a replacement waits.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AuthorityWait {
    /// The member.
    #[prost(fixed64, tag = "1")]
    pub node: u64,
    /// What it is called.
    #[prost(string, tag = "2")]
    pub name: String,
    /// What for.
    #[prost(string, tag = "3")]
    pub why: String,
}

/// A link to another node, as seen from the one that was asked.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeLink {
    /// The other node.
    #[prost(fixed64, tag = "1")]
    pub node: u64,
    /// What it is called.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Where it is dialled.
    #[prost(string, tag = "3")]
    pub address: String,
    /// Whether the link carries messages.
    #[prost(bool, tag = "4")]
    pub is_up: bool,
    /// For how long it has been so.
    #[prost(uint64, tag = "5")]
    pub for_ms: u64,
    /// A round trip; missing before the first.
    #[prost(uint64, optional, tag = "6")]
    pub round_trip_us: Option<u64>,
    /// Messages that were dropped because there was no connection or no room.
    #[prost(uint64, tag = "7")]
    pub dropped: u64,
    /// Why the last connection ended; empty if none did.
    #[prost(string, tag = "8")]
    pub error: String,
}

/// Asks for a keyspace to be created.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyspaceCreateRequest {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it shall guarantee; empty for `linearizable`.
    #[prost(string, tag = "2")]
    pub guarantee: String,
    /// The names of its sites; none for all that have a vote.
    #[prost(string, repeated, tag = "3")]
    pub sites: Vec<String>,
    /// Where it shall listen: `ADDRESS:PORT` at each site, or `SITE=ADDRESS:PORT`; none for a
    /// free port.
    #[prost(string, repeated, tag = "4")]
    pub listen: Vec<String>,
    /// In a local-first keyspace, what its values are: `lww`, `mv`, `set`, `counter`, `json`;
    /// empty for `lww`.
    #[prost(string, tag = "5")]
    pub merge: String,
    /// A JSON schema that says which lists of documents merge; empty for none.
    #[prost(string, tag = "6")]
    pub schema: String,
    /// In a local-first keyspace, who wins where one site writes a key and another deletes it:
    /// `add-wins` or `delete-wins`; empty for `add-wins`.
    #[prost(string, tag = "7")]
    pub exists: String,
    /// In a local-first keyspace, after how many milliseconds without a word a site is left out:
    /// 0 for never; a month if it is not said.
    #[prost(uint64, optional, tag = "8")]
    pub leave_out_after_ms: Option<u64>,
}

/// Asks for one keyspace, or for all.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyspaceListRequest {
    /// Its name; empty for all.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Asks for a keyspace to be removed, with all that is in it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyspaceRemoveRequest {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Asks for a site to be taken into a keyspace, or let go.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyspaceMemberRequest {
    /// The keyspace's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The site's name.
    #[prost(string, tag = "2")]
    pub site: String,
    /// Whether it is let go.
    #[prost(bool, tag = "3")]
    pub is_leaving: bool,
    /// Of a local-first keyspace, whether it is let go without being asked: it is lost.
    #[prost(bool, tag = "4")]
    pub is_lost: bool,
}

/// Asks a site that was left out of a local-first keyspace what it would bring along, were it taken
/// in again.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReturnForetoldRequest {
    /// The keyspace's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The site's name: another is refused.
    #[prost(string, tag = "2")]
    pub site: String,
    /// Where the last answer ended; missing for the first.
    #[prost(message, optional, tag = "3")]
    pub from: Option<ForetoldPlace>,
}

/// Where a part of an answer begins.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ForetoldPlace {
    /// With this key, or the one behind it.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// So many writes of that key were told.
    #[prost(uint64, tag = "2")]
    pub told: u64,
}

/// A part of what a site would bring along.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReturnForetoldResponse {
    /// In order of keys, so many that fit; none does not mean that there are no more.
    #[prost(message, repeated, tag = "1")]
    pub writes: Vec<ForetoldWrite>,
    /// Where the next part begins; missing behind the last.
    #[prost(message, optional, tag = "2")]
    pub next: Option<ForetoldPlace>,
    /// How many updates the site made under the slot that it had.
    #[prost(uint64, tag = "3")]
    pub made: u64,
    /// How many of them count for the others: fewer than it made, or its data are an older copy.
    #[prost(uint64, tag = "4")]
    pub counted: u64,
    /// Whether the site came back before, and these data are a copy of before that.
    #[prost(bool, tag = "5")]
    pub was_back: bool,
}

/// A write that nobody else has.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ForetoldWrite {
    /// The key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// `put`, `add` (of additions the sum), `part` of a document, `delete`.
    #[prost(string, tag = "2")]
    pub kind: String,
    /// Which part of a document; empty for all others.
    #[prost(string, tag = "3")]
    pub path: String,
    /// The write.
    #[prost(message, optional, tag = "4")]
    pub write: Option<ConflictParty>,
    /// Whether it is made again; else it is told as left out.
    #[prost(bool, tag = "5")]
    pub is_made: bool,
}

/// Asks which concurrent writes met at this site in a local-first keyspace.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConflictsRequest {
    /// The keyspace's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Only those behind this number; missing for all that are kept.
    #[prost(uint64, optional, tag = "2")]
    pub after: Option<u64>,
}

/// Which concurrent writes met.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConflictsResponse {
    /// In order, so many that fit.
    #[prost(message, repeated, tag = "1")]
    pub conflicts: Vec<ConflictView>,
    /// Whether there are more.
    #[prost(bool, tag = "2")]
    pub has_more: bool,
    /// The number of the oldest that is kept: so many before it are gone.
    #[prost(uint64, tag = "3")]
    pub oldest: u64,
}

/// Writes that did not see each other and met at a key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConflictView {
    /// Its number at this site.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// The same at every site.
    #[prost(bytes = "vec", tag = "2")]
    pub id: Vec<u8>,
    /// What met: `concurrent_put`, `put_beat_delete`, ...
    #[prost(string, tag = "3")]
    pub kind: String,
    /// The key.
    #[prost(bytes = "vec", tag = "4")]
    pub key: Vec<u8>,
    /// This site's revision then.
    #[prost(int64, tag = "5")]
    pub revision: i64,
    /// When, in milliseconds of Unix time.
    #[prost(uint64, tag = "6")]
    pub unix_ms: u64,
    /// The write that is shown.
    #[prost(message, optional, tag = "7")]
    pub winner: Option<ConflictParty>,
    /// The others.
    #[prost(message, repeated, tag = "8")]
    pub losers: Vec<ConflictParty>,
    /// Where in a document, as `.spec.image`; empty for all others.
    #[prost(string, tag = "9")]
    pub path: String,
}

/// One of the writes that met.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConflictParty {
    /// The site's slot.
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    /// Its number there.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// Its time, in milliseconds of Unix time.
    #[prost(uint64, tag = "3")]
    pub unix_ms: u64,
    /// SHA-256 of its value.
    #[prost(bytes = "vec", tag = "4")]
    pub digest: Vec<u8>,
    /// How long that is.
    #[prost(uint64, tag = "5")]
    pub length: u64,
    /// Its first bytes.
    #[prost(bytes = "vec", tag = "6")]
    pub value: Vec<u8>,
    /// What the site is called; empty if that is not known.
    #[prost(string, tag = "7")]
    pub site: String,
}

/// Keyspaces.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyspaceList {
    /// By name, `default` first.
    #[prost(message, repeated, tag = "1")]
    pub keyspaces: Vec<KeyspaceView>,
}

/// A keyspace.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyspaceView {
    /// Its number.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// What it guarantees.
    #[prost(string, tag = "3")]
    pub guarantee: String,
    /// `ready`, or `opening` while one of its sites has not opened it.
    #[prost(string, tag = "4")]
    pub state: String,
    /// Where it is.
    #[prost(message, repeated, tag = "5")]
    pub sites: Vec<KeyspaceSite>,
    /// In a local-first keyspace, how concurrent writes of a key become one.
    #[prost(string, tag = "6")]
    pub merge: String,
    /// The site that answers this.
    #[prost(fixed64, tag = "7")]
    pub here: u64,
}

/// A keyspace at one of its sites.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyspaceSite {
    /// The site's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its id.
    #[prost(fixed64, tag = "2")]
    pub node: u64,
    /// `member`, `joining`, `leaving`, `left out` or [`OLDER_COPY`].
    #[prost(string, tag = "3")]
    pub standing: String,
    /// Where clients reach it.
    #[prost(string, repeated, tag = "4")]
    pub addresses: Vec<String>,
    /// Why they cannot; empty if they can.
    #[prost(string, tag = "5")]
    pub error: String,
    /// In a local-first keyspace, its place in vectors.
    #[prost(uint32, tag = "6")]
    pub slot: u32,
    /// The site that the node is of; another than its name where a site has several nodes.
    #[prost(string, tag = "7")]
    pub site: String,
}
