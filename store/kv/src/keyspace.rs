//! One keyspace: applies what the sequencer ordered, publishes it, and knows what is due.
//!
//! What would surprise: applying shows nothing to anyone. Readers and watchers see a batch of
//! commands when [`Keyspace::publish`] is called, readers first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holm_base::{Op, Revision, Term, Time};
use holm_machine::Folder;

use crate::alarm::{Alarms, Space};
use crate::apply::Work;
use crate::auth::AuthState;
use crate::checkpoint::Fact;
use crate::command::{AlarmKind, AuthChange, Caller, Command, Proposal, Txn, TxnOp};
use crate::config::Config;
use crate::counts::Counts;
use crate::error::StoreError;
use crate::hub::{Event, Hub, StreamId};
use crate::island::Isle;
use crate::job::{Job, JobDone};
use crate::lease::{Leases, Timers};
use crate::outcome::{Alarm, Applied, LeaseView, Outcome};
use crate::refusal::Refusal;
use crate::snapshot::{Pin, Ready};
use crate::store::{FactKind, Store, SweepProgress};
use crate::view::{Reader, View};

/// How many old versions one slice of compaction drops.
const SWEEP_SLICE: usize = 128;

/// The engine of one keyspace. One thread owns it.
#[derive(Debug)]
pub struct Keyspace {
    pub(crate) store: Store,
    leases: Leases,
    timers: Timers,
    auth: Arc<AuthState>,
    alarms: Alarms,
    alarm_list: Arc<[Alarm]>,
    cluster: Arc<BTreeMap<String, Bytes>>,
    space: Space,
    folder: Arc<dyn Folder>,
    /// What watchers have not been told yet.
    events: Vec<Event>,
    /// What [`Keyspace::due`] gave last.
    proposed: Option<Command>,
    /// Whether compaction has left something to drop.
    is_sweeping: bool,
    /// The term that this node leads in; zero until it leads.
    leads_since: Term,
    /// The damage that applying came across first.
    harm: Option<String>,
    counts: Counts,
    /// The island that it is, if it is local-first.
    pub(crate) isle: Option<Box<Isle>>,
    /// How often the store was replaced by another, and which jobs of it are under way: those
    /// of this one, and of those before.
    era: u32,
    jobs_out: u32,
    old_jobs_out: u32,
    /// Whether the store was replaced since the last publication.
    has_jumped: bool,
    reader: Reader,
    hub: Arc<Hub>,
}

impl Keyspace {
    /// Opens the keyspace in `folder`, or makes one if it is empty. If there are leases, the
    /// index is scanned once for their keys.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub fn open(folder: Arc<dyn Folder>, config: Config) -> Result<Self, StoreError> {
        let store = Store::open(Arc::clone(&folder), config.store.clone())?;
        Self::over(store, folder, config)
    }

    /// As [`Keyspace::open`], with the ops that the log holds, first and last: see
    /// [`Store::open_with`]. All above [`Keyspace::applied`] must be applied next.
    ///
    /// # Errors
    ///
    /// As [`Store::open_with`].
    pub fn open_with(
        folder: Arc<dyn Folder>,
        config: Config,
        held: (Op, Op),
    ) -> Result<Self, StoreError> {
        let store = Store::open_with(Arc::clone(&folder), config.store.clone(), held)?;
        Self::over(store, folder, config)
    }

    /// The damage that opening came across and the log makes good, as [`Store::healed`].
    #[must_use]
    pub const fn healed(&self) -> Option<&StoreError> {
        self.store.healed()
    }

    fn over(mut store: Store, folder: Arc<dyn Folder>, config: Config) -> Result<Self, StoreError> {
        let isle = config.island.clone();
        let isle = isle.map(|it| Isle::open(it, &mut store)).transpose()?;
        let isle = isle.map(Box::new);
        let space = Space::new(config.quota(), config.free_bytes_min, config.node.value());
        let leases = Leases::open(&store);
        let (auth, alarms) = (Arc::new(AuthState::open(&store)), Alarms::open(&store));
        store.set_short(alarms.has(AlarmKind::NoSpace));
        let (alarm_list, cluster) = (alarms.list(), Arc::new(cluster_facts(&store)));
        let view = View {
            root: store.snapshot(),
            auth: Arc::clone(&auth),
            alarms: Arc::clone(&alarm_list),
            cluster: Arc::clone(&cluster),
            applied: store.applied(),
            term: store.term(),
            sizes: store.sizes(),
            background: store.background(),
            counts: Counts::default(),
            leases: leases.len(),
            facts: store.facts.clone(),
            island: isle.as_ref().map(|it| it.view()),
        };
        Ok(Self {
            hub: Arc::new(Hub::new(config.hub, store.root().revision())),
            reader: Reader::new(view),
            timers: Timers::new(config.election_timeout, config.lease_checkpoint_interval),
            is_sweeping: store.root().compacted() > Revision::ZERO,
            store,
            leases,
            auth,
            alarms,
            alarm_list,
            cluster,
            space,
            folder,
            events: Vec::new(),
            proposed: None,
            leads_since: Term::ZERO,
            harm: None,
            counts: Counts::default(),
            isle,
            era: 0,
            jobs_out: 0,
            old_jobs_out: 0,
            has_jumped: false,
        })
    }

    /// The state as it is now, for as long as somebody makes a snapshot of it. Call it between
    /// commands. Costs a few reference counts, and what is removed meanwhile stays on the disk.
    #[must_use]
    pub fn pin(&self) -> Pin {
        let mut facts = self.store.facts.clone();
        if let Some(island) = self.island() {
            // What is kept of it with the sequencer's words is as old as they are.
            let key = FactKind::Island.key(b"");
            facts.insert(&key, Fact(island.encode()));
        }
        Pin {
            root: self.store.snapshot(),
            facts,
            applied: self.store.applied(),
            term: self.store.term(),
        }
    }

    /// Goes on with a newer state than its own, that of a snapshot: readers and watchers see it
    /// with the next publication. Watches go on: what they have not been told they read from the
    /// new state's history, or are told that it is compacted. Work of the old store that is
    /// under way counts for nothing. An island goes on as the one that gave it was, without its
    /// updates for others.
    ///
    /// # Errors
    ///
    /// If what it says of the island is damaged; then nothing may go on from here.
    ///
    /// # Panics
    ///
    /// If the state is not newer, or this node leads.
    pub fn replace(&mut self, ready: Ready) -> Result<(), StoreError> {
        let mut store = ready.store;
        assert!(
            store.applied() > self.store.applied(),
            "raft I11: a snapshot never takes back what was applied"
        );
        assert!(
            store.root().revision() >= self.store.root().revision(),
            "I2: revisions never go back"
        );
        if let Some(isle) = &mut self.isle {
            **isle = Isle::open(isle.config().clone(), &mut store)?;
        }
        self.store = store;
        self.leases = Leases::open(&self.store);
        self.timers.follow(&mut self.leases);
        self.auth = Arc::new(AuthState::open(&self.store));
        self.alarms = Alarms::open(&self.store);
        self.alarm_list = self.alarms.list();
        self.cluster = Arc::new(cluster_facts(&self.store));
        let is_short = self.alarms.has(AlarmKind::NoSpace);
        self.store.set_short(is_short);
        self.space.settled();
        self.folder = Arc::clone(&self.store.folder);
        self.events.clear();
        self.proposed = None;
        self.is_sweeping = true;
        self.era += 1;
        self.old_jobs_out += std::mem::take(&mut self.jobs_out);
        self.has_jumped = true;
        Ok(())
    }

    /// Whether work of a store that was replaced is still under way: its files must stay.
    #[must_use]
    pub const fn has_old_jobs(&self) -> bool {
        self.old_jobs_out > 0
    }

    /// Bytes of the records that are still needed: about what a snapshot weighs.
    #[must_use]
    pub fn retained_bytes(&self) -> u64 {
        self.store.sizes().retained_bytes.value()
    }

    /// Where readers find what is published.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// The watch hub.
    #[must_use]
    pub fn hub(&self) -> Arc<Hub> {
        Arc::clone(&self.hub)
    }

    /// The op of the last command applied.
    #[must_use]
    pub const fn applied(&self) -> Op {
        self.store.applied()
    }

    /// The term of the last command applied.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.store.term()
    }

    /// The op through which a restart needs no log.
    #[must_use]
    pub const fn durable_op(&self) -> Op {
        self.store.durable_op()
    }

    /// How long nobody may hear of a leader before another takes over.
    #[must_use]
    pub const fn election_timeout(&self) -> Duration {
        self.timers.election_timeout()
    }

    /// Whether an alarm of this kind is raised, by whomever.
    #[must_use]
    pub fn has_alarm(&self, kind: AlarmKind) -> bool {
        self.alarms.has(kind)
    }

    /// Applies one command. `now` only starts the timers of new leases; the answer does not
    /// depend on it. An empty body changes nothing. A body that is no proposal changes nothing
    /// either and is answered with [`Refusal::Corrupt`].
    pub fn apply(&mut self, now: Time, op: Op, term: Term, body: &Bytes) -> Applied {
        let result = if body.is_empty() {
            Ok(Outcome::Done)
        } else {
            match self.read(body) {
                Ok(proposal) => self.obey(now, term, &proposal),
                Err(error) => Err(Refusal::Corrupt {
                    place: format!("op {}: {error}", op.value()),
                }),
            }
        };
        self.look_for_harm(&result);
        if let Some(isle) = &mut self.isle {
            isle.end(&self.store);
        }
        self.store.end_command(op, term);
        self.space.applied();
        Applied {
            revision: self.store.root().revision(),
            term,
            op,
            result,
        }
    }

    /// Reads a command. At an island it begins with the time at which it was proposed.
    fn read(&mut self, body: &Bytes) -> Result<Proposal, crate::codec::DecodeError> {
        let Some(isle) = &mut self.isle else {
            return Proposal::decode(body);
        };
        let (proposal, unix_ms) = Proposal::decode_at(body)?;
        isle.begin(&mut self.store, unix_ms);
        Ok(proposal)
    }

    /// I17: damage is this node's own, and so must not pass for what applying gives.
    fn look_for_harm(&mut self, result: &Result<Outcome, Refusal>) {
        if let Err(Refusal::Corrupt { place }) = result
            && !self.alarms.has(AlarmKind::Corrupt)
        {
            self.harm.get_or_insert_with(|| place.clone());
        }
    }

    /// Damage to this node's files that applying came across, or a body that it could not read:
    /// from there on the state here may not be that of other nodes (I17). A node among others
    /// must end, and not go on from its files.
    #[must_use]
    pub fn harm(&self) -> Option<&str> {
        self.harm.as_deref()
    }

    /// An op went by that changes nothing here: the applied op moves, and no revision. Its
    /// durability is that of the next flush.
    pub fn advance(&mut self, op: Op, term: Term) {
        self.store.end_command(op, term);
    }

    /// Keeps what the sequencer must find again beside the data, as [`Store::set_sequencer`].
    pub fn set_sequencer(&mut self, value: Bytes) {
        let island = self.island().map(holm_local_first::Island::encode);
        self.store.set_beside(value, island);
    }

    /// What the sequencer kept beside the data, as of [`Keyspace::applied`] when just opened.
    #[must_use]
    pub fn sequencer(&self) -> Option<Bytes> {
        self.store.sequencer()
    }

    /// Whether [`Keyspace::set_sequencer`] must come before the next [`Keyspace::next_job`], as
    /// [`Store::is_sequencer_due`].
    pub fn is_sequencer_due(&mut self, now: Time) -> bool {
        self.store.is_sequencer_due(now)
    }

    fn obey(&mut self, now: Time, term: Term, proposal: &Proposal) -> Result<Outcome, Refusal> {
        let (caller, command) = (proposal.caller.as_ref(), &proposal.command);
        self.check_caller(caller, command)?;
        self.check_alarms(command)?;
        self.check_island(command)?;
        match command {
            Command::Put(put) => self.work().put_alone(put),
            Command::DeleteRange(delete) => self.work().delete_alone(delete),
            Command::Txn(txn) => self.work().txn(txn),
            Command::Compact { revision } => {
                let outcome = self.work().compact(*revision)?;
                self.is_sweeping = true;
                Ok(outcome)
            }
            Command::LeaseGrant { id, ttl, ttl_min } => self.grant(now, *id, *ttl, *ttl_min),
            Command::LeaseRevoke { id } => {
                let removed = self.end_lease(*id);
                removed
                    .then_some(Outcome::Done)
                    .ok_or(Refusal::LeaseNotFound)
            }
            Command::LeaseCheckpoint { remaining } => {
                for (id, left) in remaining {
                    self.leases.checkpoint(&mut self.store, *id, *left);
                }
                self.timers.checkpoint_applied();
                Ok(Outcome::Done)
            }
            Command::LeaseExpire {
                term: proposer,
                ids,
            } => {
                self.expire(*proposer == term, ids);
                Ok(Outcome::Done)
            }
            Command::Alarm { .. } => self.alarm(command),
            Command::Auth(_) if self.isle.is_some() => Err(Refusal::NoUsers),
            Command::Auth(change) => self.change_auth(change),
            Command::Island(entry) => self.work().island(term, entry),
            Command::Cluster { name, value } => {
                self.remember(name, value.as_ref());
                Ok(Outcome::Done)
            }
            Command::ClusterSwap {
                name,
                expected,
                value,
            } => {
                let succeeded = self.cluster.get(name) == expected.as_ref();
                if succeeded {
                    self.remember(name, Some(value));
                }
                Ok(Outcome::Txn {
                    succeeded,
                    responses: Vec::new(),
                })
            }
        }
    }

    /// What an island whose slot does not go on refuses: all that would be an update of it.
    fn check_island(&self, command: &Command) -> Result<(), Refusal> {
        if !self.isle.as_deref().is_some_and(Isle::is_ended) {
            return Ok(());
        }
        match command {
            Command::Put(_)
            | Command::DeleteRange(_)
            | Command::Txn(_)
            | Command::LeaseGrant { .. }
            | Command::LeaseRevoke { .. }
            | Command::LeaseExpire { .. } => Err(Refusal::Ended),
            Command::Compact { .. }
            | Command::LeaseCheckpoint { .. }
            | Command::Alarm { .. }
            | Command::Auth(_)
            | Command::Island(_)
            | Command::Cluster { .. }
            | Command::ClusterSwap { .. } => Ok(()),
        }
    }

    fn work(&mut self) -> Work<'_> {
        Work {
            store: &mut self.store,
            leases: &mut self.leases,
            events: &mut self.events,
            hub: &self.hub,
            counts: &mut self.counts,
            isle: self.isle.as_deref_mut(),
        }
    }

    fn check_caller(&self, caller: Option<&Caller>, command: &Command) -> Result<(), Refusal> {
        if !self.auth.enabled() {
            return Ok(());
        }
        match command {
            Command::Put(put) => {
                self.auth.check_put(caller, put)?;
                self.check_lease_keys(caller, put.lease)
            }
            Command::DeleteRange(delete) => self.auth.check_delete(caller, delete),
            Command::Txn(txn) => {
                self.auth.check_txn(caller, txn)?;
                self.check_txn_leases(caller, txn)
            }
            Command::LeaseRevoke { id } => self.check_lease_keys(caller, *id),
            Command::Auth(_) => self.auth.check_admin(caller),
            Command::Compact { .. }
            | Command::LeaseGrant { .. }
            | Command::LeaseCheckpoint { .. }
            | Command::LeaseExpire { .. }
            | Command::Alarm { .. }
            | Command::Cluster { .. }
            | Command::ClusterSwap { .. }
            | Command::Island(_) => Ok(()),
        }
    }

    /// Who hangs a key on a lease, or revokes it, decides about all of its keys.
    fn check_lease_keys(&self, caller: Option<&Caller>, lease: i64) -> Result<(), Refusal> {
        let keys = self.leases.keys(lease);
        keys.map_or(Ok(()), |keys| self.auth.check_write_of_all(caller, keys))
    }

    fn check_txn_leases(&self, caller: Option<&Caller>, txn: &Txn) -> Result<(), Refusal> {
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                TxnOp::Put(put) => self.check_lease_keys(caller, put.lease)?,
                TxnOp::Txn(inner) => self.check_txn_leases(caller, inner)?,
                TxnOp::Range(_) | TxnOp::DeleteRange(_) => {}
            }
        }
        Ok(())
    }

    /// Whether alarms forbid the command: a full keyspace takes what frees space, a damaged
    /// one takes nothing that touches keys or leases.
    fn check_alarms(&self, command: &Command) -> Result<(), Refusal> {
        let (takes_space, touches) = match command {
            Command::Put(_) | Command::LeaseGrant { .. } => (true, true),
            Command::Txn(txn) => (txn.can_put(), true),
            Command::Island(it) => (
                matches!(
                    it,
                    holm_local_first::Proposal::Updates(_)
                        | holm_local_first::Proposal::Stage { .. }
                ),
                true,
            ),
            Command::DeleteRange(_) | Command::Compact { .. } | Command::LeaseRevoke { .. } => {
                (false, true)
            }
            Command::LeaseCheckpoint { .. }
            | Command::LeaseExpire { .. }
            | Command::Alarm { .. }
            | Command::Auth(_)
            | Command::Cluster { .. }
            | Command::ClusterSwap { .. } => (false, false),
        };
        if touches && self.alarms.has(AlarmKind::Corrupt) {
            return Err(Refusal::Corrupt {
                place: "the alarm CORRUPT is raised".to_owned(),
            });
        }
        if takes_space && self.alarms.has(AlarmKind::NoSpace) {
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }

    fn grant(&mut self, now: Time, id: i64, ttl: i64, ttl_min: i64) -> Result<Outcome, Refusal> {
        let ttl = ttl.max(ttl_min);
        self.leases.grant(&mut self.store, id, ttl)?;
        self.counts.granted += 1;
        self.timers.granted(&mut self.leases, now, id);
        Ok(Outcome::LeaseGrant { id, ttl })
    }

    fn end_lease(&mut self, id: i64) -> bool {
        let removed = self.work().end_lease(id);
        if let Some(removed) = &removed {
            self.counts.revoked += 1;
            self.timers.removed(id, removed);
        }
        removed.is_some()
    }

    /// Ends leases whose time is up, unless another leader said so (I14).
    fn expire(&mut self, is_own_term: bool, ids: &[i64]) {
        if is_own_term {
            for id in ids {
                self.counts.expired += u64::from(self.end_lease(*id));
            }
        }
        self.timers.expiry_applied(ids);
    }

    fn alarm(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        let mut concerned = Vec::new();
        if let Command::Alarm {
            raise,
            member,
            kind,
            by_node,
        } = command
        {
            let alarm = Alarm {
                member: *member,
                kind: *kind,
            };
            let is_there = if *raise {
                self.alarms.raise(&mut self.store, alarm, *by_node)?;
                true
            } else {
                self.alarms.clear(&mut self.store, alarm, *by_node)
            };
            concerned.extend(is_there.then_some(alarm));
        }
        self.alarm_list = self.alarms.list();
        self.store.set_short(self.alarms.has(AlarmKind::NoSpace));
        self.space.settled();
        Ok(Outcome::Alarms(concerned))
    }

    fn change_auth(&mut self, change: &AuthChange) -> Result<Outcome, Refusal> {
        Arc::make_mut(&mut self.auth).change(&mut self.store, change)?;
        Ok(Outcome::Done)
    }

    fn remember(&mut self, name: &str, value: Option<&Bytes>) {
        let table = Arc::make_mut(&mut self.cluster);
        // A copy: a slice would keep the whole entry in memory.
        let value = value.map(|it| Bytes::copy_from_slice(it));
        match &value {
            Some(value) => table.insert(name.to_owned(), value.clone()),
            None => table.remove(name),
        };
        self.store
            .set_fact(FactKind::Cluster, name.as_bytes(), value);
    }

    /// Shows everything applied so far: to readers first, then to watchers. Adds the streams
    /// that have something to send to `wake`, each once; hand them to [`Hub::wake`].
    pub fn publish(&mut self, wake: &mut Vec<StreamId>) {
        let root = self.store.snapshot();
        let revision = root.revision();
        self.reader.publish(View {
            root,
            auth: Arc::clone(&self.auth),
            alarms: Arc::clone(&self.alarm_list),
            cluster: Arc::clone(&self.cluster),
            applied: self.store.applied(),
            term: self.store.term().max(self.leads_since),
            sizes: self.store.sizes(),
            background: self.store.background(),
            counts: self.counts,
            leases: self.leases.len(),
            facts: self.store.facts.clone(),
            island: self.isle.as_ref().map(|it| it.view()),
        });
        if std::mem::take(&mut self.has_jumped) {
            self.events.clear();
            self.hub.publish_jump(revision, wake);
        } else {
            self.hub.publish(&mut self.events, revision, wake);
        }
    }

    /// This node leads from now on, and everything before its term is applied: each lease gets
    /// what is left to it and an election timeout.
    pub fn lead(&mut self, now: Time, term: Term) {
        self.timers.lead(&mut self.leases, now, term);
        self.leads_since = term;
        // What was applied before came out of the log: clients of an earlier run did it.
        self.counts = Counts::default();
    }

    /// This node leads no longer: its leases' time stands still, and what it proposed is
    /// forgotten. [`Keyspace::due`] may be asked on: what a node has to say about its own disk it
    /// says as a follower too.
    pub fn follow(&mut self) {
        self.timers.follow(&mut self.leases);
        self.space.settled();
        self.proposed = None;
    }

    /// Renews a lease for its granted time; takes no op. Gives that time in seconds.
    ///
    /// # Errors
    ///
    /// [`Refusal::LeaseNotFound`] if there is none or its time is up, its end proposed or not;
    /// [`Refusal::Busy`] if this node does not lead.
    pub fn renew(&mut self, now: Time, id: i64) -> Result<i64, Refusal> {
        let renewed = self.timers.renew(&mut self.leases, now, id);
        self.counts.renewed += u64::from(renewed.is_ok());
        renewed
    }

    /// Whether less than all its time is on record of a lease, or about to be: a restart would
    /// end it that much sooner. Not for long after a renewal, which has that cleared.
    #[must_use]
    pub fn is_shortened(&self, id: i64) -> bool {
        self.leases.is_shortened(id)
    }

    /// How a lease stands. An unknown one has a time to live of -1.
    #[must_use]
    pub fn time_to_live(&self, now: Time, id: i64, with_keys: bool) -> LeaseView {
        self.leases.view(now, id, with_keys)
    }

    /// The ids of all leases, the one that ends first first, as etcd lists them; at a node that
    /// does not lead their order means nothing. Costs a sort.
    #[must_use]
    pub fn leases(&self) -> Vec<i64> {
        self.leases.ids()
    }

    /// What the leader should propose now: the end of leases, checkpoints of leases, an alarm.
    /// Bounded in size and in how many are on their way. Call it until it gives nothing; if
    /// the proposal is not taken, say so with [`Keyspace::refused`].
    pub fn due(&mut self, now: Time) -> Option<Command> {
        let timers = &mut self.timers;
        let command = timers.due(&mut self.leases, now).or_else(|| {
            let free = || self.folder.free().map_or(u64::MAX, |it| it.value());
            self.space
                .due(now, &self.alarms, || self.store.sizes(), free)
        });
        self.proposed.clone_from(&command);
        command
    }

    /// What [`Keyspace::due`] gave last was not ordered: it will come again.
    pub fn refused(&mut self, now: Time) {
        if let Some(command) = self.proposed.take() {
            self.timers.refused(&mut self.leases, &command, now);
            if let Command::Alarm { .. } = command {
                self.space.settled();
            }
        }
    }

    /// When something becomes due because time passed.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        let timers = [
            self.timers.wake_at(),
            self.space.wake_at(&self.alarms),
            self.store.job_at(),
        ];
        timers.into_iter().flatten().min()
    }

    /// The next piece of work for the background thread, as [`Store::next_job`].
    ///
    /// # Panics
    ///
    /// If [`Keyspace::is_sequencer_due`] was not asked, or not obeyed.
    pub fn next_job(&mut self, now: Time) -> Option<Job> {
        let mut job = self.store.next_job(now)?;
        job.era = self.era;
        self.jobs_out += 1;
        Some(job)
    }

    /// Takes note of what a job did, as [`Store::finish`].
    ///
    /// # Errors
    ///
    /// The disk failed: the keyspace must not be used any more.
    pub fn finish(&mut self, done: JobDone) -> Result<(), StoreError> {
        if done.era != self.era {
            self.old_jobs_out -= 1;
            return Ok(());
        }
        self.jobs_out -= 1;
        self.space.applied();
        // What was cleaned waits to be pointed to, slice by slice.
        self.is_sweeping = true;
        self.store.finish(done)
    }

    /// Makes all background work due at once, as [`Store::hurry`].
    pub const fn hurry(&mut self) {
        self.store.hurry();
    }

    /// Whether so much waits for the disk that nothing should be applied until a job is done.
    #[must_use]
    pub fn must_wait(&self) -> bool {
        self.store.must_wait()
    }

    /// Drops a slice of what compaction left, and makes a slice of an island's index; whether
    /// there is more.
    pub fn sweep(&mut self) -> bool {
        if self.is_sweeping {
            self.is_sweeping = self.store.sweep(SWEEP_SLICE) == SweepProgress::More;
        }
        let is_indexing = self.index_some();
        self.is_sweeping || is_indexing
    }

    /// Whether [`Keyspace::sweep`] has something to do.
    #[must_use]
    pub fn is_sweeping(&self) -> bool {
        self.is_sweeping || self.is_indexing()
    }

    /// The log was synced, which took so long: the cleaner goes slower if that is unusual.
    pub fn log_synced(&mut self, now: Time, took: Duration) {
        self.store.log_synced(now, took);
    }

    /// Whether all that a compaction to `revision` passed was dropped. Beyond the compacted
    /// line, which nothing has passed yet, the line counts. O(1).
    #[must_use]
    pub fn is_swept(&self, revision: Revision) -> bool {
        let line = revision.min(self.store.root().compacted());
        self.store.is_swept_to(line.value())
    }
}

fn cluster_facts(store: &Store) -> BTreeMap<String, Bytes> {
    let mut table = BTreeMap::new();
    store.facts(FactKind::Cluster, &mut |name, value| {
        if let Ok(name) = str::from_utf8(name) {
            table.insert(name.to_owned(), value.clone());
        }
    });
    table
}
