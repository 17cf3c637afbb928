//! A site that was left out is on its way back: whom it asks, and who waits for it.

use std::time::Duration;

use bytes::Bytes;
use holm_base::Time;
use holm_local_first::{
    Applied, Chain, Change, Charter, Config, Dot, Effect, Exchange, Input, Island, Members,
    Message, Note, Proposal, Roster, Slot, Tree, Vector,
};
use holm_machine::{Effects, Machine};

fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

fn vector(all: &[(u8, u64)]) -> Vector {
    let mut vector = Vector::new();
    all.iter().for_each(|it| vector.raise(slot(it.0), it.1));
    vector
}

/// An island that has taken in so much.
fn island(own: u8, all: &[(u8, u64)]) -> Island {
    let mut island = Island::new(slot(own), 1);
    for (number, seq) in all {
        let mut other = Island::new(slot(*number), 1);
        for _ in 0..*seq {
            let key = Bytes::from("k");
            let sealed = other.originate(vec![Change::Delete { key }], 500);
            island.take(&sealed);
        }
    }
    island
}

/// Sites 1 and 2 stay; 3 was left out and is taken in again as 6, and of 4 counts one update.
fn charter() -> Charter {
    let members = Members::new((1..=4).map(|it| (slot(it), 0)));
    let members = members.let_go(slot(3), 1, Chain::default());
    let members = members.and_then(|it| it.let_go(slot(4), 1, Chain::default()));
    let members = members.and_then(|it| it.taken_back(slot(3), slot(6), 0));
    let members = members.expect("two stay");
    let nodes = members.active().keys().map(|it| (*it, vec![1])).collect();
    let mut charter = Charter::default();
    assert!(charter.follow(Roster { members, nodes }));
    charter
}

struct Site {
    exchange: Exchange,
    now: Time,
}

impl Site {
    fn of(island: Island, charter: Charter) -> Self {
        let config = Config {
            peers: Vec::new(),
            push_every: Duration::ZERO,
            beat_every: Duration::from_secs(1),
            silence: Duration::from_secs(5),
            patience: Duration::from_secs(5),
            updates_max: 100,
            bytes_max: 1 << 20,
            boot: 1,
        };
        let exchange = Exchange::new(config, island);
        let now = Time::ZERO;
        let mut site = Self { exchange, now };
        site.step(Input::Applied(Applied::Followed(charter)));
        site.step(Input::Start);
        site
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Effects::new();
        self.exchange.step(self.now, input, &mut effects);
        effects.drain().collect()
    }

    fn told(&mut self, from: u8, message: Message) -> Vec<Effect> {
        let from = slot(from);
        self.step(Input::Message {
            from,
            message,
            unix_ms: 1_000,
        })
    }

    /// Another says how far it is; the session that this site opens with it, if it does.
    fn asks(&mut self, from: u8, all: &[(u8, u64)]) -> Option<u64> {
        session(&self.hears(from, all))
    }

    /// Another says how far it is.
    fn hears(&mut self, from: u8, all: &[(u8, u64)]) -> Vec<Effect> {
        self.hears_of(from, all, false)
    }

    fn hears_of(&mut self, from: u8, all: &[(u8, u64)], keeps_back: bool) -> Vec<Effect> {
        let epoch = charter().roster().expect("one").members.epoch();
        self.word(from, all, (epoch, keeps_back))
    }

    /// Another says so by a table.
    fn says(&mut self, from: u8, all: &[(u8, u64)], epoch: u32) -> Vec<Effect> {
        self.word(from, all, (epoch, false))
    }

    fn word(&mut self, from: u8, all: &[(u8, u64)], last: (u32, bool)) -> Vec<Effect> {
        let (epoch, keeps_back) = last;
        let vector = vector(all);
        let beat = Message::Beat {
            chains: vec![0; all.len()],
            vector,
            epoch,
            head: Chain::default(),
            asks: false,
            keeps_back,
        };
        self.told(from, beat)
    }
}

fn session(effects: &[Effect]) -> Option<u64> {
    effects.iter().find_map(|effect| match effect {
        Effect::Index { session } => Some(*session),
        _other => None,
    })
}

#[test]
fn who_comes_back_asks_none_that_has_what_does_not_count() {
    let mut site = Site::of(island(3, &[(1, 5), (3, 4)]), charter());
    assert_eq!(site.asks(1, &[(1, 5), (3, 1), (4, 2)]), None);
    assert!(site.asks(2, &[(1, 5), (3, 1), (4, 1)]).is_some());
}

#[test]
fn who_comes_back_waits_for_what_only_a_lost_site_has_until_that_is_closed() {
    let had = [(1, 5), (2, 3), (3, 4)];
    let mut site = Site::of(island(3, &had), charter());
    assert_eq!(site.asks(2, &[(1, 2), (2, 3), (3, 1)]), None, "1 stays");
    let mut stopped = charter();
    stopped.stop(slot(1), 5);
    let mut site = Site::of(island(3, &had), stopped);
    assert_eq!(site.asks(2, &[(1, 2), (2, 3), (3, 1)]), None, "1 is lost");
    // Others have it up to 2, and say so by the table that has closed it.
    let members = charter().roster().expect("one").members.clone();
    let members = members.let_go(slot(1), 2, Chain::default());
    let members = members.expect("others stay");
    let epoch = members.epoch();
    let nodes = members.active().keys().map(|it| (*it, vec![1])).collect();
    let mut closed = charter();
    assert!(closed.follow(Roster { members, nodes }));
    site.step(Input::Applied(Applied::Followed(closed)));
    let all = [(1, 1), (2, 3), (3, 1)];
    assert_eq!(site.asks(2, &all), None, "it may hear 1 yet");
    assert!(session(&site.says(2, &all, epoch)).is_some());
}

#[test]
fn what_counts_of_who_comes_back_is_not_made_again_while_one_may_have_it() {
    let mut site = Site::of(island(3, &[(3, 4), (4, 1)]), charter());
    assert_eq!(site.asks(1, &[]), None, "2 has not spoken");
    assert!(site.asks(2, &[(3, 1), (4, 1)]).is_some());
    let mut site = Site::of(island(3, &[(3, 4), (4, 1)]), charter());
    assert_eq!(site.asks(1, &[]), None);
    assert_eq!(session(&site.hears_of(2, &[], true)), None, "it has more");
    site.now = site.now + Duration::from_mins(1);
    assert_eq!(site.asks(1, &[]), None, "however long that lasts");
    assert!(site.asks(2, &[]).is_some(), "nobody has any");
}

#[test]
fn a_copy_of_before_a_return_asks_nobody_and_stops_itself() {
    let mut site = Site::of(island(3, &[(1, 5), (3, 4)]), charter());
    let whole = [(1, 5), (3, 1), (4, 1)];
    assert_eq!(site.asks(1, &whole), None, "2 may know more");
    let effects = site.hears(2, &[(1, 5), (3, 1), (4, 1), (6, 2)]);
    assert_eq!(session(&effects), None);
    let (slot, seq) = (slot(6), 2);
    assert!(effects.contains(&Effect::Note(Note::SetBack(Dot { slot, seq }))));
    let stop = Effect::Propose(Proposal::SetBack { run: 1 });
    assert!(effects.contains(&stop));
    assert_eq!(site.asks(1, &whole), None);
    // The next leader finds that in the log.
    let mut charter = charter();
    charter.set_back_at(slot, 0);
    let mut site = Site::of(island(3, &[(1, 5), (3, 4)]), charter);
    let effects = site.hears(2, &[(1, 5), (3, 1), (4, 1), (6, 2)]);
    assert!(!effects.contains(&stop), "it is stopped");
    assert_eq!(site.asks(1, &whole), None);
    assert_eq!(session(&effects), None);
}

#[test]
fn who_comes_back_asks_once_all_have_spoken_or_have_had_the_time() {
    let whole = [(1, 5), (3, 1), (4, 1)];
    let mut site = Site::of(island(3, &[(1, 5), (3, 4)]), charter());
    assert_eq!(site.asks(1, &whole), None);
    site.now = site.now + Duration::from_secs(5);
    assert!(site.asks(1, &whole).is_some(), "2 is cut off");
}

#[test]
fn who_is_back_says_how_far_it_is_together_with_what_it_made_again() {
    let mut site = Site::of(island(3, &[(1, 5), (3, 4)]), charter());
    let adopted = island(6, &[(1, 5), (3, 1), (4, 1)]);
    let mut own = adopted.clone();
    let said = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect {
            Effect::Send {
                message: Message::Beat { vector, .. },
                ..
            } => Some(vector.seq(slot(6))),
            _other => None,
        })
    };
    let effects = site.step(Input::Applied(Applied::Rebased(Box::new(adopted))));
    assert_eq!(said(&effects), None);
    let key = Bytes::from("k");
    let again = own.originate(vec![Change::Delete { key }], 500);
    let effects = site.step(Input::Applied(Applied::Update(again)));
    let spoke = site.step(Input::Wake);
    assert_eq!(said(&effects).or_else(|| said(&spoke)), Some(1));
}

#[test]
fn who_had_too_much_to_be_joined_is_not_asked_again_at_once() {
    let mut site = Site::of(island(1, &[(1, 5)]), charter());
    assert_eq!(site.asks(2, &[(2, 4)]), None);
    let truncated = Message::Truncated { slot: slot(2) };
    let opened = session(&site.told(2, truncated.clone()));
    let session_2 = opened.expect("it asks for what differs");
    let tree = Tree::default();
    let total = tree.total().short();
    site.step(Input::Indexed {
        session: session_2,
        tree,
    });
    let other = island(2, &[(2, 4), (4, 2)]);
    let opened = Message::Opened {
        session: session_2,
        tips: other.tips().clone(),
        total,
    };
    let effects = site.told(2, opened);
    assert_eq!(effects, [], "of 4 it has more than counts");
    assert_eq!(session(&site.told(2, truncated)), None, "it rests");
    assert_eq!(site.asks(6, &[(2, 4), (6, 1)]), None);
    let effects = site.told(6, Message::Truncated { slot: slot(2) });
    assert!(session(&effects).is_some(), "others are asked");
}

#[test]
fn who_is_on_its_way_back_is_not_waited_for_by_who_keeps_something_back() {
    // It leaves, so that it hears all others before it speaks.
    let mut charter = charter();
    charter.stop(slot(1), 1);
    let says = |charter: &Charter, had: &[(u8, u64)]| {
        let mut site = Site::of(island(1, had), charter.clone());
        let beat = Message::Beat {
            vector: Vector::new(),
            epoch: 1,
            head: Chain::default(),
            chains: Vec::new(),
            asks: false,
            keeps_back: false,
        };
        let speak = Effect::Propose(Proposal::Speak { run: 1 });
        site.told(2, beat).contains(&speak)
    };
    assert!(says(&charter, &[(1, 1)]), "6 says nothing until it is back");
    assert!(!says(&charter, &[(1, 1), (6, 1)]), "it is back");
    // A copy of before it was back stops itself, and is given up.
    charter.stop(slot(6), 1);
    assert!(says(&charter, &[(1, 1), (6, 1)]), "it is lost");
}
