//! The table of members as a site's log takes it: bytes, and what a site goes by.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use holm_local_first::{
    Chain, Change, Charter, Dot, Hush, Intake, Island, Members, Message, Proposal, Roster, Session,
    Slot, Tip, Vector,
};

fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

fn members() -> Members {
    Members::new((1..=3).map(|number| (slot(number), 5)))
}

fn roster(members: &Members) -> Roster {
    let nodes = members.active().keys();
    Roster {
        members: members.clone(),
        nodes: nodes
            .map(|it| (*it, vec![u64::from(it.value()) * 10]))
            .collect(),
    }
}

fn encoded(entry: &Proposal) -> Bytes {
    let mut out = BytesMut::new();
    entry.encode(&mut out);
    out.freeze()
}

#[test]
fn a_charter_comes_back_as_it_was_and_only_newer_tables_count() {
    let first = members();
    let second = first.with(slot(4), 9).expect("it is new");
    let third = second
        .let_go(slot(2), 7, Chain([1; 32]))
        .expect("others stay");
    let mut charter = Charter::default();
    assert!(!charter.follow(roster(&first)), "it began with that");
    charter.stop(slot(2), 7);
    charter.stop(slot(2), 9);
    charter.stop(slot(3), 1);
    assert!(charter.follow(roster(&second)));
    assert_eq!(
        charter.limits(),
        BTreeMap::from([(slot(2), 7), (slot(3), 1)])
    );
    assert!(charter.follow(roster(&third)));
    assert!(!charter.follow(roster(&second)), "an older one");
    assert_eq!(charter.stops().len(), 1, "of 2 the table says it");
    assert_eq!(charter.limits()[&slot(2)], 7);
    charter.stop(slot(2), 3);
    assert_eq!(charter.limits()[&slot(2)], 7, "a stop that came late");
    assert_eq!(Charter::decode(charter.encode()), Ok(charter.clone()));
    let whole = charter.encode();
    for length in 0..whole.len() {
        assert!(Charter::decode(whole.slice(..length)).is_err(), "{length}");
    }
    charter.set_back_at(slot(2), 3);
    assert_eq!(charter.set_back(), None, "of 2 the table says it");
    charter.set_back_at(slot(4), 3);
    assert_eq!(charter.set_back(), Some(slot(4)));
    assert_eq!(charter.limits()[&slot(4)], 3);
    assert_eq!(Charter::decode(charter.encode()), Ok(charter.clone()));
    let whole = charter.encode();
    for length in 0..whole.len() {
        assert!(Charter::decode(whole.slice(..length)).is_err(), "{length}");
    }
    let mut unstopped = whole.to_vec();
    *unstopped.last_mut().expect("the slot") = 1;
    assert!(Charter::decode(Bytes::from(unstopped)).is_err());
    let fourth = third.let_go(slot(4), 3, Chain([2; 32]));
    assert!(charter.follow(roster(&fourth.expect("others stay"))));
    assert_eq!(charter.set_back(), None, "the table says it");
    for entry in [
        Proposal::Follow(roster(&third)),
        Proposal::Stop(slot(2)),
        Proposal::SetBack { run: 7 },
        Proposal::Rebase {
            session: 7,
            keys: 300,
        },
        Proposal::Hush {
            run: 7,
            hush: Hush {
                slot: slot(2),
                told: [(slot(2), (300, Chain([4; 32])))].into(),
            },
        },
        Proposal::Speak { run: 7 },
    ] {
        assert_eq!(Proposal::decode(&encoded(&entry)), Ok(entry));
    }
    assert!(first.let_go(slot(9), 1, Chain::default()).is_err());
    let one = Members::new([(slot(1), 0)]);
    assert!(
        one.let_go(slot(1), 1, Chain::default()).is_err(),
        "the last"
    );
}

#[test]
fn a_word_names_its_table_and_its_newest_update_and_an_old_one_is_read() {
    let word = Message::Beat {
        vector: Vector::new(),
        epoch: 7,
        head: Chain([3; 32]),
        chains: vec![9],
        asks: true,
        keeps_back: false,
    };
    let dot = Dot {
        slot: slot(3),
        seq: 9,
    };
    let mut kept_back = word.clone();
    if let Message::Beat { keeps_back, .. } = &mut kept_back {
        *keeps_back = true;
    }
    for message in [word, kept_back, Message::Forked { dot }] {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        assert_eq!(Message::decode(&out.freeze()), Ok(message));
    }
    let old = Message::Beat {
        vector: Vector::new(),
        epoch: 1,
        head: Chain::default(),
        chains: Vec::new(),
        asks: true,
        keeps_back: false,
    };
    assert_eq!(Message::decode(&Bytes::from_static(&[1, 1, 0, 1])), Ok(old));
}

#[test]
fn of_a_slot_that_does_not_go_on_only_what_counts_is_taken_in() {
    let (mut a, mut b) = (Island::new(slot(1), 1), Island::new(slot(2), 1));
    let delete = || Change::Delete {
        key: Bytes::from("k"),
    };
    let made = [1, 2].map(|ms| b.originate(vec![delete()], ms));
    a.follow(1, BTreeMap::from([(slot(2), 1)]));
    let Intake::Next(first) = a.judge(&made[0].bytes, 10) else {
        panic!("it counts");
    };
    a.take(&first);
    let dot = Dot {
        slot: slot(2),
        seq: 2,
    };
    assert_eq!(a.judge(&made[1].bytes, 10), Intake::Frozen(dot));
    let tips = |seq| {
        let tip = Tip {
            seq,
            ..Tip::default()
        };
        Session {
            id: 1,
            tips: BTreeMap::from([(slot(2), tip)]),
        }
    };
    assert!(a.may_join(&tips(1)) && !a.may_join(&tips(2)), "I12");
    assert!(!a.is_ended());
    a.follow(2, BTreeMap::from([(slot(1), 0)]));
    assert!(a.is_ended() && a.epoch() == 2);
}
