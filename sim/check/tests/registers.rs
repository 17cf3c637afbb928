//! The judge of registers without revisions: planted violations, and held against the search.

use arbtest::arbitrary::{Result as Arbitrary, Unstructured};
use holm_check::{Access, History, Model, Verdict, register, wgl};

const STATES_MAX: usize = 1_000_000;

fn write(value: u64, invoked: u64, returned: u64) -> Access<u64> {
    Access {
        invoked,
        returned: (returned > 0).then_some(returned),
        value: Some(value),
        is_write: true,
    }
}

fn read(value: Option<u64>, invoked: u64, returned: u64) -> Access<u64> {
    Access {
        invoked,
        returned: Some(returned),
        value,
        is_write: false,
    }
}

fn rule(accesses: &[Access<u64>]) -> Option<&'static str> {
    register(accesses).err().map(|violation| violation.rule)
}

#[test]
fn what_one_cell_could_have_answered_passes() {
    let plain = [
        write(7, 1, 2),
        read(Some(7), 3, 4),
        write(8, 5, 6),
        read(Some(8), 7, 8),
    ];
    assert_eq!(rule(&plain), None);
    let empty = [read(None, 1, 2), write(7, 3, 4)];
    assert_eq!(rule(&empty), None);
    let unknown = [
        write(7, 1, 0),
        read(None, 2, 3),
        read(Some(7), 4, 5),
        write(8, 6, 0),
    ];
    assert_eq!(rule(&unknown), None, "it took effect late, the other never");
}

#[test]
fn each_rule_has_a_history_that_breaks_it() {
    let future = [read(Some(7), 1, 2), write(7, 3, 4)];
    assert_eq!(rule(&future), Some("nobody reads the future"));
    let nowhere = [read(Some(7), 1, 2)];
    assert_eq!(rule(&nowhere), Some("what is read was written"));
    let twice = [write(7, 1, 2), write(7, 3, 4)];
    assert_eq!(rule(&twice), Some("a value is written once"));
    let one = Some("one value at a time holds a register");
    let stale = [write(7, 1, 2), write(8, 3, 4), read(Some(7), 5, 6)];
    assert_eq!(rule(&stale), one, "a backward zone in a forward one");
    let back = [
        write(7, 1, 10),
        write(8, 2, 11),
        read(Some(7), 3, 4),
        read(Some(8), 5, 6),
        read(Some(7), 7, 8),
        read(Some(8), 12, 13),
    ];
    assert_eq!(rule(&back), one, "two forward zones");
    let lost = [write(7, 1, 2), read(None, 3, 4)];
    assert_eq!(rule(&lost), one);
}

/// One cell that holds the newest value.
struct Cell;

impl Model for Cell {
    type Call = Option<u64>;
    type Reply = Option<u64>;
    type State = Option<u64>;

    fn start(&self) -> Option<u64> {
        None
    }

    fn apply(&self, state: &mut Option<u64>, call: &Option<u64>) -> Option<u64> {
        if call.is_some() {
            *state = *call;
        }
        *state
    }
}

/// Operations that overlap and take effect at one moment each; reads may be spoiled.
fn run(choose: &mut Unstructured<'_>) -> Arbitrary<History<Option<u64>, Option<u64>>> {
    let (mut history, mut state) = (History::new(), Cell.start());
    let mut open: Vec<(usize, Option<u64>, Option<Option<u64>>)> = Vec::new();
    let (mut mark, spoils) = (0, choose.ratio(1, 2)?);
    for _ in 0..choose.int_in_range(1..=28)? {
        let picked = choose.int_in_range(0..=open.len().max(1))?;
        match open.get_mut(picked) {
            None => {
                mark += 1;
                let call = choose.ratio(1, 2)?.then_some(mark);
                open.push((history.invoke(1, call), call, None));
            }
            Some((_, call, effect @ None)) => *effect = Some(Cell.apply(&mut state, call)),
            Some((operation, call, Some(reply))) => {
                let mut reply = *reply;
                if spoils && call.is_none() && choose.ratio(1, 3)? {
                    reply = Some(choose.int_in_range(0..=mark)?).filter(|value| *value > 0);
                }
                if choose.ratio(7, 8)? {
                    history.returned(*operation, reply);
                }
                open.remove(picked);
            }
        }
    }
    Ok(history)
}

#[test]
fn it_agrees_with_the_search_on_random_histories() {
    let mut seen = [0_u32; 2];
    arbtest::arbtest(|choose| {
        let history = run(choose)?;
        let accesses = history.operations().iter().map(|operation| Access {
            invoked: operation.invoked,
            returned: operation.returned_at(),
            value: operation
                .call
                .or_else(|| operation.reply().copied().flatten()),
            is_write: operation.call.is_some(),
        });
        let accesses: Vec<Access<u64>> = accesses.collect();
        let found = register(&accesses);
        match wgl(&Cell, &history, STATES_MAX) {
            Verdict::Kept => assert_eq!(found, Ok(()), "{history:?}"),
            Verdict::Broken(_) => assert!(found.is_err(), "{history:?}"),
            Verdict::Undecided { .. } => panic!("28 steps are few"),
        }
        seen[usize::from(found.is_ok())] += 1;
        Ok(())
    })
    .budget_ms(2_000);
    assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
}
