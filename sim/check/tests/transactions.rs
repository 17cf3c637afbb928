//! The judge of transactions: planted anomalies, histories of a correct toy, and every order of
//! small histories tried out.

use arbtest::arbitrary::{Result as Arbitrary, Unstructured};
use holm_check::{Transaction, transactions};

type Reads<'a> = &'a [(u8, Option<u64>)];

/// One that reads and then writes keys at a revision, between two moments.
fn one(
    (invoked, returned): (u64, u64),
    reads: Reads<'_>,
    revision: u64,
    keys: &[u8],
) -> Transaction<u8> {
    Transaction {
        invoked,
        returned: Some(returned),
        reads: reads.to_vec(),
        revision: (revision > 0).then_some(revision),
        writes: keys.iter().map(|key| (*key, false)).collect(),
    }
}

fn rule(all: &[Transaction<u8>]) -> Option<&'static str> {
    transactions(all).err().map(|violation| {
        assert_eq!(violation.judge, "transactions");
        violation.rule
    })
}

const X: u8 = 1;
const Y: u8 = 2;

#[test]
fn transactions_one_after_the_other_pass() {
    let all = [
        one((1, 2), &[(X, None)], 2, &[X, Y]),
        one((3, 4), &[(X, Some(2)), (Y, Some(2))], 3, &[Y]),
        one((5, 6), &[(X, Some(2)), (Y, Some(3))], 0, &[]),
    ];
    assert_eq!(rule(&all), None);
    assert_eq!(rule(&[]), None);
}

#[test]
fn a_lost_update_is_a_cycle() {
    let all = [
        one((1, 9), &[(X, None)], 2, &[X]),
        one((2, 8), &[(X, None)], 3, &[X]),
    ];
    assert_eq!(
        rule(&all),
        Some("nothing that was read is overwritten in between")
    );
}

#[test]
fn write_skew_is_a_cycle() {
    let all = [
        one((1, 9), &[(X, None), (Y, None)], 2, &[X]),
        one((2, 8), &[(X, None), (Y, None)], 3, &[Y]),
    ];
    assert_eq!(
        rule(&all),
        Some("nothing that was read is overwritten in between")
    );
}

#[test]
fn information_in_a_circle_is_a_cycle() {
    let all = [
        one((1, 9), &[(Y, Some(3))], 2, &[X]),
        one((2, 8), &[(X, Some(2))], 3, &[Y]),
    ];
    assert_eq!(rule(&all), Some("information flows one way"));
}

#[test]
fn half_of_a_transaction_is_a_cycle() {
    let all = [
        one((1, 9), &[], 2, &[X, Y]),
        one((2, 8), &[(X, Some(2)), (Y, None)], 0, &[]),
    ];
    assert_eq!(
        rule(&all),
        Some("nothing that was read is overwritten in between")
    );
}

#[test]
fn a_stale_read_and_a_revision_out_of_time_disagree_with_real_time() {
    let real_time = Some("transactions agree with real time");
    let stale = [one((1, 2), &[], 2, &[X]), one((3, 4), &[(X, None)], 0, &[])];
    assert_eq!(rule(&stale), real_time);
    let late = [one((1, 2), &[], 3, &[X]), one((3, 4), &[], 2, &[X])];
    assert_eq!(rule(&late), real_time);
    let at_once = [one((1, 3), &[], 2, &[X]), one((3, 4), &[(X, None)], 0, &[])];
    assert_eq!(
        rule(&at_once),
        None,
        "who asks at the moment of an answer need not have seen it"
    );
    let mut unknown = stale;
    unknown[0].returned = None;
    assert_eq!(
        rule(&unknown),
        None,
        "who was not answered may be as late as one likes"
    );
}

#[test]
fn a_version_out_of_nowhere_and_a_shared_revision_are_violations() {
    let nowhere = [one((1, 2), &[(X, Some(7))], 0, &[])];
    assert_eq!(rule(&nowhere), Some("a version that is read was written"));
    let own = [one((1, 2), &[(X, Some(2))], 2, &[X])];
    assert_eq!(rule(&own), Some("nobody reads what it has yet to write"));
    let shared = [one((1, 2), &[], 2, &[X]), one((3, 4), &[], 2, &[Y])];
    assert_eq!(rule(&shared), Some("a revision has one writer"));
}

#[test]
fn what_is_absent_says_nothing_once_it_was_removed() {
    let mut all = [
        one((1, 2), &[], 2, &[X]),
        one((3, 4), &[(X, Some(2))], 3, &[X]),
        one((5, 6), &[(X, None)], 0, &[]),
    ];
    assert!(rule(&all).is_some());
    all[1].writes = vec![(X, true)];
    assert_eq!(rule(&all), None);
}

#[test]
fn the_cycle_is_told_step_by_step() {
    let all = [
        one((1, 9), &[(X, None)], 2, &[X]),
        one((2, 8), &[(X, None)], 3, &[X]),
    ];
    let place = transactions(&all).unwrap_err().place;
    assert!(
        place.contains("-ww->") || place.contains("-rw->"),
        "{place}"
    );
    assert!(place.ends_with("the first"), "{place}");
}

/// A run of a store that carries out each transaction at one moment between its ends. Reads may
/// be spoiled afterwards.
fn run(choose: &mut Unstructured<'_>, most: usize) -> Arbitrary<Vec<Transaction<u8>>> {
    let mut newest: [Option<u64>; 3] = [None; 3];
    let (mut all, mut open): (Vec<Transaction<u8>>, Vec<(usize, bool)>) = (Vec::new(), Vec::new());
    let (mut moment, mut revision) = (0, 1);
    let spoils = choose.ratio(1, 2)?;
    while all.len() < most || !open.is_empty() {
        moment += 1;
        let picked = choose.int_in_range(0..=open.len().max(1))?;
        match open.get_mut(picked) {
            None if all.len() < most => {
                open.push((all.len(), false));
                all.push(one((moment, 0), &[], 0, &[]));
            }
            None => {}
            Some((at, is_done @ false)) => {
                *is_done = true;
                for key in 0..3_u8 {
                    let version = newest[usize::from(key)];
                    if choose.ratio(1, 2)? {
                        all[*at].reads.push((key, version));
                    }
                    if choose.ratio(1, 3)? {
                        all[*at].writes.push((key, false));
                    }
                }
                if !all[*at].writes.is_empty() {
                    revision += 1;
                    all[*at].revision = Some(revision);
                    for (key, _) in &all[*at].writes {
                        newest[usize::from(*key)] = Some(revision);
                    }
                }
            }
            Some((at, _)) => {
                all[*at].returned = choose.ratio(7, 8)?.then_some(moment);
                open.remove(picked);
            }
        }
    }
    if spoils {
        spoil(&mut all, choose)?;
    }
    Ok(all)
}

/// Another version of the same key in place of one that was read.
fn spoil(all: &mut [Transaction<u8>], choose: &mut Unstructured<'_>) -> Arbitrary<()> {
    let versions: Vec<(u8, u64)> = all
        .iter()
        .flat_map(|one| {
            one.writes
                .iter()
                .filter_map(|(key, _)| Some((*key, one.revision?)))
        })
        .collect();
    for one in all {
        for (key, seen) in &mut one.reads {
            if choose.ratio(1, 4)? {
                let others = versions.iter().filter(|(other, _)| other == key);
                let mut others: Vec<Option<u64>> = others.map(|(_, at)| Some(*at)).collect();
                others.push(None);
                *seen = *choose.choose(&others)?;
            }
        }
    }
    Ok(())
}

/// Whether some order explains everything, by trying all.
fn has_order(all: &[Transaction<u8>], order: &mut Vec<usize>, newest: [Option<u64>; 3]) -> bool {
    if order.len() == all.len() {
        return true;
    }
    for (at, one) in all.iter().enumerate() {
        let is_before =
            |other: &Transaction<u8>| other.returned.is_some_and(|end| end < one.invoked);
        let waits = all.iter().enumerate();
        let mut waits = waits.filter(|(other, _)| !order.contains(other));
        let is_next = !order.contains(&at) && !waits.any(|(_, other)| is_before(other));
        // A transaction sees what was there before it, and its writes are newer than that.
        let sees = one
            .reads
            .iter()
            .all(|(key, seen)| newest[usize::from(*key)] == *seen);
        let rises = one
            .writes
            .iter()
            .all(|(key, _)| newest[usize::from(*key)] < one.revision);
        if is_next && sees && rises {
            let mut then = newest;
            for (key, _) in &one.writes {
                then[usize::from(*key)] = one.revision;
            }
            order.push(at);
            let found = has_order(all, order, then);
            order.pop();
            if found {
                return true;
            }
        }
    }
    false
}

#[test]
fn it_finds_an_order_exactly_where_there_is_one() {
    let mut seen = [0_u32; 2];
    arbtest::arbtest(|choose| {
        let all = run(choose, 5)?;
        let found = transactions(&all);
        let expected = has_order(&all, &mut Vec::new(), [None; 3]);
        assert_eq!(found.is_ok(), expected, "{found:?} {all:?}");
        seen[usize::from(expected)] += 1;
        Ok(())
    })
    .budget_ms(2_000);
    assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
}

#[test]
fn a_long_history_of_a_correct_store_passes() {
    let all: Vec<Transaction<u8>> = (0..200_000_u64)
        .map(|at| {
            let before = (at > 0).then_some(at + 1);
            one((2 * at + 1, 2 * at + 2), &[(X, before)], at + 2, &[X])
        })
        .collect();
    assert_eq!(transactions(&all), Ok(()));
}
