//! Two stories of one site: its data was set back to an older copy, and it wrote on.

use std::time::Duration;

use bytes::Bytes;
use holm_base::Time;
use holm_local_first::{
    Applied, Change, Charter, Config, Dot, Effect, Exchange, Input, Intake, Island, Members,
    Message, Note, Proposal, Roster, Session, Slot, Tree,
};
use holm_machine::{Effects, Machine};

fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

fn dot(number: u8, seq: u64) -> Dot {
    let slot = slot(number);
    Dot { slot, seq }
}

/// A site that writes by itself what it is told to.
struct Site {
    island: Island,
    exchange: Exchange,
    now: Time,
}

impl Site {
    fn of(number: u8, other: u8, island: Island) -> Self {
        Self::among(number, &[other], island)
    }

    fn among(number: u8, others: &[u8], island: Island) -> Self {
        let config = Config {
            peers: others.iter().map(|it| slot(*it)).collect(),
            push_every: Duration::ZERO,
            beat_every: Duration::from_secs(1),
            silence: Duration::from_secs(5),
            patience: Duration::from_secs(5),
            updates_max: 100,
            bytes_max: 1 << 20,
            boot: u64::from(number),
        };
        let exchange = Exchange::new(config, island.clone());
        let now = Time::ZERO;
        let mut site = Self {
            island,
            exchange,
            now,
        };
        site.step(Input::Start);
        site
    }

    /// One step, and what its log makes of it at once.
    fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Effects::new();
        self.exchange.step(self.now, input, &mut effects);
        let mut all: Vec<_> = effects.drain().collect();
        for effect in all.clone() {
            match effect {
                Effect::Propose(Proposal::Hush { hush, .. }) => self.island.hush_up(hush),
                Effect::Propose(Proposal::Speak { .. }) => {
                    self.island.speak();
                    all.extend(self.step(Input::Applied(Applied::Spoke)));
                }
                _other => {}
            }
        }
        all
    }

    /// The same site, begun anew.
    fn again(self, others: &[u8]) -> Self {
        let number = self.island.slot().value();
        let island = Island::decode(&self.island.encode()).expect("it was just written");
        Self::among(number, others, island)
    }

    fn write(&mut self) {
        let key = Bytes::from("k");
        let sealed = self.island.originate(vec![Change::Delete { key }], 1_000);
        self.step(Input::Applied(Applied::Update(sealed)));
    }

    fn told(&mut self, from: u8, message: Message) -> Vec<Effect> {
        self.step(Input::Message {
            from: slot(from),
            message,
            unix_ms: 1_000,
        })
    }

    /// What it says of itself.
    fn word(&mut self) -> Message {
        let vector = self.island.vector().clone();
        let head = self.island.tips().get(&self.island.slot());
        Message::Beat {
            vector,
            epoch: 1,
            head: head.map(|tip| tip.chain).unwrap_or_default(),
            chains: self
                .island
                .tips()
                .values()
                .map(|it| it.chain.short())
                .collect(),
            asks: false,
            keeps_back: false,
        }
    }
}

/// Site 1 that has two updates of itself, and site 2 that has taken them in.
fn pair() -> (Site, Site) {
    let (mut a, mut b) = (Island::new(slot(1), 1), Island::new(slot(2), 1));
    for _ in 0..2 {
        let key = Bytes::from("k");
        let sealed = a.originate(vec![Change::Delete { key }], 500);
        b.take(&sealed);
    }
    (Site::of(1, 2, a), Site::of(2, 1, b))
}

fn stops(effects: &[Effect]) -> bool {
    effects.contains(&Effect::Propose(Proposal::SetBack { run: 1 }))
}

#[test]
fn who_has_less_of_itself_than_another_takes_no_more_writes() {
    let (mut a, mut b) = pair();
    let word = b.word();
    assert!(!stops(&a.told(2, word.clone())), "nothing is wrong");
    let mut set_back = Site::of(1, 2, Island::new(slot(1), 1));
    set_back.write();
    let effects = set_back.told(2, word.clone());
    assert!(stops(&effects));
    assert!(effects.contains(&Effect::Note(Note::SetBack(dot(1, 2)))));
    assert!(!stops(&set_back.told(2, word)), "it was asked for");
}

#[test]
fn a_copy_on_its_way_out_says_that_it_is_one() {
    let (_, mut b) = pair();
    for number in [1, 2] {
        // Less of itself than another has; as much, and another story.
        let mut copy = Site::of(1, 2, Island::new(slot(1), 1));
        (0..number).for_each(|_| copy.write());
        let mut charter = Charter::default();
        charter.stop(slot(1), number);
        copy.step(Input::Applied(Applied::Followed(charter.clone())));
        assert!(!copy.exchange.is_set_back());
        let dot = dot(1, 2);
        let heard = if number == 1 {
            b.word()
        } else {
            Message::Forked { dot }
        };
        assert!(stops(&copy.told(2, heard.clone())));
        assert!(copy.exchange.is_set_back(), "before its log has it");
        charter.set_back_at(slot(1), number);
        copy.step(Input::Applied(Applied::Followed(charter.clone())));
        copy.now = copy.now + Duration::from_secs(5);
        assert!(!stops(&copy.told(2, heard)), "its log has it");
        assert!(copy.exchange.is_set_back());
        // Another node leads the site, and has heard nobody.
        let mut next = Site::of(1, 2, copy.island.clone());
        assert_eq!(next.exchange.judged(slot(2)), None);
        next.step(Input::Applied(Applied::Followed(charter)));
        assert!(next.exchange.is_set_back());
    }
}

#[test]
fn who_tells_another_story_is_told_so_until_it_heard_and_takes_no_more_writes() {
    for written in [2, 3] {
        let (_, mut b) = pair();
        let mut other = Site::of(1, 2, Island::new(slot(1), 1));
        (0..written).for_each(|_| other.write());
        let mut says = |b: &mut Site| {
            let effects = b.told(1, other.word());
            if written == 2 {
                return effects;
            }
            // It pulls what it seems to lack, and that does not follow on what it has.
            let updates = vec![other.third()];
            let slot = slot(1);
            b.told(1, Message::Updates { slot, updates })
        };
        let effects = says(&mut b);
        let dot = dot(1, u64::from(u8::try_from(written).expect("a few")));
        let note = Effect::Note(Note::Forked(dot));
        assert!(effects.contains(&note), "{effects:?}");
        let to = slot(1);
        let message = Message::Forked { dot };
        let told = Effect::Send { to, message };
        assert!(effects.contains(&told));
        assert!(!says(&mut b).contains(&told), "it may have heard");
        // That was lost.
        b.now = b.now + Duration::from_secs(5);
        let effects = says(&mut b);
        assert!(effects.contains(&told), "{effects:?}");
        assert!(!effects.contains(&note), "it is noted once");
        assert!(stops(&other.told(2, Message::Forked { dot })));
    }
}

impl Site {
    /// The third update that it made.
    fn third(&self) -> Bytes {
        let mut again = Island::new(slot(1), 1);
        let key = || Bytes::from("k");
        let all = (0..3).map(|_| again.originate(vec![Change::Delete { key: key() }], 1_000));
        all.last().expect("three").bytes
    }
}

/// Site 3, and with it sites 2 and 3 that took in another second update each of site 1.
fn parted() -> (Site, Site) {
    let key = || Bytes::from("k");
    let mut one = Island::new(slot(1), 1);
    let (mut b, mut c) = (Island::new(slot(2), 1), Island::new(slot(3), 1));
    let first = one.originate(vec![Change::Delete { key: key() }], 500);
    let mut other = one.clone();
    let second = one.originate(vec![Change::Delete { key: key() }], 501);
    let another = other.originate(vec![Change::Delete { key: key() }], 502);
    b.take(&first);
    b.take(&second);
    c.take(&first);
    c.take(&another);
    (Site::of(2, 3, b), Site::of(3, 2, c))
}

/// What sites 2 and 3 go by once site 1 was let go, of whose updates two count.
fn without_the_first(last: &Site) -> Charter {
    let members = Members::new((1..=3).map(|it| (slot(it), 0)));
    let chain = last.island.tips()[&slot(1)].chain;
    let members = members.let_go(slot(1), 2, chain).expect("others stay");
    let nodes = [(slot(2), vec![2]), (slot(3), vec![3])].into();
    let mut charter = Charter::default();
    assert!(charter.follow(Roster { members, nodes }));
    charter
}

#[test]
fn two_that_know_another_story_of_a_third_each_notice_it() {
    let (mut b, mut c) = parted();
    let (from_b, from_c) = (b.word(), c.word());
    let note = Effect::Note(Note::Forked(dot(1, 2)));
    assert!(b.told(3, from_c).contains(&note));
    assert!(c.told(2, from_b.clone()).contains(&note));
    assert!(!b.told(3, from_b).contains(&note), "it agrees with itself");
}

#[test]
fn a_site_hears_from_one_that_has_another_newest_update_of_it() {
    let (b, mut c) = parted();
    let mut one = Site::of(1, 3, {
        let mut one = Island::new(slot(1), 1);
        let key = || Bytes::from("k");
        one.originate(vec![Change::Delete { key: key() }], 500);
        one.originate(vec![Change::Delete { key: key() }], 501);
        one
    });
    assert_eq!(
        one.island.tips()[&slot(1)].chain,
        b.island.tips()[&slot(1)].chain
    );
    let word = c.word();
    let effects = one.told(3, word);
    assert!(stops(&effects), "{effects:?}");
}

#[test]
fn who_has_another_story_than_the_one_that_counts_takes_no_more_writes() {
    let (mut b, mut c) = parted();
    let charter = without_the_first(&b);
    let followed = || Input::Applied(Applied::Followed(charter.clone()));
    let stop = Effect::Propose(Proposal::SetBack { run: 3 });
    let effects = c.step(followed());
    assert!(effects.contains(&stop), "{effects:?}");
    assert!(effects.contains(&Effect::Note(Note::Astray(dot(1, 2)))));
    let stop = Effect::Propose(Proposal::SetBack { run: 2 });
    assert!(!b.step(followed()).contains(&stop), "what it has counts");
    assert!(!b.told(3, c.word()).contains(&stop), "what it has counts");
}

#[test]
fn who_has_more_of_a_slot_than_counts_takes_no_more_writes() {
    let (b, mut c) = parted();
    let members = Members::new((1..=3).map(|it| (slot(it), 0)));
    let nodes = [(slot(2), vec![2]), (slot(3), vec![3])];
    let followed = |through| {
        let chain = b.island.tips()[&slot(1)].chain;
        let members = members.let_go(slot(1), through, chain);
        let (members, nodes) = (members.expect("others stay"), nodes.clone().into());
        let mut charter = Charter::default();
        assert!(charter.follow(Roster { members, nodes }));
        Input::Applied(Applied::Followed(charter))
    };
    let stop = Effect::Propose(Proposal::SetBack { run: 3 });
    assert!(!c.step(followed(3)).contains(&stop), "it may be on the way");
    let effects = c.step(followed(1));
    assert!(effects.contains(&stop), "{effects:?}");
    assert!(effects.contains(&Effect::Note(Note::Astray(dot(1, 2)))));
}

#[test]
fn who_is_behind_in_another_story_notices_where_they_part() {
    let (mut b, mut c) = parted();
    let key = Bytes::from("k");
    let mut one = Island::new(slot(1), 1);
    let all =
        [500, 501, 502].map(|at| one.originate(vec![Change::Delete { key: key.clone() }], at));
    b.island.take(&all[2]);
    b.step(Input::Applied(Applied::Update(all[2].clone())));
    let members = Members::new((1..=3).map(|it| (slot(it), 0)));
    let members = members
        .let_go(slot(1), 3, all[2].chain)
        .expect("others stay");
    let nodes = [(slot(2), vec![2]), (slot(3), vec![3])].into();
    let mut charter = Charter::default();
    assert!(charter.follow(Roster { members, nodes }));
    let effects = c.step(Input::Applied(Applied::Followed(charter)));
    let stop = Effect::Propose(Proposal::SetBack { run: 3 });
    assert!(
        !effects.contains(&stop),
        "it may have the beginning of what counts"
    );
    c.told(2, b.word());
    let updates = vec![all[2].bytes.clone()];
    let effects = c.told(
        2,
        Message::Updates {
            slot: slot(1),
            updates,
        },
    );
    assert!(effects.contains(&stop), "{effects:?}");
}

/// The most that a site says of itself in these.
fn says(effects: &[Effect]) -> Option<u64> {
    let seqs = effects.iter().filter_map(|effect| match effect {
        Effect::Send {
            message: Message::Beat { vector, .. },
            ..
        } => Some(vector.seq(slot(1))),
        _other => None,
    });
    seqs.max()
}

/// Whether updates are handed on.
fn hands_on(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| {
        matches!(effect, Effect::Send { message: Message::Updates { updates, .. }, .. }
            if !updates.is_empty())
    })
}

impl Site {
    /// It writes; the bytes of that, and what it does about it.
    fn writes(&mut self) -> (Bytes, Vec<Effect>) {
        let key = Bytes::from("k");
        let sealed = self.island.originate(vec![Change::Delete { key }], 1_000);
        let bytes = sealed.bytes.clone();
        (bytes, self.step(Input::Applied(Applied::Update(sealed))))
    }

    /// What it answers to who asks for updates of it.
    fn asked(&mut self, found: &Bytes) -> Vec<Effect> {
        self.step(Input::Found {
            to: slot(2),
            slot: slot(1),
            updates: Some(vec![found.clone()]),
        })
    }
}

#[test]
fn who_begins_hands_on_nothing_new_of_itself_until_it_has_heard_the_others() {
    for heard in [&[2, 3][..], &[2], &[]] {
        let (a, mut b) = pair();
        let mut a = a.again(&[2, 3]);
        let (third, effects) = a.writes();
        assert!(!hands_on(&effects) && !hands_on(&a.asked(&third)));
        a.now = a.now + Duration::from_secs(1);
        assert_eq!(says(&a.step(Input::Wake)), Some(2));
        let (mut effects, word) = (Vec::new(), b.word());
        for from in heard {
            effects = a.told(*from, word.clone());
        }
        assert_eq!(says(&effects), (heard.len() == 2).then_some(3));
        a.now = a.now + Duration::from_secs(5);
        let effects = a.step(Input::Wake);
        // Whom nobody speaks to, nobody would hear.
        let is_over = !heard.is_empty();
        assert_eq!(says(&effects), Some(if is_over { 3 } else { 2 }));
        assert_eq!(hands_on(&a.asked(&third)), is_over);
    }
}

#[test]
fn what_a_site_with_an_older_copy_wrote_since_stays_there() {
    let (_, mut b) = pair();
    let mut a = Site::of(1, 2, Island::new(slot(1), 1));
    let (first, _) = a.writes();
    assert!(stops(&a.told(2, b.word())));
    for _ in 0..3 {
        a.now = a.now + Duration::from_secs(5);
        assert_eq!(says(&a.step(Input::Wake)), Some(0));
        assert!(!hands_on(&a.asked(&first)));
    }
}

#[test]
fn what_a_run_wrote_that_ended_unheard_is_kept_back_by_the_next() {
    let (_, mut b) = pair();
    let mut a = Site::of(1, 2, Island::new(slot(1), 1));
    let written = [a.writes(), a.writes(), a.writes()].map(|it| it.0);
    for _ in 0..2 {
        a = a.again(&[2]);
        a.now = a.now + Duration::from_secs(10);
        assert_eq!(says(&a.step(Input::Wake)), Some(0));
        assert!(written.iter().all(|it| !hands_on(&a.asked(it))));
    }
    // It has more of itself than the other, but nothing that the other could have heard.
    assert!(stops(&a.told(2, b.word())));
}

#[test]
fn who_has_told_all_that_it_has_is_believed_by_the_next_run() {
    let (a, mut b) = pair();
    let mut a = a.again(&[2]);
    a.told(2, b.word());
    let key = Bytes::from("k");
    for _ in 0..2 {
        let sealed = a
            .island
            .originate(vec![Change::Delete { key: key.clone() }], 900);
        b.island.take(&sealed);
        a.step(Input::Applied(Applied::Update(sealed)));
    }
    let mut a = a.again(&[2]);
    let effects = a.told(2, b.word());
    assert!(!stops(&effects), "{effects:?}");
    assert_eq!(says(&effects), Some(4));
}

#[test]
fn who_keeps_back_another_story_hears_of_it_where_it_begins() {
    let (mut b, _) = parted();
    let key = Bytes::from("k");
    let mut one = Island::new(slot(1), 1);
    one.originate(vec![Change::Delete { key: key.clone() }], 500);
    one.originate(vec![Change::Delete { key }], 502);
    let mut a = Site::of(1, 2, one);
    a.writes();
    let effects = a.told(2, b.word());
    assert!(
        effects.contains(&Effect::Note(Note::SetBack(dot(1, 2)))),
        "{effects:?}"
    );
}

#[test]
fn a_site_that_was_set_back_tells_its_second_story_in_no_later_run() {
    let (_, mut b) = pair();
    let mut a = Site::among(1, &[2, 3], Island::new(slot(1), 1));
    let (first, _) = a.writes();
    assert!(stops(&a.told(2, b.word())));
    a.island.follow(1, [(slot(1), 1)].into());
    let mut a = a.again(&[2, 3]);
    a.island.follow(1, [(slot(1), 1)].into());
    let charter = {
        let mut charter = Charter::default();
        charter.stop(slot(1), 1);
        charter
    };
    a.step(Input::Applied(Applied::Followed(charter)));
    // One speaks that knows nothing of it, and the other not at all.
    let word = Site::of(3, 1, Island::new(slot(3), 1)).word();
    a.told(3, word);
    for _ in 0..3 {
        a.now = a.now + Duration::from_secs(5);
        assert_eq!(says(&a.step(Input::Wake)), Some(0));
        assert!(!hands_on(&a.asked(&first)));
    }
}

#[test]
fn who_keeps_something_back_takes_in_nothing_that_saw_another_story_of_it() {
    let mut a = Site::of(1, 2, Island::new(slot(1), 1));
    (0..3).for_each(|_| drop(a.writes()));
    // The other has seen two of the first story, and writes.
    let (_, mut b) = pair();
    let (after, _) = b.writes();
    let session = |of: &Island| Session {
        id: 1,
        tips: of.tips().clone(),
    };
    assert_eq!(a.island.judge(&after, 1_000), Intake::Forked(dot(1, 2)));
    assert!(!a.island.may_join(&session(&b.island)));
    let updates = vec![after];
    let effects = a.told(
        2,
        Message::Updates {
            slot: slot(2),
            updates,
        },
    );
    assert!(stops(&effects), "{effects:?}");
    // Of what it was told itself it may hear.
    let (mut a, mut b) = pair();
    a.writes();
    let (after, _) = b.writes();
    assert!(matches!(a.island.judge(&after, 1_000), Intake::Next(_)));
    assert!(a.island.may_join(&session(&b.island)));
}

#[test]
fn who_keeps_something_back_says_of_nobody_that_it_has_more() {
    let (_, mut b) = pair();
    let (a, _) = pair();
    let mut a = a.again(&[2, 3]);
    a.writes();
    // It has that only after its own.
    let (third, _) = b.writes();
    let Intake::Next(sealed) = a.island.judge(&third, 1_000) else {
        panic!("it is the next");
    };
    a.island.take(&sealed);
    a.step(Input::Applied(Applied::Update(sealed)));
    a.now = a.now + Duration::from_secs(1);
    let said = |effects: &[Effect]| {
        effects.iter().rev().find_map(|effect| match effect {
            Effect::Send {
                message:
                    Message::Beat {
                        vector, keeps_back, ..
                    },
                ..
            } => Some((vector.seq(slot(1)), vector.seq(slot(2)), *keeps_back)),
            _other => None,
        })
    };
    assert_eq!(said(&a.step(Input::Wake)), Some((2, 0, true)));
    let word = b.word();
    a.told(3, word.clone());
    let both = said(&a.told(2, word));
    assert_eq!(both, Some((3, 1, false)), "then both at once");
}

#[test]
fn who_was_set_back_and_is_to_come_back_takes_what_others_have_of_it() {
    for is_begun_anew in [false, true] {
        let (_, mut b) = pair();
        let mut a = Site::of(1, 2, Island::new(slot(1), 1));
        a.writes();
        let members = Members::new([1, 2].map(|it| (slot(it), 0)));
        let chain = b.island.tips()[&slot(1)].chain;
        let members = members.let_go(slot(1), 2, chain).expect("one stays");
        let members = members.taken_back(slot(1), slot(3), 0).expect("it is new");
        let nodes = [(slot(2), vec![2]), (slot(3), vec![1])].into();
        let mut charter = Charter::default();
        assert!(charter.follow(Roster { members, nodes }));
        let followed = Input::Applied(Applied::Followed(charter));
        a.step(followed.clone());
        if is_begun_anew {
            // Its log has ended the silence with that table.
            a.island.speak();
            let island = a.island.clone();
            a = Site::among(1, &[2], island);
            a.step(followed);
        }
        let opens = |effects: &[Effect]| {
            let opened = |it: &&Effect| matches!(it, Effect::Index { .. });
            let found = effects.iter().find(opened).cloned();
            found.map(|it| match it {
                Effect::Index { session } => session,
                _other => unreachable!("it was asked for"),
            })
        };
        let effects = a.told(2, b.word());
        let session = opens(&effects).expect("it asks for what the other has");
        let tree = Tree::default();
        let total = tree.total().short();
        a.step(Input::Indexed { session, tree });
        let id = session;
        let tips = b.island.tips().clone();
        let opened = Message::Opened {
            session,
            tips: tips.clone(),
            total,
        };
        let effects = a.told(2, opened);
        let begin = Effect::Propose(Proposal::Begin(Session { id, tips }));
        assert!(effects.contains(&begin), "{effects:?}");
    }
}
