//! Which sites a keyspace of islands has, as the table in keyspace `default` says it, and what each
//! site does about it.
//!
//! The table is one, and always there; what takes its time, or is lost, is that an island looks.
//! An operator takes sites in, lets them go, gives some up as lost though they are not, takes those
//! in again, and puts an older copy in the place of a site's data.
//!
//! What would surprise: a site that was let go, or is not taken in yet, stands all the while, and
//! speaks. Nobody may listen to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holm_base::NodeId;
use holm_check::islands::Islands;
use holm_local_first::{
    Chain, DepartureError, Departures, Members, Reach, Roster, Slot, Vector, still_due,
};
use holm_virtual::Place;

use super::islands::index;
use super::realm::Realm;
use super::{Run, Token};
use crate::scenario::Scenario;
use crate::site::{Berth, Image, IsleCall, Request, Seat, Site, unix_ms};
use crate::stage::{Stage, moments_scale};

const ATTEND: Place = Place::new("island.attend");
const SITES: Place = Place::new("fault.sites");
const SET_BACK: Place = Place::new("fault.set_back");

/// How often one of the islands looks.
const EVERY: Duration = Duration::from_millis(100);
/// So many stay.
const STAY_MIN: usize = 2;

/// Whose data were put back, and how far that is known.
#[derive(Clone, Copy, Debug)]
struct SetBack {
    /// The newest revision that it told before.
    until: u64,
    /// Up to where it has told what it has since; none until it is up.
    through: Option<u64>,
}

/// The table, and what the operator did.
#[derive(Clone, Debug)]
pub(crate) struct Register {
    departures: Departures,
    /// The slots that each node had, the newest last: who was left out comes back under another.
    slots: Vec<Vec<Slot>>,
    /// The slot by which each node's island went when it was last up.
    seen: BTreeMap<NodeId, Slot>,
    /// Taken in, and have not received all yet.
    joining: BTreeSet<Slot>,
    /// What these are to have.
    receiving: BTreeMap<Slot, Vector>,
    /// Said that their data are an older copy.
    said_set_back: BTreeSet<Slot>,
    /// Given up as lost, ever.
    lost: BTreeSet<Slot>,
    /// Refuse their clients.
    shut: BTreeSet<NodeId>,
    /// Copies of data; one may be of before its site came back under another slot.
    images: BTreeMap<NodeId, (Slot, Image)>,
    set_back: BTreeMap<Slot, SetBack>,
    /// Take no more writes, as their logs say.
    ended: BTreeSet<Slot>,
    /// Who had all that one had which left in order, as it left.
    heirs: BTreeMap<Slot, BTreeSet<Slot>>,
    changes: u32,
    is_used: bool,
}

impl Register {
    pub(crate) fn new(scenario: &Scenario, stage: &Stage, world: &mut Realm) -> Self {
        let voters = u8::try_from(stage.voters).unwrap_or(u8::MAX);
        let first = (1..=voters).filter_map(Slot::new).map(|slot| (slot, 0));
        let spare = stage.ids().skip(stage.voters);
        let first_slot = |node| stage.isles.map(|it| it.slot(node));
        let may_change = |kind| scenario.chances.of(kind).0 > 0;
        let is_used = stage.isles.is_some() && (may_change("members") || may_change("set_back"));
        if is_used {
            world.alarm(holm_base::Time::ZERO + EVERY, Token::Attend.pack());
        }
        Self {
            departures: Departures {
                members: Members::new(first),
                going: BTreeMap::new(),
            },
            slots: stage
                .ids()
                .map(|node| first_slot(node).into_iter().collect())
                .collect(),
            seen: BTreeMap::new(),
            joining: BTreeSet::new(),
            receiving: BTreeMap::new(),
            said_set_back: BTreeSet::new(),
            lost: BTreeSet::new(),
            shut: if is_used {
                spare.collect()
            } else {
                BTreeSet::new()
            },
            images: BTreeMap::new(),
            set_back: BTreeMap::new(),
            ended: BTreeSet::new(),
            heirs: BTreeMap::new(),
            changes: 0,
            is_used,
        }
    }

    /// The slot of a node; of one that was left out and is not taken in again, the one that it had.
    pub(super) fn slot(&self, node: NodeId) -> Slot {
        let own = self.slots[index(node)].last();
        *own.expect("each island has one")
    }

    /// Whose a slot is or was.
    fn node(&self, slot: Slot) -> NodeId {
        let at = self.slots.iter().position(|it| it.contains(&slot));
        let at = at.expect("each slot was given to a node");
        NodeId::new(u64::try_from(at).expect("nodes are few") + 1)
    }

    /// Whether it holds of a slot that a node has or had.
    fn ever(&self, node: NodeId, holds: impl Fn(&Slot) -> bool) -> bool {
        self.slots[index(node)].iter().any(holds)
    }

    fn is_active(&self, slot: Slot) -> bool {
        self.departures.members.active().contains_key(&slot)
    }

    /// Those that serve, and are not on their way out.
    fn staying(&self) -> impl Iterator<Item = Slot> + '_ {
        let active = self.departures.members.active().keys().copied();
        active.filter(|it| !self.departures.going.contains_key(it) && !self.joining.contains(it))
    }

    /// The sites as a log takes them.
    fn roster(&self) -> Roster {
        let members = self.departures.members.clone();
        let nodes = members.active().keys();
        Roster {
            nodes: nodes
                .map(|it| (*it, vec![self.node(*it).value()]))
                .collect(),
            members,
        }
    }

    /// Whether clients are refused at a node.
    pub(super) fn is_shut(&self, node: NodeId) -> bool {
        self.is_used && self.shut.contains(&node)
    }

    /// Whether a node that is well is to answer.
    pub(super) fn must_answer(&self, node: NodeId) -> bool {
        if !self.is_used {
            return true;
        }
        let own = self.slot(node);
        let is_astray = self.ended.contains(&own) || self.set_back.contains_key(&own);
        self.staying().any(|it| it == own) && !is_astray && !self.is_shut(node)
    }

    /// Whether an island's data were ever set back.
    pub(super) fn was_set_back(&self, number: u8) -> bool {
        Slot::new(number).is_some_and(|it| self.set_back.contains_key(&it))
    }

    /// Whether the data of a node were ever set back.
    pub(super) fn is_a_copy(&self, node: NodeId) -> bool {
        self.ever(node, |it| self.set_back.contains_key(it))
    }

    /// Whether an island may have more of another than it said: it is lost itself, so that nobody
    /// waited for its word, or it was set back to before it said so.
    pub(super) fn says_less_than_it_has(&self, node: NodeId) -> bool {
        self.ever(node, |it| self.lost.contains(it)) || self.is_a_copy(node)
    }

    /// Islands of whose writes counts what another had, with the newest revision of before they
    /// were set back.
    pub(super) fn lost(&self) -> BTreeMap<usize, u64> {
        let until = |it: &Slot| self.set_back.get(it).map_or(u64::MAX, |it| it.until);
        let gone = self.departures.members.frozen().keys();
        let in_vain = gone.filter(|it| !self.is_kept(**it));
        // Who came back has made again what only it had.
        let is_last = |it: &&Slot| self.slot(self.node(**it)) == **it;
        let last = self.lost.iter().chain(in_vain).filter(is_last);
        let all = last.chain(self.set_back.keys());
        all.map(|it| (index(self.node(*it)), until(it))).collect()
    }

    /// Whether what an island had is at one that stays: who left in order handed it on, and those
    /// may be lost since.
    fn is_kept(&self, slot: Slot) -> bool {
        if self.lost.contains(&slot) || self.set_back.contains_key(&slot) {
            return false;
        }
        let has_left = self.departures.members.frozen().contains_key(&slot);
        let mut heirs = self.heirs.get(&slot).into_iter().flatten();
        !has_left || heirs.any(|it| self.is_kept(*it))
    }

    /// Islands that were let go, were not lost and were never set back: what they say counts.
    pub(super) fn left_in_order(&self) -> impl Iterator<Item = NodeId> + '_ {
        let gone = self.departures.members.frozen().keys();
        let is_whole = |it: &&Slot| !self.lost.contains(it) && !self.set_back.contains_key(it);
        gone.filter(is_whole).map(|it| self.node(*it))
    }

    /// Islands that were ever given up as lost.
    pub(super) fn absent(&self) -> BTreeSet<usize> {
        let lost = self.lost.iter();
        lost.map(|it| index(self.node(*it))).collect()
    }

    /// Islands that were let go, in order or not.
    pub(super) fn gone(&self) -> BTreeSet<usize> {
        let gone = self.departures.members.frozen().keys();
        let gone = gone.map(|it| self.node(*it));
        let is_gone = |node: &NodeId| !self.is_active(self.slot(*node));
        gone.filter(is_gone).map(index).collect()
    }

    /// Up to where an island whose data were set back has told what it has.
    pub(super) fn told_through(&mut self, node: NodeId) -> Option<&mut u64> {
        self.as_set_back(node)?.through.as_mut()
    }

    fn as_set_back(&mut self, node: NodeId) -> Option<&mut SetBack> {
        let mut all = self.set_back.iter_mut();
        let own = &self.slots[index(node)];
        all.find(|(slot, _)| own.contains(slot)).map(|(_, it)| it)
    }

    /// An island is up: if its data were set back, this is what the copy had at least.
    pub(super) fn is_up(&mut self, node: NodeId, site: &Site) {
        if !self.is_used {
            return;
        }
        self.ended.extend(site.ended());
        if let Some(it) = self.as_set_back(node)
            && it.through.is_none()
        {
            it.through = Some(site.revision());
        }
    }

    /// Whether an island that is up goes on under another slot since it was last looked at.
    pub(super) fn has_moved(&mut self, node: NodeId, site: &Site) -> bool {
        let Some(slot) = site.slot().filter(|_| self.is_used) else {
            return false;
        };
        let before = self.seen.insert(node, slot);
        before.is_some_and(|it| it != slot)
    }

    /// Whether some islands took in what one wrote before its data were set back, and the copy had
    /// not, and others what it wrote after that.
    pub(super) fn has_two_stories(&self, evidence: &Islands) -> bool {
        self.set_back.iter().any(|(slot, it)| {
            let own = index(self.node(*slot));
            let writes = || evidence.intents().values().filter(|one| one.site == own);
            let at = |mark| {
                evidence
                    .shown()
                    .get(own)
                    .and_then(|shown| first(shown, mark))
            };
            let is_lost = |mark| at(mark).is_none();
            let is_new = |mark| at(mark).is_some_and(|at| at > it.until);
            let others = || (0..evidence.shown().len()).filter(|site| *site != own);
            let has = |of: &dyn Fn(u64) -> bool| {
                let mut marks = writes().map(|one| one.mark).filter(|mark| of(*mark));
                marks.any(|mark| others().any(|site| evidence.showed(site, mark)))
            };
            has(&is_lost) && has(&is_new)
        })
    }

    /// A site is given up as lost.
    fn lose(&mut self, slot: Slot) {
        self.joining.remove(&slot);
        self.departures.begin(slot, true);
        if self.departures.going.contains_key(&slot) {
            self.lost.insert(slot);
        }
        let closed = self.departures.close_agreed();
        closed.expect("somebody stays");
    }

    /// Whether a slot was that of a site which was left out as lost and is not taken in again.
    fn is_away(&self, slot: Slot) -> bool {
        let frozen = self.departures.members.frozen().get(&slot);
        frozen.is_some_and(|it| it.heir.is_none()) && self.lost.contains(&slot)
    }

    /// A site that is back, with a copy of its data from before.
    fn returned(&self) -> Option<NodeId> {
        let mut images = self.images.iter();
        let found = images.find(|(node, (slot, _))| self.slot(**node) != *slot);
        found.map(|(node, _)| *node)
    }

    /// What the table says to a node of a slot. Who is given up may have what does not count, and one that begins does
    /// not know that yet.
    fn seat(&self, slot: Slot, since_unix_ms: u64) -> Seat {
        let others = self.departures.members.active().keys();
        let is_lost = |it: &Slot| self.departures.going.get(it).is_some_and(|it| it.is_lost);
        let others = others.filter(|it| **it != slot && !is_lost(it));
        Seat {
            slot,
            since_unix_ms,
            peers: others.map(|it| (*it, self.node(*it))).collect(),
        }
    }

    /// A site that was left out is taken in again. Gives its slot.
    fn take_back(&mut self, node: NodeId, unix_ms: u64) -> Slot {
        let used = self.slots.iter().flatten().map(|it| it.value());
        let heir = used.max().and_then(|it| Slot::new(it + 1));
        let heir = heir.expect("changes are few");
        let own = self.slot(node);
        let next = self.departures.members.taken_back(own, heir, unix_ms);
        self.departures.members = next.expect("it is away, and nobody had that slot");
        self.slots[index(node)].push(heir);
        self.joining.insert(heir);
        heir
    }

    /// A site says how far a slot is. One that knows another story of it gives way.
    fn tell(&mut self, slot: Slot, from: Slot, reach: Reach) {
        match self.departures.tell(slot, from, reach) {
            Ok(_closed) => {}
            Err(DepartureError::TwoStories { from, .. }) => self.lose(from),
            Err(DepartureError::Members(error)) => panic!("somebody stays: {error}"),
        }
    }

    /// What an island's log is to take, by what it goes by now and the table says.
    fn ask(&mut self, own: Slot, berth: &Berth) -> Vec<IsleCall> {
        let mut calls = Vec::new();
        let hears = self.is_active(own) || self.is_away(own);
        if hears && self.departures.members.epoch() > berth.epoch {
            calls.push(IsleCall::Follow(self.roster().encode()));
        }
        if !self.is_active(own) {
            return calls;
        }
        let is_lost = |it: &Slot| self.departures.going.get(it).is_some_and(|it| it.is_lost);
        let is_set_back = berth.set_back == Some(own);
        if is_set_back && !is_lost(&own) {
            self.said_set_back.insert(own);
        }
        if berth.slot != own {
            // It was left out, and is not back: what it has is no word about what counts.
            let lost = self.departures.going.iter().filter(|(_, it)| it.is_lost);
            let lost: Vec<Slot> = lost
                .map(|(slot, _)| *slot)
                .filter(|it| *it != own)
                .collect();
            for slot in lost {
                if berth.stops.contains_key(&slot) {
                    self.tell(slot, own, (0, Chain::default()));
                } else {
                    calls.push(IsleCall::Stop(slot.value()));
                }
            }
            return calls;
        }
        let going: Vec<(Slot, bool, bool)> = self
            .departures
            .going
            .iter()
            .map(|(slot, it)| (*slot, it.is_lost, it.told.contains_key(&own)))
            .collect();
        for (slot, is_lost, has_told) in going {
            let is_own = own == slot;
            if is_own == is_lost || has_told || is_own && is_set_back {
                continue;
            }
            match berth.stops.get(&slot) {
                None => calls.push(IsleCall::Stop(slot.value())),
                Some(reach) if !is_own => self.tell(slot, own, *reach),
                Some(reach) => {
                    let heirs = self.heirs(berth);
                    if !heirs.is_empty() {
                        self.heirs.insert(own, heirs);
                        self.tell(slot, own, *reach);
                    }
                }
            }
        }
        if self.joining.contains(&own) && self.has_received(own, berth) {
            self.joining.remove(&own);
            self.receiving.remove(&own);
        }
        calls
    }

    /// Which other sites that stay have all that this one has; none if one knows more of it.
    fn heirs(&self, berth: &Berth) -> BTreeSet<Slot> {
        if berth.is_set_back {
            return BTreeSet::new();
        }
        let staying: BTreeSet<Slot> = self.staying().collect();
        let has_all = |it: &Vector| it.is_at_least(&berth.vector);
        let have_all = berth.neighbours.iter();
        let have_all = have_all.filter(|it| it.judged.as_ref().is_some_and(has_all));
        let have_all = have_all.map(|it| it.slot);
        have_all.filter(|it| staying.contains(it)).collect()
    }

    /// Whether a site that was taken in has what another had when it was first heard.
    fn has_received(&mut self, own: Slot, berth: &Berth) -> bool {
        let staying: BTreeSet<Slot> = self.staying().collect();
        let others = berth.neighbours.iter();
        let mut others = others.filter(|it| staying.contains(&it.slot));
        if let Some(wanted) = self.receiving.get(&own) {
            let there = others.map(|it| (it.slot, &it.vector));
            let due = still_due(&self.departures.members, wanted, there);
            return berth.vector.is_at_least(&due);
        }
        if let Some(first) = others.find(|it| !it.is_cut) {
            self.receiving.insert(own, first.vector.clone());
        }
        false
    }

    /// An island looks. Whether clients are refused there from now on.
    fn set_door(&mut self, own: Slot, berth: &Berth) {
        let is_open = self.staying().any(|it| it == own) && !berth.stops.contains_key(&own);
        if is_open {
            self.shut.remove(&self.node(own));
        } else {
            self.shut.insert(self.node(own));
        }
    }

    /// What the operator does about sites that say that their data are an older copy.
    fn let_go_who_is_set_back(&mut self) {
        for slot in std::mem::take(&mut self.said_set_back) {
            self.lose(slot);
        }
    }
}

/// At which revision a mark is first shown.
fn first(shown: &[holm_check::islands::Shown], mark: u64) -> Option<u64> {
    let has =
        |one: &&holm_check::islands::Shown| one.touches.iter().any(|(_, it)| *it == Some(mark));
    shown.iter().find(has).map(|one| one.revision)
}

impl Run<'_> {
    fn register(&mut self) -> Option<&mut Register> {
        self.islands.as_mut().map(|islands| &mut islands.register)
    }

    /// The islands that belong to the keyspace now.
    pub(super) fn member_islands(&self) -> Vec<NodeId> {
        let Some(islands) = &self.islands else {
            return self.judged.clone();
        };
        let active = |node: &NodeId| islands.register.is_active(islands.register.slot(*node));
        self.stage.ids().filter(active).collect()
    }

    /// Whether no site is on its way in or out, and all go by the same table.
    pub(super) fn are_sites_settled(&self) -> bool {
        let Some(islands) = &self.islands else {
            return true;
        };
        let register = &islands.register;
        if !register.is_used {
            return true;
        }
        let epoch = register.departures.members.epoch();
        let follows = |node: NodeId| {
            let berth = self.world.node(node).and_then(Site::berth);
            berth
                .is_some_and(|it| it.epoch == epoch && !it.stops.contains_key(&register.slot(node)))
        };
        let is_quiet = register.departures.going.is_empty() && register.joining.is_empty();
        is_quiet && self.member_islands().into_iter().all(follows)
    }

    /// Which sites are on their way in or out, and by which table each goes.
    pub(super) fn sites_in_words(&self) -> String {
        let Some(islands) = &self.islands else {
            return String::new();
        };
        let register = &islands.register;
        let epoch = |node: &NodeId| {
            let berth = self.world.node(*node).and_then(Site::berth);
            berth.map(|it| (it.epoch, it.stops.keys().copied().collect::<Vec<_>>()))
        };
        let epochs: Vec<_> = self.stage.ids().map(|node| epoch(&node)).collect();
        format!(
            "nobody waits: {}; table {}, going {:?}, joining {:?}, lost {:?}, set back {:?}; each \
             goes by {epochs:?}",
            self.askers.is_idle(),
            register.departures.members.epoch(),
            register.departures.going,
            register.joining,
            register.lost,
            register.set_back
        )
    }

    /// An island looks which sites there are; once faults have ended, all do.
    pub(super) fn attend(&mut self) {
        let next = self.world.now() + EVERY;
        self.world.alarm(next, Token::Attend.pack());
        let nodes: Vec<NodeId> = self.stage.ids().collect();
        if self.healed.is_some() {
            nodes.into_iter().for_each(|node| self.attend_one(node));
        } else {
            let count = u32::try_from(nodes.len()).expect("nodes are few");
            let drawn = self.world.tape_mut().choose(ATTEND, count + 1);
            if drawn > 0 {
                self.attend_one(NodeId::new(u64::from(drawn)));
            }
        }
        if let Some(register) = self.register() {
            register.let_go_who_is_set_back();
        }
    }

    fn attend_one(&mut self, node: NodeId) {
        let Some(berth) = self.world.node(node).and_then(Site::berth) else {
            return;
        };
        let Some(register) = self.register() else {
            return;
        };
        let own = register.slot(node);
        let calls = register.ask(own, &berth);
        let was_shut = register.is_shut(node);
        register.set_door(own, &berth);
        let is_open = was_shut && !register.is_shut(node);
        for call in calls {
            self.world.request(node, Request::Isle(call));
        }
        if is_open {
            self.wake_clients(node);
        }
    }

    /// The operator's turn in a hunt.
    pub(super) fn change_sites(&mut self) {
        if self.islands.is_none() {
            return;
        }
        let (weight, most) = self.scenario.chances.of("members");
        let changes = self.register().map_or(0, |it| it.changes);
        if changes < most && self.drawn(SITES, weight) {
            self.change_a_site();
        }
        let (weight, most) = self.scenario.chances.of("set_back");
        let done = self.register().map_or(0, |it| it.set_back.len());
        if u32::try_from(done).is_ok_and(|done| done < most) && self.drawn(SET_BACK, weight) {
            self.set_a_site_back();
        }
    }

    fn drawn(&mut self, place: Place, weight: u32) -> bool {
        weight > 0
            && self
                .world
                .tape_mut()
                .chance(place, weight * moments_scale())
    }

    fn drawn_node(&mut self, place: Place) -> NodeId {
        let count = u32::try_from(self.stage.site_of.len()).expect("nodes are few");
        let drawn = self.world.tape_mut().choose(place, count);
        NodeId::new(u64::from(drawn) + 1)
    }

    fn change_a_site(&mut self) {
        let node = self.drawn_node(SITES);
        let what = self.world.tape_mut().choose(SITES, 3);
        let Some(register) = self.register() else {
            return;
        };
        let own = register.slot(node);
        let members = &register.departures.members;
        let is_new = !members.active().contains_key(&own) && !members.frozen().contains_key(&own);
        let may_go = register.staying().filter(|it| *it != own).count() >= STAY_MIN;
        if is_new {
            self.take_in(node);
        } else if register.is_away(own) {
            self.take_back(node);
        } else if may_go && register.is_active(own) {
            if what == 0 {
                register.lose(own);
            } else {
                register.joining.remove(&own);
                register.departures.begin(own, false);
            }
        } else {
            return;
        }
        if let Some(register) = self.register() {
            register.changes += 1;
        }
    }

    /// A site is taken in for the first time: its node begins with what the table says then.
    fn take_in(&mut self, node: NodeId) {
        let since = self.unix_ms();
        let Some(register) = self.register() else {
            return;
        };
        let own = register.slot(node);
        let next = register.departures.members.with(own, since);
        register.departures.members = next.expect("it was never used");
        register.joining.insert(own);
        let seat = register.seat(own, since);
        self.world.crash(node);
        self.world.shelf(node).tell_seat(seat);
        self.world.restart(node);
    }

    /// A site that was left out is taken in again, and its node goes by that from its next start on. Who may put a copy
    /// of its data back makes one before.
    fn take_back(&mut self, node: NodeId) {
        if self.scenario.chances.of("set_back").0 > 0 {
            self.copy_site(node);
        }
        let since = self.unix_ms();
        if let Some(register) = self.register() {
            let heir = register.take_back(node, since);
            let seat = register.seat(heir, since);
            self.world.shelf(node).tell_seat(seat);
        }
    }

    /// The time, as right clocks have it.
    fn unix_ms(&self) -> u64 {
        let now = self.world.now().nanos() / 1_000_000;
        unix_ms(i64::try_from(now).expect("runs are short"))
    }

    /// A copy is made of a site's data, in place of an older one.
    fn copy_site(&mut self, node: NodeId) {
        self.world.crash(node);
        let image = self.world.shelf(node).image();
        if let (Some(image), Some(register)) = (image, self.register()) {
            let own = register.slot(node);
            register.images.insert(node, (own, image));
        }
    }

    /// A copy is made of a site's data, or put in their place.
    fn set_a_site_back(&mut self) {
        let drawn = self.drawn_node(SET_BACK);
        let is_any = self.world.tape_mut().choose(SET_BACK, 2) == 0;
        let Some(register) = self.register() else {
            return;
        };
        let returned = register.returned().filter(|_| !is_any);
        let node = returned.unwrap_or(drawn);
        let own = register.slot(node);
        let stays = register.staying().any(|it| it == own);
        let may_go = register.staying().filter(|it| *it != own).count() >= STAY_MIN;
        // Whoever is left out serves nobody: nobody misses it.
        let is_away = register.is_away(own);
        if !(stays || is_away) || register.set_back.contains_key(&own) {
            return;
        }
        let image = register.images.get(&node).cloned();
        match image {
            None => self.copy_site(node),
            Some((_, image)) if may_go || is_away => {
                // What a node had told of that is down nobody knows.
                let Some(scene) = self.world.node(node).map(Site::scene) else {
                    return;
                };
                self.world.crash(node);
                self.world.shelf(node).set_back(&image);
                self.forget_streams(node);
                let Some(islands) = &mut self.islands else {
                    return;
                };
                let until = islands.newest_shown(node);
                islands.forgets(node, scene);
                let through = None;
                let set_back = SetBack { until, through };
                islands.register.set_back.insert(own, set_back);
            }
            Some(_) => {}
        }
    }
}
