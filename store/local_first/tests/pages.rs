//! The index as pages that come back, also after changes, long keys and damage; and sessions
//! over it that find exactly what differs, through bytes and in parts.

use std::collections::{BTreeMap, BTreeSet};

use arbtest::arbtest;
use bytes::Bytes;
use holm_base::Prng;
use holm_local_first::{
    Ask, DecodeError, Digest, Index, PAGE_BYTES, Seek, Short, Sum, Tell, Tree, tell,
};

/// What a tree should be.
#[derive(Clone, Default)]
struct Twin {
    keys: BTreeMap<Bytes, Digest>,
}

impl Twin {
    fn range<'a>(
        &'a self,
        from: &'a [u8],
        to: &'a [u8],
    ) -> impl Iterator<Item = (&'a Bytes, &'a Digest)> {
        let all = self.keys.iter();
        all.filter(move |(key, _)| ***key >= *from && (to.is_empty() || ***key < *to))
    }
}

impl Index for Twin {
    fn sum(&self, from: &[u8], to: &[u8]) -> Sum {
        let range = self.range(from, to);
        range.fold(Sum::default(), |sum, (_, digest)| sum.with(digest))
    }

    fn key(&self, from: &[u8], to: &[u8], place: u64) -> Option<Bytes> {
        let place = usize::try_from(place).ok()?;
        self.range(from, to).nth(place).map(|(key, _)| key.clone())
    }

    fn list(&self, from: &[u8], to: &[u8]) -> Vec<(Bytes, Short)> {
        let range = self.range(from, to);
        range
            .map(|(key, digest)| (key.clone(), digest.short()))
            .collect()
    }
}

fn small(number: u64) -> usize {
    usize::try_from(number).expect("small")
}

/// A key of up to 200 bytes, and now and then of more than 1 KiB; few are so near each other.
fn some_key(prng: &mut Prng) -> Bytes {
    let length = match prng.below(40) {
        0 => 1_100 + small(prng.below(3)),
        1..=9 => small(prng.below(200)),
        _ => small(prng.below(4)),
    };
    let letter = |prng: &mut Prng| b"ab\0\xff"[small(prng.below(4))];
    let mut key: Vec<u8> = (0..length.min(4)).map(|_| letter(prng)).collect();
    key.resize(length, b'k');
    if let Some(last) = key.last_mut() {
        *last = letter(prng);
    }
    Bytes::from(key)
}

fn check(tree: &impl Index, twin: &Twin, prng: &mut Prng) {
    for _ in 0..4 {
        let (from, to) = (some_key(prng), some_key(prng));
        let (from, to) = (Tree::name(&from), Tree::name(&to));
        assert_eq!(tree.sum(&from, &to), twin.sum(&from, &to));
        assert_eq!(tree.list(&from, &to), twin.list(&from, &to));
        let place = prng.below(9);
        assert_eq!(tree.key(&from, &to, place), twin.key(&from, &to, place));
    }
    assert_eq!(tree.sum(b"", b""), twin.sum(b"", b""));
    check_bounds(tree, twin, prng);
}

/// Many bounds in one walk are as each by itself; those that it finds lie near their places.
fn check_bounds(tree: &impl Index, twin: &Twin, prng: &mut Prng) {
    let mut named: Vec<Bytes> = (0..9).map(|_| Tree::name(&some_key(prng))).collect();
    named.retain(|it| !it.is_empty());
    named.sort();
    named.dedup();
    let named: Vec<&[u8]> = named.iter().map(|it| &**it).collect();
    assert_eq!(tree.before(&named), twin.before(&named));
    let count = twin.sum(b"", b"").count;
    let near = prng.below(90);
    let mut places = vec![near + 1 + prng.below(3)];
    while let Some(last) = places.last().filter(|it| **it < count) {
        places.push(last + near + 1 + prng.below(40));
    }
    places.pop();
    let found = tree.bounds(&places, near);
    assert_eq!(found.len(), places.len());
    for ((bound, sum), place) in found.iter().zip(&places) {
        assert_eq!(*sum, twin.sum(b"", bound));
        assert!(!bound.is_empty() && sum.count <= *place && sum.count + near >= *place);
    }
    assert!(found.is_sorted_by(|one, other| one.0 < other.0));
    let exact = tree.bounds(&places, 0).into_iter();
    assert!(exact.map(|(_, sum)| sum.count).eq(places));
}

/// A disk on which only what was written and not freed can be read.
#[derive(Default)]
struct Pages {
    kept: BTreeMap<u64, Bytes>,
    next: u64,
    root: u64,
    generation: u64,
}

impl Pages {
    /// Writes a tree as it is; how many pages that took.
    fn write(&mut self, tree: &mut Tree) -> usize {
        self.generation += 1;
        let next = &mut self.next;
        let written = tree.write(self.generation, || {
            *next += 1;
            *next
        });
        let count = written.pages.len();
        for (page, bytes) in written.pages {
            assert_eq!(bytes.len(), PAGE_BYTES);
            assert!(self.kept.insert(page, bytes).is_none(), "page {page} again");
        }
        for page in written.freed {
            assert!(self.kept.remove(&page).is_some(), "page {page} was none");
        }
        self.root = written.root;
        count
    }

    fn read(&self) -> Result<Tree, DecodeError> {
        Tree::read(self.root, &mut |page| self.kept.get(&page).cloned())
    }
}

#[test]
fn a_tree_is_what_a_map_is_and_comes_back_from_its_pages() {
    let mut most = 0;
    arbtest(|choose| {
        let mut prng = Prng::new(choose.arbitrary::<u64>()? | 1);
        let (mut tree, mut twin, mut pages) = (Tree::new(), Twin::default(), Pages::default());
        let mut pins = Vec::new();
        let growth = choose.int_in_range(2..=9)?;
        for step in 0..choose.int_in_range(1..=600_u64)? {
            let key = some_key(&mut prng);
            let name = Tree::name(&key);
            if prng.below(10) < growth {
                let digest = Digest::of(&key, &step.to_le_bytes());
                tree.set(&key, Some(digest));
                twin.keys.insert(name, digest);
            } else {
                tree.set(&key, None);
                twin.keys.remove(&name);
            }
            match prng.below(60) {
                0 => pins.push((tree.clone(), twin.clone())),
                1 => {
                    pages.write(&mut tree);
                    assert_eq!(pages.write(&mut tree), 0, "nothing has changed");
                    tree = pages.read().expect("what was written can be read");
                }
                2 => drop(pages.write(&mut tree)),
                _ => {}
            }
        }
        check(&tree, &twin, &mut prng);
        for (pin, then) in &pins {
            check(pin, then, &mut prng);
        }
        pages.write(&mut tree);
        check(&pages.read().expect("it is whole"), &twin, &mut prng);
        most = most.max(pages.kept.len());
        // Nothing is kept that is not reached: each page is read once.
        let mut read = BTreeSet::new();
        let again = Tree::read(pages.root, &mut |page| {
            assert!(read.insert(page), "page {page} twice");
            pages.kept.get(&page).cloned()
        });
        assert!(again.is_ok());
        assert_eq!(read.len(), pages.kept.len(), "pages are lost");
        Ok(())
    })
    .budget_ms(2_000);
    assert!(most > 8, "{most} pages");
}

fn number_key(number: u64) -> Bytes {
    Bytes::from(format!("/registry/pods/{:05}/{number:07}", number / 40))
}

fn numbers(count: u64) -> Tree {
    let mut tree = Tree::new();
    for number in 0..count {
        let key = number_key(number);
        tree.set(&key, Some(Digest::of(&key, b"1")));
    }
    tree
}

#[test]
fn one_change_among_many_writes_one_path() {
    let mut tree = numbers(20_000);
    let mut pages = Pages::default();
    let all = pages.write(&mut tree);
    assert!(all < 20_000 * 70 / PAGE_BYTES * 2, "{all} pages");
    let key = number_key(777);
    tree.set(&key, Some(Digest::of(&key, b"2")));
    let few = pages.write(&mut tree);
    assert!((2..=4).contains(&few), "{few} pages");
    assert_eq!(pages.kept.len(), all, "the old path is freed");
    for number in 0..19_990 {
        tree.set(&number_key(number), None);
    }
    pages.write(&mut tree);
    assert!(
        pages.kept.len() <= 2,
        "{} pages for ten keys",
        pages.kept.len()
    );
    assert_eq!(tree.sum(b"", b"").count, 10);
}

#[test]
fn damaged_and_mixed_up_pages_are_refused() {
    let mut tree = numbers(300);
    let mut pages = Pages::default();
    pages.write(&mut tree);
    let whole = pages.kept.clone();
    for (page, bytes) in &whole {
        for at in (0..bytes.len()).step_by(97) {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 16;
            pages.kept.insert(*page, Bytes::from(damaged));
            assert!(pages.read().is_err(), "page {page} byte {at}");
        }
        pages.kept.remove(page);
        assert!(pages.read().is_err(), "page {page} is missing");
        let other = whole.iter().find(|(it, _)| *it != page);
        let other = other.expect("there are several").1.clone();
        pages.kept.insert(*page, other);
        assert!(pages.read().is_err(), "page {page} is another");
        pages.kept.insert(*page, bytes.clone());
    }
    // An older page in the place of a newer one: whole, and it does not fit.
    let mut other = numbers(300);
    other.set(&number_key(5), None);
    let mut newer = Pages::default();
    newer.write(&mut other);
    let leaf = newer.kept[&1].clone();
    pages.kept.insert(1, leaf);
    assert!(pages.read().is_err(), "the sums are others");
    let mut prng = Prng::new(3);
    for _ in 0..2_000 {
        let mut noise = vec![0; PAGE_BYTES];
        noise
            .iter_mut()
            .for_each(|it| *it = prng.next().to_le_bytes()[0]);
        // As far as the checksum goes it is right.
        noise[4..6].copy_from_slice(&[1, u8::try_from(prng.below(2)).expect("small")]);
        let sum = crc32c::crc32c_append(crc32c::crc32c(&1_u64.to_le_bytes()), &noise[4..]);
        noise[..4].copy_from_slice(&sum.to_le_bytes());
        let noise = Bytes::from(noise);
        assert!(Tree::read(1, &mut |_| Some(noise.clone())).is_err());
    }
}

/// What a session did.
#[derive(Debug, Default)]
struct Told {
    bytes: usize,
    rounds: usize,
    biggest: usize,
    differing: BTreeMap<Bytes, Option<Bytes>>,
}

type States = BTreeMap<Bytes, Bytes>;

fn index(states: &States) -> Tree {
    let mut tree = Tree::new();
    for (key, state) in states {
        tree.set(key, Some(Digest::of(key, state)));
    }
    tree
}

/// A whole session through bytes, with states from `find`.
fn session(
    asker: &Tree,
    other: &Tree,
    bytes_max: usize,
    mut find: impl FnMut(&Bytes) -> Option<(Bytes, Bytes)>,
) -> Told {
    let theirs = other.sum(b"", b"").short();
    let mut seek = Seek::new(7, asker.clone(), &theirs);
    let mut told = Told {
        bytes: theirs.len(),
        ..Told::default()
    };
    let pinned = other.clone();
    while let Some(ask) = seek.ask() {
        assert_eq!(seek.ask(), None, "one question at a time");
        let bytes = ask.encode();
        told.bytes += bytes.len();
        told.rounds += 1;
        let heard = Ask::decode(bytes).expect("what was written can be read");
        assert_eq!(heard, ask);
        let bytes = tell(&heard, &pinned, bytes_max, &mut find).encode();
        told.bytes += bytes.len();
        told.biggest = told.biggest.max(bytes.len());
        let heard = Tell::decode(bytes).expect("what was written can be read");
        for named in seek.told(heard) {
            let state = named.found.map(|(_, state)| state);
            assert!(
                told.differing.insert(named.name, state).is_none(),
                "a state came twice"
            );
        }
    }
    assert!(seek.is_done());
    told
}

#[test]
fn a_session_finds_exactly_what_differs_whoever_lacks_it() {
    let mut found = 0;
    arbtest(|choose| {
        let mut prng = Prng::new(choose.arbitrary::<u64>()? | 1);
        let mut one = States::new();
        for _ in 0..choose.int_in_range(0..=500)? {
            one.insert(some_key(&mut prng), Bytes::from("1"));
        }
        let mut other = one.clone();
        for _ in 0..choose.int_in_range(0..=60)? {
            let many = u64::try_from(one.len().max(1)).expect("few");
            let key = one.keys().nth(small(prng.below(many))).cloned();
            match (prng.below(3), key) {
                (0, Some(key)) => drop(other.remove(&key)),
                (1, Some(key)) => drop(other.insert(key, Bytes::from("2"))),
                _ => drop(other.insert(some_key(&mut prng), Bytes::from("3"))),
            }
        }
        let named: BTreeMap<Bytes, Bytes> = other
            .keys()
            .map(|key| (Tree::name(key), key.clone()))
            .collect();
        let told = session(
            &index(&one),
            &index(&other),
            1 + small(prng.below(300)),
            |name| {
                let key = named.get(name)?;
                Some((key.clone(), other[key].clone()))
            },
        );
        let all: BTreeSet<&Bytes> = one.keys().chain(other.keys()).collect();
        let differ = all
            .into_iter()
            .filter(|key| one.get(*key) != other.get(*key));
        let expected: BTreeMap<Bytes, Option<Bytes>> = differ
            .map(|key| (Tree::name(key), other.get(key).cloned()))
            .collect();
        assert_eq!(told.differing, expected);
        found += expected.len();
        Ok(())
    })
    .budget_ms(3_000);
    assert!(found > 500, "{found}");
}

#[test]
fn a_million_keys_cost_what_their_differences_cost() {
    let mut one = numbers(1_000_000);
    let mut other = Tree::read_of(&mut one);
    let mut prng = Prng::new(9);
    for (differences, bytes_max, rounds) in [(0, 400, 0), (10, 20_000, 3), (1_000, 2_000_000, 9)] {
        let mut changed = BTreeSet::new();
        while changed.len() < differences {
            let key = number_key(prng.below(1_000_000));
            other.set(&key, Some(Digest::of(&key, b"2")));
            changed.insert(key);
        }
        let told = session(&one, &other, 1 << 20, |key| {
            Some((key.clone(), Bytes::from("2")))
        });
        println!(
            "{differences} of a million: {} bytes, {} rounds",
            told.bytes, told.rounds
        );
        let found: BTreeSet<Bytes> = told.differing.into_keys().collect();
        assert_eq!(found, changed);
        assert!(told.bytes <= bytes_max, "{} bytes", told.bytes);
        assert!(told.rounds <= rounds, "{} rounds", told.rounds);
        for key in &changed {
            other.set(key, Some(Digest::of(key, b"1")));
        }
    }
}

/// Reading a tree from pages is the second way to have one.
trait Again {
    fn read_of(tree: &mut Tree) -> Tree;
}

impl Again for Tree {
    fn read_of(tree: &mut Tree) -> Tree {
        let mut pages = Pages::default();
        pages.write(tree);
        pages.read().expect("it is whole")
    }
}

#[test]
fn a_session_of_two_that_have_nothing_in_common_stays_in_parts() {
    let one = numbers(60_000);
    let told = session(&one, &Tree::new(), 65_536, |_| None);
    assert_eq!(told.differing.len(), 60_000);
    let told = session(&Tree::new(), &one, 65_536, |key| {
        Some((key.clone(), Bytes::from("1")))
    });
    assert_eq!(told.differing.len(), 60_000);
    assert!(told.biggest < 1 << 18, "{} bytes at once", told.biggest);
}

#[test]
fn random_noise_is_refused_or_is_what_would_be_written() {
    arbtest(|choose| {
        let noise = Bytes::from(choose.arbitrary::<Vec<u8>>()?);
        if let Ok(ask) = Ask::decode(noise.clone()) {
            assert_eq!(ask.encode(), noise);
        }
        if let Ok(tell) = Tell::decode(noise.clone()) {
            assert_eq!(tell.encode(), noise);
        }
        Ok(())
    })
    .budget_ms(1_000);
    let ask = Ask {
        session: 3,
        wants: vec![Bytes::from("a")],
        ..Ask::default()
    };
    for length in 0..ask.encode().len() {
        assert!(Ask::decode(ask.encode().slice(..length)).is_err());
    }
}

#[test]
fn answers_to_other_questions_are_left_alone() {
    let one = numbers(3);
    let mut seek = Seek::new(7, one, &Tree::new().sum(b"", b"").short());
    let ask = seek.ask().expect("they differ");
    let answer = tell(&ask, &Tree::new(), 1, |_| None);
    let other = Tell {
        session: 8,
        ..answer.clone()
    };
    assert!(seek.told(other).is_empty());
    let earlier = Tell {
        number: answer.number - 1,
        ..answer.clone()
    };
    assert!(seek.told(earlier).is_empty());
    assert!(!seek.is_done());
    let states = seek.told(answer.clone()).len();
    assert!(states > 0);
    assert!(seek.told(answer).is_empty(), "it came twice");
}

/// The bytes of the first release that wrote them: they must be readable for ever.
#[test]
fn version_1_stays_as_it_is() {
    let hex = |bytes: &[u8]| {
        let all = bytes.iter().map(|it| format!("{it:02x}"));
        all.collect::<String>()
    };
    let mut tree = numbers(150);
    let mut pages = Pages::default();
    pages.write(&mut tree);
    assert!(pages.kept.len() > 2);
    let theirs = Tree::new().sum(b"", b"").short();
    let mut seek = Seek::new(7, numbers(2), &theirs);
    let ask = seek.ask().expect("they differ");
    let answer = tell(&ask, &Tree::new(), 1 << 20, |_| None);
    let shown = |page: &Bytes| hex(page).trim_end_matches("00").to_owned();
    let mut few = Pages::default();
    few.write(&mut numbers(2));
    let (leaf, root) = (&few.kept[&1], &pages.kept[&pages.root]);
    let all = [
        shown(leaf),
        shown(root),
        hex(&ask.encode()),
        hex(&answer.encode()),
    ];
    let all = all.join("\n") + "\n";
    assert_eq!(all, include_str!("compat/pages1.hex"));
}
