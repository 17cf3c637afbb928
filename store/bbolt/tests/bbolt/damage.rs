//! Damaged and hostile files are refused with a reason; nothing panics, nothing runs away.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::support::{Contents, Memory, read, written};
use bytes::Bytes;
use holm_bbolt::{Database, ReadError, Sum, check_sum};

const PAGE: usize = 4096;

fn sample() -> Memory {
    let keys = |count: u32, len: usize| -> BTreeMap<Bytes, Bytes> {
        let value = Bytes::from(vec![7; len]);
        let key = |it: u32| Bytes::from(format!("key {it:05}"));
        (0..count).map(|it| (key(it), value.clone())).collect()
    };
    written(&Contents::from([
        (Bytes::from_static(b"key"), keys(30, 700)),
        (Bytes::from_static(b"lease"), keys(2, 5000)),
        (Bytes::from_static(b"meta"), keys(0, 0)),
    ]))
}

/// All that a reader may do with a file; must come back.
fn read_everything(file: &Memory) -> Result<Contents, ReadError> {
    if let Ok(database) = Database::open(file) {
        let mut seen = 0_u32;
        drop(database.read(b"key", &mut |_, _| {
            seen += 1;
            if seen < 5 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        }));
    }
    read(file)
}

#[test]
fn every_flipped_bit_breaks_the_checksum() {
    let whole = sample();
    assert!(matches!(check_sum(&whole), Ok(Sum::Right(_))));
    for at in (0..whole.0.len()).step_by(97) {
        let mut file = Memory(whole.0.clone());
        file.0[at] ^= 0x10;
        assert_eq!(check_sum(&file), Err(ReadError::Sum), "byte {at}");
    }
}

#[test]
fn a_file_without_checksum_is_told_apart() {
    let mut file = sample();
    file.0.truncate(file.0.len() - 32);
    assert_eq!(check_sum(&file), Ok(Sum::Absent));
    assert!(read(&file).is_ok());
}

#[test]
fn flipped_bytes_never_panic() {
    let whole = sample();
    // Headers and element tables are at the start of pages; what follows is keys and values.
    for page in 0..whole.0.len() / PAGE {
        for at in 0..160 {
            for flip in [0x01, 0x80, 0xff] {
                let mut file = Memory(whole.0.clone());
                file.0[page * PAGE + at] ^= flip;
                drop(read_everything(&file));
            }
        }
    }
}

#[test]
fn random_harm_never_panics() {
    let whole = sample();
    arbtest::arbtest(|u| {
        let mut file = Memory(whole.0.clone());
        for _ in 0..u.int_in_range(1..=6)? {
            let page = u.int_in_range(0..=file.0.len() / PAGE - 1)?;
            let at = page * PAGE + u.int_in_range(0..=200)?;
            file.0[at] = u.arbitrary()?;
        }
        if u.ratio(1, 4)? {
            file.0.truncate(u.int_in_range(0..=whole.0.len())?);
        }
        drop(read_everything(&file));
        drop(check_sum(&file));
        Ok(())
    });
}

#[test]
fn cut_files_are_refused() {
    let whole = sample();
    for len in [0, 1, 79, 80, PAGE, 2 * PAGE, 3 * PAGE, whole.0.len() - PAGE] {
        let file = Memory(whole.0[..len].to_vec());
        let error = read_everything(&file).expect_err("it is cut off");
        let told = matches!(error, ReadError::Foreign | ReadError::Damaged { .. });
        assert!(told, "{len} bytes: {error}");
    }
}

#[test]
fn one_damaged_meta_is_made_good_by_the_other() {
    let whole = sample();
    let contents = read(&whole).expect("it is whole");
    for page in 0..2 {
        let mut file = Memory(whole.0.clone());
        file.0[page * PAGE + 40] ^= 1;
        assert_eq!(read(&file).as_ref(), Ok(&contents), "meta {page}");
    }
    let mut file = Memory(whole.0);
    file.0[40] ^= 1;
    file.0[PAGE + 40] ^= 1;
    assert_eq!(read(&file), Err(ReadError::Foreign));
}

fn found(error: &ReadError) -> &'static str {
    match error {
        ReadError::Damaged { found, .. } => found,
        ReadError::Foreign | ReadError::Sum | ReadError::Disk(_) => "something else",
    }
}

fn page_of_flags(file: &Memory, flags: u8) -> usize {
    let pages = 2..file.0.len() / PAGE;
    let mut pages = pages.filter(|page| file.0[page * PAGE + 8] == flags);
    pages.next().expect("there is such a page") * PAGE
}

#[test]
fn each_lie_has_its_name() {
    let whole = sample();
    let (leaf, branch) = (page_of_flags(&whole, 2), page_of_flags(&whole, 1));
    let lies: [(usize, &[u8], &str); 8] = [
        (leaf, &[9], "it says that it is another page"),
        (leaf + 8, &[16], "it is no page of a tree, or lies too deep"),
        (leaf + 10, &[255, 255], "a key or value lies outside it"),
        (leaf + 12, &[255, 255, 255, 127], "it is longer than can be"),
        (leaf + 16, &[1], "there is a bucket within a bucket"),
        (
            leaf + 16 + 12,
            &[255, 255, 255],
            "a key or value lies outside it",
        ),
        (branch + 10, &[0, 0], "it is a branch without children"),
        (branch + 24, &[1, 0, 0], "it lies outside the file"),
    ];
    for (at, bytes, lie) in lies {
        let mut file = Memory(whole.0.clone());
        file.0[at..at + bytes.len()].copy_from_slice(bytes);
        let error = read(&file).expect_err("it lies");
        assert_eq!(found(&error), lie, "at {at}: {error}");
    }
}

#[test]
fn a_loop_of_pages_is_refused() {
    let mut file = sample();
    let branch = page_of_flags(&file, 1);
    let own = u64::try_from(branch / PAGE).expect("it is small");
    file.0[branch + 24..branch + 32].copy_from_slice(&own.to_le_bytes());
    let error = read(&file).expect_err("it is its own child");
    assert_eq!(found(&error), "it is in two places");
}

#[test]
fn keys_out_of_order_are_refused() {
    let mut file = sample();
    let leaf = page_of_flags(&file, 2);
    let key = file.0[leaf..].windows(9).position(|it| it == b"key 00000");
    file.0[leaf + key.expect("it is the first")] = b'z';
    let error = read(&file).expect_err("z is behind k");
    assert_eq!(found(&error), "its keys are not in order");
}
