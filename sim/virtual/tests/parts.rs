//! The parts of the world: distributions, shelves, and what a schedule can be made to show.

use holm_base::{ByteCount, WriteId};
use holm_virtual::{Distribution, Encoded, Filed, Place, Quantiles, Records, Shelf, Tape};

const PLACE: Place = Place::new("draw");

#[test]
fn tables_have_the_quantiles_of_their_distributions() {
    let table = |distribution| Quantiles::of(&distribution);
    let uniform = table(Distribution::Uniform(0, 1_000_000));
    assert_eq!(uniform.quantile(250) / 1_000, 250);
    let normal = table(Distribution::Normal(0, 1_000_000));
    // Standard normal: 0.975 lies at 1.95996.
    assert!(
        (1_958_000..1_964_000).contains(&normal.quantile(975)),
        "{normal:?}"
    );
    assert_eq!(normal.quantile(500).abs() / 1_000, 0);
    let exponential = table(Distribution::Exponential(1_000_000));
    assert_eq!(exponential.quantile(500) / 1_000, 693);
    let lognormal = table(Distribution::LogNormal(1_000_000, 1.0));
    // One deviation above the median is e times the median, at 0.8413.
    assert!(
        (2_690_000..2_740_000).contains(&lognormal.quantile(841)),
        "{lognormal:?}"
    );
    let parts = vec![Distribution::Fixed(5), Distribution::Uniform(0, 1_000)];
    assert_eq!(table(Distribution::Sum(parts)).quantile(500), 505);
    let dice = vec![Distribution::Uniform(0, 600), Distribution::Uniform(0, 600)];
    let sum = table(Distribution::Sum(dice));
    assert!(
        (590..=610).contains(&sum.quantile(500)),
        "{}",
        sum.quantile(500)
    );
    // The lower 1/8 of the sum of two equal spans ends at a quarter of the whole.
    assert!(
        (290..=310).contains(&sum.quantile(125)),
        "{}",
        sum.quantile(125)
    );
    let rare = vec![
        (0.995, Distribution::Fixed(1)),
        (0.005, Distribution::Fixed(9)),
    ];
    let mix = table(Distribution::Mix(rare));
    assert_eq!((mix.quantile(990), mix.quantile(997)), (1, 9));
    let measured = table(Distribution::Measured(vec![9, 1, 5]));
    assert_eq!([100, 500, 900].map(|at| measured.quantile(at)), [1, 5, 9]);
}

#[test]
fn the_normal_draw_is_the_median_and_a_fixed_one_asks_nothing() {
    let mut tape = Tape::normal();
    let table = Quantiles::of(&Distribution::Uniform(0, 1_000_000));
    assert_eq!(table.draw(PLACE, &mut tape) / 1_000, 500);
    assert_eq!(Quantiles::fixed(7).delay(PLACE, &mut tape), 7);
    assert_eq!(tape.choices(), 1, "I8");
}

/// A record whose bytes are itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Text(Vec<u8>);

impl Encoded for Text {
    fn encode(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.to_vec()))
    }
}

fn text(number: u8) -> Text {
    Text(vec![number; 200])
}

/// Appends ten records, syncs some, crashes, and says which are left.
fn left<S: Shelf<Text> + Default>(synced: u64, seed: u64) -> Vec<Text> {
    let mut shelf = S::default();
    for number in 1..=10_u8 {
        let write = WriteId::new(u64::from(number));
        shelf
            .append(vec![(write, text(number))])
            .expect("there is room");
        if u64::from(number) == synced {
            shelf.sync(write).expect("nothing fails");
        }
    }
    shelf.crash(&mut Tape::fresh(seed));
    shelf.records()
}

fn keeps_what_is_synced<S: Shelf<Text> + Default>() {
    let mut lengths = std::collections::BTreeSet::new();
    for synced in [0, 1, 5, 10] {
        for seed in 0..200 {
            let left = left::<S>(synced, seed);
            let least = usize::try_from(synced).expect("it is small");
            assert!(left.len() >= least, "I1: {} of {synced}", left.len());
            let all = (1..=10).map(text);
            assert!(
                left.iter().cloned().eq(all.take(left.len())),
                "a beginning, no more"
            );
            lengths.insert(left.len());
        }
    }
    assert!(lengths.len() > 5, "crashes lose more and less: {lengths:?}");
}

#[test]
fn records_and_files_keep_what_is_synced_and_a_beginning_of_the_rest() {
    keeps_what_is_synced::<Records<Text>>();
    keeps_what_is_synced::<Filed>();
}

#[test]
fn a_failed_sync_loses_what_it_was_to_save() {
    fn check<S: Shelf<Text> + Default>() {
        let mut shelf = S::default();
        shelf
            .append(vec![(WriteId::new(1), text(1))])
            .expect("there is room");
        shelf.sync(WriteId::new(1)).expect("nothing fails");
        shelf
            .append(vec![(WriteId::new(2), text(2))])
            .expect("there is room");
        shelf.fail_next_sync();
        assert!(shelf.sync(WriteId::new(2)).is_err());
        shelf.crash(&mut Tape::normal());
        assert_eq!(shelf.records(), [text(1)]);
    }
    check::<Records<Text>>();
    check::<Filed>();
}

#[test]
fn a_full_disk_refuses_and_a_damaged_record_ends_the_file() {
    let mut shelf = Filed::default();
    shelf
        .append(vec![(WriteId::new(1), text(1))])
        .expect("there is room");
    shelf
        .append(vec![(WriteId::new(2), text(2))])
        .expect("there is room");
    Shelf::<Text>::sync(&mut shelf, WriteId::new(2)).expect("nothing fails");
    let used = shelf.storage().used();
    shelf.storage().set_capacity(used);
    assert!(
        shelf.append(vec![(WriteId::new(3), text(3))]).is_err(),
        "I4"
    );
    shelf.storage().flip("records", ByteCount::new(300), 1);
    assert_eq!(Shelf::<Text>::records(&shelf), [text(1)]);
}

#[test]
fn a_clone_of_a_file_goes_its_own_way() {
    let mut shelf = Filed::default();
    shelf
        .append(vec![(WriteId::new(1), text(1))])
        .expect("there is room");
    let kept = shelf.clone();
    shelf
        .append(vec![(WriteId::new(2), text(2))])
        .expect("there is room");
    assert_eq!(Shelf::<Text>::records(&kept), [text(1)]);
    assert_eq!(Shelf::<Text>::records(&shelf), [text(1), text(2)]);
}
