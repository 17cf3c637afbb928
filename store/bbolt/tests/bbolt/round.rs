//! What is written is read again, whatever it is; and the tree is one that etcd's library may
//! change later.

use std::collections::BTreeMap;

use crate::support::{Contents, Memory, fill, plan, read, written};
use bytes::Bytes;
use holm_bbolt::{Closed, Database, Sink, Sum, WriteError, Writer, check_sum};

fn one(keys: BTreeMap<Bytes, Bytes>) -> Contents {
    BTreeMap::from([(Bytes::from_static(b"key"), keys)])
}

fn numbered(count: u32, value_bytes: usize) -> Contents {
    let value = Bytes::from(vec![7; value_bytes]);
    let key = |it: u32| Bytes::from(format!("{it:017}"));
    one((0..count).map(|it| (key(it), value.clone())).collect())
}

fn comes_back(contents: &Contents) {
    let file = written(contents);
    assert!(matches!(check_sum(&file), Ok(Sum::Right(_))));
    assert_eq!(read(&file).as_ref(), Ok(contents));
}

#[test]
fn nothing_at_all_comes_back() {
    comes_back(&Contents::new());
    comes_back(&one(BTreeMap::new()));
}

#[test]
fn one_key_comes_back() {
    comes_back(&numbered(1, 0));
    comes_back(&numbered(1, 3));
}

#[test]
fn values_longer_than_a_page_come_back() {
    for value_bytes in [4000, 4047, 4048, 4063, 4064, 4065, 8192, 1 << 20] {
        comes_back(&numbered(5, value_bytes));
    }
}

#[test]
fn every_count_of_leaves_comes_back() {
    // Five keys fill a leaf, 99 children a branch.
    for count in (0..40).chain(480..520).chain(980..1010) {
        comes_back(&numbered(count, 760));
    }
}

#[test]
fn a_hundred_thousand_keys_come_back() {
    comes_back(&numbered(100_000, 60));
}

#[test]
fn long_keys_make_long_branches() {
    let long = |it: u32| Bytes::from(format!("{it:05}{}", "k".repeat(3000)));
    let keys = (0..40).map(|it| (long(it), Bytes::from_static(b"v")));
    comes_back(&one(keys.collect()));
}

#[test]
fn random_buckets_come_back() {
    arbtest::arbtest(|u| {
        let mut contents = Contents::new();
        for _ in 0..u.int_in_range(0..=4)? {
            let mut keys = BTreeMap::new();
            for _ in 0..u.int_in_range(0..=60)? {
                let len = u.int_in_range(0..=300)?;
                let wide = u.ratio(1, 8)?;
                let value = vec![u.arbitrary()?; if wide { len * 50 } else { len }];
                keys.insert(Bytes::from(u.arbitrary::<Vec<u8>>()?), Bytes::from(value));
            }
            contents.insert(Bytes::from(u.arbitrary::<Vec<u8>>()?), keys);
        }
        comes_back(&contents);
        Ok(())
    });
}

/// I2, recounted from the bytes.
#[test]
fn every_page_is_in_the_tree_and_no_branch_has_an_only_child() {
    for count in [0, 5, 6, 495, 496, 500, 501, 10_000, 49_500] {
        let file = written(&numbered(count, 760)).0;
        let head = |at: usize| &file[at * 4096..];
        let short =
            |at: usize, from: usize| u16::from_le_bytes([head(at)[from], head(at)[from + 1]]);
        let (mut at, mut branches) = (2, 0);
        while at < file.len() / 4096 {
            let (flags, items) = (short(at, 8), short(at, 10));
            assert!(flags == 1 || flags == 2, "page {at} is a leaf or branch");
            assert!(flags == 2 || items >= 2, "page {at} has {items} children");
            branches += usize::from(flags == 1);
            at += 1 + usize::from(short(at, 12));
        }
        assert_eq!(branches > 0, count > 5, "with {count} keys");
        let file = Memory(file);
        Database::open(&file)
            .and_then(|it| it.check())
            .expect("it is whole");
    }
}

#[test]
fn keys_out_of_order_are_refused() {
    let mut writer = Writer::measure();
    let key = Bytes::from_static(b"k");
    let homeless = writer.put(key.clone(), Bytes::new());
    assert!(matches!(homeless, Err(WriteError::Homeless { .. })));
    writer.bucket(b"b").expect("it is the first");
    writer
        .put(key.clone(), Bytes::new())
        .expect("it is the first");
    let again = writer.put(key, Bytes::new());
    assert!(matches!(again, Err(WriteError::Order { .. })));
    writer.bucket(b"a").expect("it is noticed when it ends");
    assert!(matches!(writer.plan(), Err(WriteError::Order { .. })));
}

#[test]
fn a_second_pass_that_differs_is_noticed() {
    for (first, second) in [(100, 101), (100, 2000), (2000, 100)] {
        let mut file = Memory(Vec::new());
        let planned = plan(&numbered(first, 900));
        let mut writer = Writer::write(planned, 1, &mut file).expect("memory takes all");
        let filled = fill(&mut writer, &numbered(second, 900));
        let finished = filled.and_then(|()| writer.finish());
        assert!(
            matches!(finished, Err(WriteError::Changed { .. })),
            "{first}, {second}"
        );
    }
}

#[test]
fn a_sink_that_closes_stops_the_writer() {
    struct Short(usize);
    impl Sink for Short {
        fn take(&mut self, _bytes: &[u8]) -> Result<(), Closed> {
            self.0 = self.0.checked_sub(1).ok_or(Closed)?;
            Ok(())
        }
    }
    let contents = numbered(100, 900);
    let mut sink = Short(5);
    let mut writer = Writer::write(plan(&contents), 1, &mut sink).expect("it takes five");
    assert_eq!(
        fill(&mut writer, &contents),
        Err(WriteError::Closed(Closed))
    );
}
