//! Everything that could happen next, and choosing among it.

use holm_base::Time;
use holm_machine::{Label, Observe};

use crate::agenda::Entry;
use crate::node::Node;
use crate::order::{Candidate, Choosing};
use crate::tape::Tape;
use crate::world::{Item, Next, SCHEDULE, World};

/// Timers have no place in the agenda; this sets their numbers apart from all of its.
const TIMER_SEQ: u64 = 1 << 63;

/// Something that could happen next, without what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    at: Time,
    seq: u64,
    next: Next,
}

fn timer_seq(node: usize) -> u64 {
    TIMER_SEQ + u64::try_from(node).expect("nodes are few")
}

impl<N: Node> World<N> {
    pub(crate) fn next_in_hunt(&mut self, reach_nanos: u64) -> Option<Next> {
        let mut due = std::mem::take(&mut self.due);
        self.gather(reach_nanos, &mut due);
        let next = self.choose(&due);
        self.due = due;
        next
    }

    fn choose(&mut self, due: &[Due]) -> Option<Next> {
        let count = u32::try_from(due.len()).ok().filter(|&count| count > 0)?;
        // Both are needed beside the rest of the world; neither is looked at meanwhile.
        let mut tape = std::mem::replace(&mut self.tape, Tape::normal());
        let mut choosing = self.choosing.take();
        let picked = tape.decide(SCHEDULE, count, |_| {
            let picked = match &mut choosing {
                None => 0,
                Some(Choosing::Random(prng)) => prng.below(u64::from(count)),
                Some(choosing) => {
                    let has_labels = choosing.races().is_some();
                    let list = due.iter().map(|one| self.candidate_of(one, has_labels));
                    let list: Vec<Candidate> = list.collect();
                    u64::try_from(choosing.pick(&list)).expect("candidates are few")
                }
            };
            u32::try_from(picked).expect("candidates are few")
        });
        (self.tape, self.choosing) = (tape, choosing);
        let picked = usize::try_from(picked).expect("candidates are few");
        Some(due[picked].next)
    }

    /// All that is due within reach of the earliest, in timed order.
    fn gather(&mut self, reach_nanos: u64, into: &mut Vec<Due>) {
        into.clear();
        let due = self.agenda.earliest().map(|(_, at)| at);
        let timer = self.timer.map(|(at, _)| at);
        let Some(earliest) = due.into_iter().chain(timer).min() else {
            return;
        };
        let last = Time::from_nanos(earliest.nanos().saturating_add(reach_nanos));
        self.agenda.each_until(last, |slot, entry| {
            into.push(Due {
                at: entry.at,
                seq: entry.seq,
                next: Next::Slot(slot),
            });
        });
        for (node, process) in self.processes.iter().enumerate() {
            if let Some(at) = process.wake.filter(|&at| at <= last) {
                into.push(Due {
                    at,
                    seq: timer_seq(node),
                    next: Next::Timer(node),
                });
            }
        }
        into.sort_unstable_by_key(|one| (one.at, one.seq));
        self.keep_in_order(into);
    }

    /// Leaves of what keeps its order only the first: of one disk's flushes (I10), and of what
    /// is under way on a link that forbids overtaking.
    fn keep_in_order(&self, due: &mut Vec<Due>) {
        let mut firsts: Vec<(usize, usize)> = Vec::with_capacity(8);
        due.retain(|one| {
            let Some(pair) = self.queue_of(one.next) else {
                return true;
            };
            let is_first = !firsts.contains(&pair);
            if is_first {
                firsts.push(pair);
            }
            is_first
        });
    }

    /// What keeps its order among its own kind, and which kind that is.
    fn queue_of(&self, next: Next) -> Option<(usize, usize)> {
        let Next::Slot(slot) = next else { return None };
        match self.agenda.entry(slot)?.item {
            Item::Synced { node, .. } => Some((node, node)),
            Item::Deliver { source, target, .. } => {
                (!self.may_overtake((source, target))).then_some((source, target))
            }
            Item::Ran { .. }
            | Item::Awake { .. }
            | Item::WriterAwake { .. }
            | Item::WorkerAwake { .. }
            | Item::GoesOn { .. }
            | Item::OwnAwake { .. }
            | Item::Alarm(_)
            | Item::Restart(_)
            | Item::Resume(_)
            | Item::Thaw(_)
            | Item::Empty(_)
            | Item::Mend { .. }
            | Item::Hasten { .. } => None,
        }
    }

    fn candidate_of(&self, due: &Due, has_labels: bool) -> Candidate {
        match due.next {
            Next::Timer(node) => self.own(node, due.at, due.seq, &N::wake(), has_labels),
            Next::Slot(slot) => {
                let entry = self.agenda.entry(slot).expect("it is due, so it is there");
                self.candidate(due, &entry.item, has_labels)
            }
        }
    }

    fn may_overtake(&self, (source, target): (usize, usize)) -> bool {
        self.links[source * self.processes.len() + target].may_overtake()
    }

    fn candidate(&self, due: &Due, item: &Item<N>, has_labels: bool) -> Candidate {
        let outside = |target: usize, kind| self.outside(due, target, kind);
        match item {
            Item::Deliver {
                source,
                target,
                input,
                ..
            } => Candidate {
                source: *source,
                is_message: true,
                ..self.own(*target, due.at, due.seq, input, has_labels)
            },
            Item::Synced { node, through, .. } => {
                let input = N::durable(*through);
                self.own(*node, due.at, due.seq, &input, has_labels)
            }
            Item::Ran { .. } => outside(self.processes.len(), "ran"),
            Item::Awake { node, .. } => outside(*node, "awake"),
            Item::WriterAwake { node, .. } => outside(*node, "writer"),
            Item::WorkerAwake { node, .. } => outside(*node, "worker"),
            Item::GoesOn { node, .. } => outside(*node, "worker"),
            Item::OwnAwake { node, .. } => outside(*node, "own"),
            Item::Alarm(_) => outside(self.processes.len(), "alarm"),
            Item::Restart(node) => outside(*node, "restart"),
            Item::Resume(node) => outside(*node, "resume"),
            Item::Thaw(node) => outside(*node, "thaw"),
            Item::Empty(node) => outside(*node, "empty"),
            Item::Mend { target, .. } => outside(*target, "mend"),
            Item::Hasten { target, .. } => outside(*target, "hasten"),
        }
    }

    /// What happens at a node, caused by itself.
    fn own(
        &self,
        node: usize,
        at: Time,
        seq: u64,
        input: &N::Input,
        has_labels: bool,
    ) -> Candidate {
        Candidate {
            at,
            seq,
            source: node,
            target: node,
            // Making one may cost as much as a step.
            label: if has_labels {
                self.label(node, input)
            } else {
                Label::plain("any", "any")
            },
            is_message: false,
        }
    }

    fn outside(&self, due: &Due, target: usize, kind: &'static str) -> Candidate {
        Candidate {
            at: due.at,
            seq: due.seq,
            source: self.processes.len(),
            target,
            label: Label::plain(kind, "world"),
            is_message: false,
        }
    }

    fn label(&self, node: usize, input: &N::Input) -> Label {
        let driver = self.processes[node].driver.as_ref();
        driver.map_or(Label::plain("message", "down"), |driver| {
            Observe::label(driver.machine(), input)
        })
    }

    /// A delivery as vector clocks and onlookers see it; none if there are neither.
    #[inline]
    pub(crate) fn delivery(
        &self,
        (at, seq): (Time, u64),
        source: usize,
        target: usize,
        input: &N::Input,
    ) -> Option<Candidate> {
        self.clocks.as_ref()?;
        Some(Candidate {
            source,
            is_message: true,
            ..self.own(target, at, seq, input, true)
        })
    }

    /// Notes for the onlooker, if there is one, what a node did by itself.
    pub(crate) fn observe_own(&mut self, node: usize, input: &N::Input) {
        if self.timeline.is_some() {
            let label = self.label(node, input);
            self.note_label(node, label);
        }
    }

    pub(crate) fn note_label(&mut self, node: usize, label: Label) {
        if let Some(timeline) = &mut self.timeline {
            timeline.happened(node, label);
        }
    }

    /// Tells the vector clocks of a delivery, and the scheduler of what it races with.
    pub(crate) fn witness(&mut self, one: Candidate, sent: &[u64]) {
        self.note_label(one.target, one.label);
        let Some(clocks) = self.clocks.as_mut().filter(|_| !sent.is_empty()) else {
            return;
        };
        let racing = clocks.deliver(one, sent);
        if let Some(choosing) = &mut self.choosing {
            choosing.learn(&one, &racing);
        }
        if let Some(timeline) = &mut self.timeline {
            for other in racing {
                timeline.raced(other.label, one.label);
            }
        }
    }

    /// Everything that could happen next, in timed order: for those who choose by hand.
    pub fn pending(&mut self) -> Vec<Candidate> {
        let mut due = Vec::new();
        self.gather(u64::MAX, &mut due);
        due.iter().map(|one| self.candidate_of(one, true)).collect()
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
