//! Everything that could happen next, and choosing among it.

use holm_base::Time;
use holm_machine::{Label, Observe};

use crate::agenda::Entry;
use crate::node::Node;
use crate::order::Candidate;
use crate::world::{Item, Next, SCHEDULE, World};

/// Timers have no place in the agenda; this sets their numbers apart from all of its.
const TIMER_SEQ: u64 = 1 << 63;

impl<N: Node> World<N> {
    pub(crate) fn next_in_hunt(&mut self, reach_nanos: u64) -> Option<Next> {
        let mut candidates = std::mem::take(&mut self.candidates);
        self.gather(reach_nanos, &mut candidates);
        let next = self.choose(&candidates);
        self.candidates = candidates;
        next
    }

    fn choose(&mut self, candidates: &[(Candidate, Next)]) -> Option<Next> {
        let count = u32::try_from(candidates.len())
            .ok()
            .filter(|&count| count > 0)?;
        let choosing = &mut self.choosing;
        let picked = self.tape.decide(SCHEDULE, count, |_| {
            let list: Vec<Candidate> = candidates.iter().map(|(one, _)| *one).collect();
            let picked = choosing.as_mut().map_or(0, |choosing| choosing.pick(&list));
            u32::try_from(picked).expect("candidates are few")
        });
        let picked = usize::try_from(picked).expect("candidates are few");
        Some(candidates[picked].1)
    }

    /// All that is due within reach of the earliest, in timed order.
    fn gather(&mut self, reach_nanos: u64, into: &mut Vec<(Candidate, Next)>) {
        into.clear();
        let due = self.agenda.earliest().map(|(_, at)| at);
        let timer = self.timer.map(|(at, _)| at);
        let Some(earliest) = due.into_iter().chain(timer).min() else {
            return;
        };
        let last = Time::from_nanos(earliest.nanos().saturating_add(reach_nanos));
        for (slot, entry) in self.agenda.iter().filter(|(_, entry)| entry.at <= last) {
            let candidate = self.candidate(entry.at, entry.seq, &entry.item);
            into.push((candidate, Next::Slot(slot)));
        }
        for (node, process) in self.processes.iter().enumerate() {
            if let Some(at) = process.wake.filter(|&at| at <= last) {
                into.push((self.timer_of(node, at), Next::Timer(node)));
            }
        }
        into.sort_by_key(|(one, _)| (one.at, one.seq));
        self.keep_in_order(into);
    }

    /// Leaves of what keeps its order only the first: of one disk's flushes (I10), and of what
    /// is under way on a link that forbids overtaking.
    fn keep_in_order(&self, candidates: &mut Vec<(Candidate, Next)>) {
        let mut firsts: Vec<(usize, usize)> = Vec::new();
        candidates.retain(|(one, next)| {
            let pair = (one.source, one.target);
            let is_flush = matches!(next, Next::Slot(slot) if self.is_flush(*slot));
            let is_kept = is_flush || (one.is_message && !self.may_overtake(pair));
            if is_kept && firsts.contains(&pair) {
                return false;
            }
            if is_kept {
                firsts.push(pair);
            }
            true
        });
    }

    fn is_flush(&self, slot: usize) -> bool {
        let entry = self.agenda.entry(slot);
        entry.is_some_and(|entry| matches!(entry.item, Item::Synced { .. }))
    }

    fn may_overtake(&self, (source, target): (usize, usize)) -> bool {
        self.links[source * self.processes.len() + target].may_overtake()
    }

    fn timer_of(&self, node: usize, at: Time) -> Candidate {
        let index = u64::try_from(node).expect("nodes are few");
        self.own(node, at, TIMER_SEQ + index, &N::wake())
    }

    fn candidate(&self, at: Time, seq: u64, item: &Item<N>) -> Candidate {
        match item {
            Item::Deliver {
                source,
                target,
                input,
                ..
            } => self.delivery(at, seq, *source, *target, input),
            Item::Synced { node, through, .. } => self.own(*node, at, seq, &N::durable(*through)),
            Item::Worked { node, .. } => self.outside(at, seq, *node, "worked"),
            Item::Awake { node, .. } => self.outside(at, seq, *node, "awake"),
            Item::Errand { .. } => self.outside(at, seq, self.processes.len(), "errand"),
            Item::Alarm(_) => self.outside(at, seq, self.processes.len(), "alarm"),
            Item::Restart(node) => self.outside(at, seq, *node, "restart"),
            Item::Resume(node) => self.outside(at, seq, *node, "resume"),
            Item::Thaw(node) => self.outside(at, seq, *node, "thaw"),
            Item::Mend { target, .. } => self.outside(at, seq, *target, "mend"),
            Item::Hasten { target, .. } => self.outside(at, seq, *target, "hasten"),
        }
    }

    pub(crate) fn delivery(
        &self,
        at: Time,
        seq: u64,
        source: usize,
        target: usize,
        input: &N::Input,
    ) -> Candidate {
        // Only a hunt looks at labels, and making one may cost as much as a step.
        let label = if self.choosing.is_some() {
            self.label(target, input)
        } else {
            Label::plain("message", "any")
        };
        Candidate {
            at,
            seq,
            source,
            target,
            label,
            is_message: true,
        }
    }

    fn own(&self, node: usize, at: Time, seq: u64, input: &N::Input) -> Candidate {
        Candidate {
            at,
            seq,
            source: node,
            target: node,
            label: self.label(node, input),
            is_message: false,
        }
    }

    fn outside(&self, at: Time, seq: u64, target: usize, kind: &'static str) -> Candidate {
        Candidate {
            at,
            seq,
            source: self.processes.len(),
            target,
            label: Label::plain(kind, "world"),
            is_message: false,
        }
    }

    fn label(&self, node: usize, input: &N::Input) -> Label {
        // A scheduler that learns nothing does not look at it either.
        if self.choosing.is_some() && self.clocks.is_none() {
            return Label::plain("any", "any");
        }
        let driver = self.processes[node].driver.as_ref();
        driver.map_or(Label::plain("message", "down"), |driver| {
            Observe::label(driver.machine(), input)
        })
    }

    /// Tells the vector clocks of a delivery, and the scheduler of what it races with.
    pub(crate) fn witness(&mut self, one: Candidate, sent: &[u64]) {
        let Some(clocks) = self.clocks.as_mut().filter(|_| !sent.is_empty()) else {
            return;
        };
        for other in clocks.deliver(one, sent) {
            if let Some(choosing) = &mut self.choosing {
                choosing.learn(&one, &other);
            }
        }
    }

    /// Everything that could happen next, in timed order: for those who choose by hand.
    pub fn pending(&mut self) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        self.gather(u64::MAX, &mut candidates);
        candidates.into_iter().map(|(one, _)| one).collect()
    }

    fn find(&mut self, seq: u64) -> Option<Next> {
        if let Some(node) = seq.checked_sub(TIMER_SEQ) {
            let node = usize::try_from(node).ok()?;
            return (node < self.processes.len()).then_some(Next::Timer(node));
        }
        let mut slots = self.agenda.iter();
        let found = slots.find(|(_, entry)| entry.seq == seq)?;
        Some(Next::Slot(found.0))
    }

    /// Lets one of [`World::pending`] happen, by its `seq`, whatever is due before it.
    pub fn force(&mut self, seq: u64) -> Option<crate::world::Moment> {
        let next = self.find(seq)?;
        Some(self.execute(next))
    }

    /// Lets a pending message be lost, by its `seq`. Says whether there was one.
    pub fn lose(&mut self, seq: u64) -> bool {
        let Some(Next::Slot(slot)) = self.find(seq) else {
            return false;
        };
        let is_message = |(at, entry): (usize, &Entry<Item<N>>)| {
            at == slot && matches!(entry.item, Item::Deliver { .. })
        };
        let is_message = self.agenda.iter().any(is_message);
        if is_message {
            self.counts.lost += 1;
            self.agenda.take(slot);
        }
        is_message
    }

    /// Lets a pending message arrive once more than it would, by its `seq`. Says whether there
    /// was one.
    pub fn repeat(&mut self, seq: u64) -> bool {
        let found = self.agenda.iter().find(|(_, entry)| entry.seq == seq);
        let copy = found.map(|(_, entry)| (entry.at, entry.item.clone()));
        match copy {
            Some((at, item @ Item::Deliver { .. })) => {
                self.agenda.add(at, item);
                true
            }
            Some(_) | None => false,
        }
    }
}
