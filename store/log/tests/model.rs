//! Against a twin that is a vector per group: random calls, reopenings and crashes.

mod support;

use std::collections::BTreeMap;

use arbtest::arbitrary::{self, Unstructured};
use holm_base::{GroupId, Op, Term};
use holm_log::{Log, Urgency};
use holm_sequencer::Record;
use holm_virtual::{Storage, Survival};
use support::{Entry, body, kept, open, record};

/// What the log must hold of one group.
#[derive(Debug, Default)]
struct Twin {
    term: u64,
    cut: u64,
    entries: Vec<Entry>,
}

impl Twin {
    fn last(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.1)
    }
}

#[derive(Debug)]
struct World {
    storage: Storage,
    log: Log,
    twins: BTreeMap<u32, Twin>,
    opens: u64,
}

impl World {
    fn new() -> Self {
        let storage = Storage::new();
        let log = open(&storage).expect("a fresh log opens");
        Self {
            storage,
            log,
            twins: BTreeMap::new(),
            opens: 1,
        }
    }

    fn append(&mut self, u: &mut Unstructured<'_>, group: u32) -> arbitrary::Result<()> {
        let twin = self.twins.entry(group).or_default();
        let mut records = Vec::new();
        if u.ratio(1, 4)? {
            twin.term += u.int_in_range(1..=3)?;
            let term = Term::new(twin.term);
            records.push(Record::of_term(term));
        }
        for _ in 0..u.int_in_range(0..=8)? {
            let len = *u.choose(&[0, 1, 7, 300, 450, 900, 4000, 7000])?;
            let op = twin.last() + 1;
            records.push(record(twin.term, op, len));
            twin.entries.push((twin.term, op, body(op, len)));
        }
        let urgency = *u.choose(&[Urgency::Ordinary, Urgency::Reserve])?;
        self.log
            .flush(GroupId::new(group), &records, urgency)
            .expect("there is room");
        Ok(())
    }

    fn cut(&mut self, u: &mut Unstructured<'_>, group: u32) -> arbitrary::Result<()> {
        let twin = self.twins.entry(group).or_default();
        let through = u.int_in_range(0..=twin.last())?;
        twin.cut = twin.cut.max(through);
        self.log
            .cut(GroupId::new(group), Op::new(through))
            .expect("nothing fails");
        Ok(())
    }

    fn reopen(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let survival = *u.choose(&[
            Survival::Keep,
            Survival::Drop,
            Survival::Torn { seed: 1 },
            Survival::Reordered { seed: 2 },
        ])?;
        let storage = self.storage.reopen(survival);
        self.log = open(&storage).expect("between calls all is whole");
        self.storage = storage;
        self.opens += 1;
        assert_eq!(self.log.opens(), self.opens);
        Ok(())
    }

    fn close(&mut self) {
        let log = std::mem::replace(&mut self.log, open(&Storage::new()).expect("it opens"));
        log.close().expect("nothing fails");
        self.log = open(&self.storage).expect("a closed log opens");
        self.opens += 1;
        assert!(self.log.was_closed() || self.log.torn().value() == 0);
    }

    fn compare(&self) {
        for (&number, twin) in &self.twins {
            let group = GroupId::new(number);
            assert_eq!(self.log.hard(group).term.value(), twin.term);
            assert_eq!(self.log.last(group).value(), twin.last());
            // A cut that freed no segment is not durable, and need not be.
            let first = self.log.first(group).value();
            assert!(
                first <= twin.cut + 1,
                "op {first} is the oldest, {} was cut",
                twin.cut
            );
            let all = kept(&self.log, group);
            let expected = twin.entries.iter().filter(|entry| entry.1 >= first);
            assert!(all.iter().eq(expected), "group {number} from op {first}");
        }
    }
}

#[test]
fn the_log_is_a_vector_per_group() {
    arbtest::arbtest(|u| {
        let mut world = World::new();
        for _ in 0..u.int_in_range(1..=25)? {
            let group = *u.choose(&[1, 2, 3])?;
            match u.int_in_range(0..=9)? {
                0 => world.reopen(u)?,
                1 => world.close(),
                2 => world.cut(u, group)?,
                3 => {
                    world.log.prepare_next().expect("nothing fails");
                }
                _ => world.append(u, group)?,
            }
        }
        world.compare();
        Ok(())
    })
    .budget_ms(4_000);
}
