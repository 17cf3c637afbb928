//! The index that sums: against a sorted map on random changes, pins that stay as they were, and
//! sessions over it that find exactly what differs.

use std::collections::BTreeMap;

use arbtest::arbtest;
use bytes::Bytes;
use holm_base::Prng;
use holm_local_first::{Digest, Index, Ranges, Short, Sum, Tree};

type Map = BTreeMap<Bytes, Digest>;

fn inside<'a>(
    map: &'a Map,
    from: &'a [u8],
    to: &'a [u8],
) -> impl Iterator<Item = (&'a Bytes, &'a Digest)> {
    let is_inside = move |key: &Bytes| **key >= *from && (to.is_empty() || **key < *to);
    map.iter().filter(move |(key, _)| is_inside(key))
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("{:x}/{number}", number % 7))
}

fn digest(number: u64) -> Digest {
    Digest::of(b"k", &number.to_le_bytes())
}

fn below(prng: &mut Prng, count: u64) -> u64 {
    prng.below(count)
}

fn check(tree: &Tree, map: &Map, prng: &mut Prng) {
    for _ in 0..6 {
        let mut bound = || match below(prng, 5) {
            0 => Bytes::new(),
            1 => Bytes::from("3"),
            _ => key(below(prng, 900)),
        };
        let (from, to) = (bound(), bound());
        let expected = inside(map, &from, &to).fold(Sum::default(), |sum, it| sum.with(it.1));
        assert_eq!(tree.sum(&from, &to), expected, "{from:?} to {to:?}");
        let list: Vec<(Bytes, Short)> = inside(map, &from, &to)
            .map(|(key, it)| (key.clone(), it.short()))
            .collect();
        assert_eq!(tree.list(&from, &to), list);
        let place = below(prng, expected.count + 3);
        let found = list.get(usize::try_from(place).expect("small"));
        assert_eq!(tree.key(&from, &to, place), found.map(|it| it.0.clone()));
    }
}

#[test]
fn random_changes_give_what_a_sorted_map_gives_and_pins_stay() {
    let mut deepest = 0;
    arbtest(|choose| {
        let mut prng = Prng::new(choose.arbitrary::<u64>()? | 1);
        let (mut tree, mut map) = (Tree::new(), Map::new());
        let mut pins: Vec<(Tree, Map)> = Vec::new();
        let (keys, steps) = (1 + prng.below(900), 1 + prng.below(3_000));
        for _ in 0..steps {
            let key = key(prng.below(keys));
            if prng.below(3) == 0 {
                tree.set(&key, None);
                map.remove(&key);
            } else {
                let digest = digest(prng.below(1_000));
                tree.set(&key, Some(digest));
                map.insert(key.clone(), digest);
            }
            assert_eq!(tree.digest(&key), map.get(&key).copied());
            if prng.below(500) == 0 {
                pins.push((tree.clone(), map.clone()));
            }
        }
        deepest = deepest.max(tree.depth());
        check(&tree, &map, &mut prng);
        pins.iter()
            .for_each(|(tree, map)| check(tree, map, &mut prng));
        for key in map.keys() {
            tree.set(key, None);
        }
        assert_eq!((tree.total(), tree.depth()), (Sum::default(), 1));
        Ok(())
    })
    .budget_ms(2_000);
    assert!(deepest >= 2, "{deepest}");
}

#[test]
fn a_hundred_thousand_keys_are_three_deep_and_differences_are_found_by_sums() {
    let name = |number: u64| Bytes::from(format!("/registry/pods/{number:07}"));
    let mut one = Tree::new();
    for number in 0..100_000 {
        one.set(&name(number * 7_919 % 100_000), Some(digest(number)));
    }
    assert!(one.depth() <= 4, "{}", one.depth());
    let mut other = one.clone();
    let changed: Vec<Bytes> = (0..10).map(|number| name(number * 9_973)).collect();
    changed
        .iter()
        .for_each(|key| other.set(key, Some(digest(1 << 40))));
    other.set(&name(77), None);
    let mut expected = changed;
    expected.push(name(77));
    expected.sort();
    let (mut differing, mut bytes, mut messages) = (Vec::new(), 0, 0);
    let mut said = Ranges::first(&one, &other.total().short());
    for index in [&other, &one].into_iter().cycle() {
        if said.is_empty() {
            break;
        }
        bytes += said.encode().len();
        messages += 1;
        let answer = said.answer(index);
        differing.extend(answer.differing);
        said = answer.ranges;
    }
    differing.sort();
    assert_eq!(differing, expected);
    assert!(
        bytes < 20_000 && messages <= 6,
        "{bytes} bytes, {messages} messages"
    );
}
