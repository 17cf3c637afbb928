//! The arithmetic equals a twin that tries every subset of voters.

use arbtest::arbitrary::{Result, Unstructured};
use holm_base::{NodeId, Prng};
use holm_quorum::{Verdict, Voters};

fn nodes(prng: &mut Prng, most: u64) -> Vec<NodeId> {
    let count = prng.below(most + 1);
    (0..count).map(|_| NodeId::new(prng.below(9))).collect()
}

/// Whether `chosen` holds more than half of `half`, counting each node once.
fn holds_majority(half: &[NodeId], chosen: &[NodeId]) -> bool {
    let distinct: std::collections::BTreeSet<_> = half.iter().collect();
    let inside = distinct.iter().filter(|node| chosen.contains(node)).count();
    2 * inside > distinct.len()
}

fn is_quorum(incoming: &[NodeId], outgoing: &[NodeId], chosen: &[NodeId]) -> bool {
    holds_majority(incoming, chosen) && (outgoing.is_empty() || holds_majority(outgoing, chosen))
}

fn everyone() -> Vec<NodeId> {
    (0..9).map(NodeId::new).collect()
}

#[test]
fn agreed_and_verdict_equal_the_twin_in_fifty_thousand_cases() {
    let mut prng = Prng::new(20);
    let mut joint = 0_u32;
    for case in 0..50_000 {
        let incoming = nodes(&mut prng, 7);
        let outgoing = nodes(&mut prng, 7);
        let voters = Voters::joint(incoming.iter().copied(), outgoing.iter().copied());
        joint += u32::from(voters.is_joint());
        let values: Vec<u64> = (0..9).map(|_| prng.below(6)).collect();
        let value = |node: NodeId| values[usize::try_from(node.value()).expect("it is small")];
        let expected = (0..6).rev().find(|&least| {
            let chosen: Vec<NodeId> = everyone()
                .into_iter()
                .filter(|&n| value(n) >= least)
                .collect();
            is_quorum(&incoming, &outgoing, &chosen)
        });
        assert_eq!(
            voters.agreed(value),
            expected,
            "case {case}: {voters:?} {values:?}"
        );

        let vote = |node: NodeId| match value(node) {
            0 | 1 => Some(false),
            2 | 3 => Some(true),
            _ => None,
        };
        let yes: Vec<NodeId> = everyone()
            .into_iter()
            .filter(|&n| vote(n) == Some(true))
            .collect();
        let not_no: Vec<NodeId> = everyone()
            .into_iter()
            .filter(|&n| vote(n) != Some(false))
            .collect();
        let expected = if is_quorum(&incoming, &outgoing, &yes) {
            Verdict::Won
        } else if is_quorum(&incoming, &outgoing, &not_no) || incoming.is_empty() {
            Verdict::Open
        } else {
            Verdict::Lost
        };
        assert_eq!(
            voters.verdict(vote),
            expected,
            "case {case}: {voters:?} {values:?}"
        );
    }
    assert!(joint > 30_000, "{joint} joint cases");
}

#[test]
fn two_quorums_share_a_node() {
    let mut prng = Prng::new(21);
    let mut pairs = 0_u32;
    while pairs < 5_000 {
        let voters = Voters::joint(nodes(&mut prng, 7), nodes(&mut prng, 7));
        let (left, right) = (prng.below(512), prng.below(512));
        let has = |mask: u64| move |node: NodeId| (mask >> node.value() & 1 == 1).then_some(true);
        if voters.verdict(has(left)) == Verdict::Won && voters.verdict(has(right)) == Verdict::Won {
            pairs += 1;
            assert!(left & right != 0, "I1: {voters:?} {left:b} {right:b}");
        }
    }
}

#[test]
fn any_number_of_voters_is_counted() {
    arbtest::arbtest(|u: &mut Unstructured<'_>| -> Result<()> {
        let values: Vec<u8> = u.arbitrary()?;
        let voters = Voters::new((0..values.len() as u64).map(NodeId::new));
        let agreed = voters.agreed(|n| values[usize::try_from(n.value()).expect("small")]);
        let mut sorted = values.clone();
        sorted.sort_unstable_by(|left, right| right.cmp(left));
        assert_eq!(agreed, sorted.get(values.len() / 2).copied());
        Ok(())
    });
}

#[test]
fn voters_are_listed_once_and_in_order() {
    let id = NodeId::new;
    let voters = Voters::joint([id(3), id(1), id(1)], [id(2), id(3), id(4)]);
    let all: Vec<NodeId> = voters.iter().collect();
    assert_eq!(all, [id(1), id(2), id(3), id(4)]);
    assert!(voters.contains(id(4)) && !voters.contains(id(5)));
    assert_eq!(voters.incoming(), [id(1), id(3)]);
}
