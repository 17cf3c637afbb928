//! Finding differences by ranges: random sets against a full comparison, and what a million keys
//! cost in bytes and messages.

use std::collections::{BTreeMap, BTreeSet};

use arbtest::arbtest;
use bytes::Bytes;
use holm_base::Prng;
use holm_local_first::{Claim, DecodeError, Digest, Index, Ranges, Short, Sum};

/// Keys in order, and the sum of all before each place.
struct Sorted {
    keys: Vec<(Bytes, Digest)>,
    before: Vec<Sum>,
}

impl Sorted {
    fn new(keys: &BTreeMap<Bytes, u64>) -> Self {
        let digest = |(key, state): (&Bytes, &u64)| {
            let digest = Digest::of(key, &state.to_le_bytes());
            (key.clone(), digest)
        };
        Self::of(keys.iter().map(digest).collect())
    }

    fn of(keys: Vec<(Bytes, Digest)>) -> Self {
        let mut before = vec![Sum::default()];
        for (_, digest) in &keys {
            before.push(before[before.len() - 1].with(digest));
        }
        Self { keys, before }
    }

    fn places(&self, from: &[u8], to: &[u8]) -> (usize, usize) {
        let place = |bound: &[u8]| self.keys.partition_point(|(key, _)| **key < *bound);
        let end = if to.is_empty() {
            self.keys.len()
        } else {
            place(to)
        };
        (place(from).min(end), end)
    }
}

impl Index for Sorted {
    fn sum(&self, from: &[u8], to: &[u8]) -> Sum {
        let (begin, end) = self.places(from, to);
        self.before[end].minus(&self.before[begin])
    }

    fn key(&self, from: &[u8], to: &[u8], place: u64) -> Option<Bytes> {
        let (begin, end) = self.places(from, to);
        let found = &self.keys[begin..end].get(usize::try_from(place).ok()?)?;
        Some(found.0.clone())
    }

    fn list(&self, from: &[u8], to: &[u8]) -> Vec<(Bytes, Short)> {
        let (begin, end) = self.places(from, to);
        let keys = self.keys[begin..end].iter();
        keys.map(|(key, digest)| (key.clone(), digest.short()))
            .collect()
    }
}

/// What two sides said to each other.
#[derive(Debug, Default)]
struct Talk {
    bytes: usize,
    messages: usize,
    differing: BTreeSet<Bytes>,
}

/// Lets the first side ask, through bytes, until nothing is left to be said.
fn talk(asker: &Sorted, other: &Sorted) -> Talk {
    // The other side has said what it amounts to.
    let mut talk = Talk {
        bytes: 16,
        messages: 1,
        ..Talk::default()
    };
    let mut said = Ranges::first(asker, &other.sum(b"", b"").short());
    for index in [other, asker].into_iter().cycle() {
        if said.is_empty() {
            return talk;
        }
        let bytes = said.encode();
        talk.bytes += bytes.len();
        talk.messages += 1;
        let heard = Ranges::decode(bytes).expect("what was written can be read");
        assert_eq!(heard, said);
        let answer = heard.answer(index);
        talk.differing.extend(answer.differing);
        said = answer.ranges;
    }
    unreachable!("somebody ends it")
}

fn expected(one: &BTreeMap<Bytes, u64>, other: &BTreeMap<Bytes, u64>) -> BTreeSet<Bytes> {
    let all = one.keys().chain(other.keys());
    let differ = all.filter(|key| one.get(*key) != other.get(*key));
    differ.cloned().collect()
}

#[test]
fn random_sets_are_told_apart_exactly() {
    let mut found = 0;
    arbtest(|choose| {
        let seed: u64 = choose.arbitrary()?;
        let size = choose.int_in_range(0..=600)?;
        let mut prng = Prng::new(seed | 1);
        let mut one = BTreeMap::new();
        for _ in 0..size {
            let length = usize::try_from(1 + prng.below(3)).expect("small");
            let key: Vec<u8> = (0..length)
                .map(|_| b"abcd\0\xff"[usize::try_from(prng.below(6)).expect("small")])
                .collect();
            one.insert(Bytes::from(key), prng.below(3));
        }
        let mut other = one.clone();
        for _ in 0..choose.int_in_range(0..=40)? {
            let key = one
                .keys()
                .nth(usize::try_from(prng.below(600)).expect("small"))
                .cloned();
            match (prng.below(3), key) {
                (0, Some(key)) => drop(other.remove(&key)),
                (1, Some(key)) => drop(other.insert(key, 7)),
                _ => drop(other.insert(Bytes::from(format!("new{}", prng.below(99))), 1)),
            }
        }
        let talk = talk(&Sorted::new(&one), &Sorted::new(&other));
        assert_eq!(talk.differing, expected(&one, &other));
        found += talk.differing.len();
        Ok(())
    })
    .budget_ms(2_000);
    assert!(found > 1_000, "{found}");
}

#[test]
fn a_million_keys_cost_what_their_differences_cost() {
    let key = |number: u64| Bytes::from(format!("/registry/pods/{:05}/{number:07}", number / 40));
    let keys = (0..1_000_000).map(|it| (key(it), Digest::of(&key(it), b"1")));
    let one = Sorted::of(keys.collect());
    let mut prng = Prng::new(9);
    for (differences, bytes_max) in [(0, 400), (10, 20_000), (1_000, 1_340_000)] {
        let mut keys = one.keys.clone();
        let mut changed = BTreeSet::new();
        for _ in 0..differences {
            let (key, digest) = &mut keys[usize::try_from(prng.below(1_000_000)).expect("small")];
            *digest = Digest::of(key, b"2");
            changed.insert(key.clone());
        }
        let talk = talk(&one, &Sorted::of(keys));
        assert_eq!(talk.differing, changed);
        println!(
            "{differences} of a million: {} bytes, {} messages",
            talk.bytes, talk.messages
        );
        // The other side's first word, and three round trips of which the last half brings states.
        assert!(
            talk.bytes <= bytes_max && talk.messages <= 6,
            "{} bytes, {} messages",
            talk.bytes,
            talk.messages
        );
    }
}

#[test]
fn random_noise_is_refused_or_is_what_would_be_written() {
    arbtest(|choose| {
        let noise: Vec<u8> = choose.arbitrary()?;
        if let Ok(ranges) = Ranges::decode(Bytes::from(noise.clone())) {
            assert_eq!(*ranges.encode(), *noise);
        }
        Ok(())
    })
    .budget_ms(1_000);
    let falling = Ranges {
        parts: vec![
            (Bytes::from("b"), Claim::Skip),
            (Bytes::from("a"), Claim::Skip),
            (Bytes::new(), Claim::Skip),
        ],
    };
    let wrong = DecodeError::Wrong { what: "ranges" };
    assert_eq!(Ranges::decode(falling.encode()), Err(wrong));
}

#[test]
fn sums_come_apart_as_they_came_together() {
    arbtest(|choose| {
        let digests: Vec<[u8; 32]> = choose.arbitrary()?;
        let at = choose.int_in_range(0..=digests.len())?;
        let sum = |digests: &[[u8; 32]]| {
            digests
                .iter()
                .fold(Sum::default(), |sum, it| sum.with(&Digest(*it)))
        };
        let (front, back) = (sum(&digests[..at]), sum(&digests[at..]));
        assert_eq!(front.plus(&back), sum(&digests));
        assert_eq!(sum(&digests).minus(&front), back);
        Ok(())
    })
    .budget_ms(500);
    let most = Sum::default().with(&Digest([0xff; 32]));
    assert_eq!(most.with(&Digest([0xff; 32])).minus(&most), most);
}
