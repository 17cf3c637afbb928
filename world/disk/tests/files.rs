//! Real files in a temporary folder: each promise of the contract that one process can see.

use holm_base::ByteCount;
use holm_disk::{LockError, RealFolder, lock};
use holm_machine::DiskError;

fn bytes(value: u64) -> ByteCount {
    ByteCount::new(value)
}

#[test]
fn a_created_file_is_zero_and_as_long_as_asked() {
    let place = tempfile::tempdir().unwrap();
    let folder = RealFolder::open(place.path()).unwrap();
    let file = folder.create("a", bytes(8192)).unwrap();
    let mut read = [1; 8192];
    file.read(bytes(0), &mut read).unwrap();
    assert_eq!(read, [0; 8192]);
    assert_eq!(file.len().unwrap(), bytes(8192));
    assert!(matches!(
        folder.create("a", bytes(1)),
        Err(DiskError::Exists { .. })
    ));
}

#[test]
fn a_second_handle_sees_what_the_first_wrote_and_cannot_write() {
    let place = tempfile::tempdir().unwrap();
    let folder = RealFolder::open(place.path()).unwrap();
    let mut file = folder.create("a", ByteCount::ZERO).unwrap();
    file.write(bytes(3), b"xyz").unwrap();
    file.sync().unwrap();
    let mut reader = folder.open_read_only("a").unwrap();
    let mut read = [0; 6];
    reader.read(bytes(0), &mut read).unwrap();
    assert_eq!(&read, b"\0\0\0xyz");
    reader.write(bytes(0), b"!").unwrap_err();
}

#[test]
fn what_is_written_through_is_read_by_every_handle() {
    let place = tempfile::tempdir().unwrap();
    let folder = RealFolder::open(place.path()).unwrap();
    let mut file = folder.create("a", bytes(1 << 16)).unwrap();
    let reader = folder.open_read_only("a").unwrap();
    let mut expected = vec![0; 1 << 16];
    // Whole blocks and others, from addresses that suit the system and from others, over and
    // beside what it has in memory.
    let letters: Vec<u8> = (0..=255).cycle().take(1 << 16).collect();
    let pieces = [
        (0, 4096),
        (4096, 8192),
        (100, 50),
        (8192, 512),
        (4096, 12_288),
        (61_440, 4096),
    ];
    for (round, &(at, len)) in pieces.iter().enumerate() {
        let piece = &letters[round..round + len];
        file.write_through(bytes(at as u64), piece).unwrap();
        expected[at..at + len].copy_from_slice(piece);
        let piece = &letters[len % 7..len % 7 + 10];
        file.write(bytes(at as u64 + 3), piece).unwrap();
        expected[at + 3..at + 13].copy_from_slice(piece);
        let mut read = vec![1; 1 << 16];
        reader.read(bytes(0), &mut read).unwrap();
        assert!(read == expected, "after {len} bytes at {at}");
    }
    file.sync().unwrap();
    assert_eq!(file.len().unwrap(), bytes(1 << 16));
}

#[test]
fn a_read_past_the_end_says_how_much_is_missing() {
    let place = tempfile::tempdir().unwrap();
    let folder = RealFolder::open(place.path()).unwrap();
    let file = folder.create("a", bytes(10)).unwrap();
    let answer = file.read(bytes(6), &mut [0; 8]);
    assert!(matches!(answer, Err(DiskError::Short { missing, .. }) if missing == bytes(4)));
}

#[test]
fn a_handle_refuses_everything_after_a_failed_write() {
    let place = tempfile::tempdir().unwrap();
    let folder = RealFolder::open(place.path()).unwrap();
    drop(folder.create("a", bytes(10)).unwrap());
    let mut reader = folder.open_read_only("a").unwrap();
    assert!(matches!(
        reader.write(bytes(0), b"!"),
        Err(DiskError::Failed { .. })
    ));
    let poisoned = |answer: Result<(), DiskError>| {
        assert!(
            matches!(answer, Err(DiskError::Poisoned { .. })),
            "{answer:?}"
        );
    };
    poisoned(reader.read(bytes(0), &mut [0]));
    poisoned(reader.write(bytes(0), b"!"));
    poisoned(reader.write_through(bytes(0), &[0; 4096]));
    poisoned(reader.sync());
    poisoned(reader.set_len(bytes(1)));
    poisoned(reader.len().map(drop));
}

#[test]
fn a_file_that_cannot_be_allocated_leaves_no_name_behind() {
    let place = tempfile::tempdir().unwrap();
    let folder = RealFolder::open(place.path()).unwrap();
    let free = folder.free().unwrap();
    folder
        .create("a", bytes(free.value().saturating_mul(4)))
        .unwrap_err();
    assert_eq!(folder.list().unwrap(), Vec::<String>::new());
}

#[test]
fn names_are_listed_sorted_and_without_folders() {
    let place = tempfile::tempdir().unwrap();
    let folder = RealFolder::open(&place.path().join("deep/er")).unwrap();
    drop(folder.create("b", ByteCount::ZERO).unwrap());
    drop(folder.create("a", ByteCount::ZERO).unwrap());
    let inner = folder.folder("inner").unwrap();
    drop(inner.create("c", ByteCount::ZERO).unwrap());
    folder.rename("b", "z").unwrap();
    folder.sync().unwrap();
    assert_eq!(folder.list().unwrap(), ["a", "z"]);
    folder.remove("a").unwrap();
    assert!(matches!(
        folder.remove("a"),
        Err(DiskError::NotFound { .. })
    ));
    assert!(matches!(folder.open("a"), Err(DiskError::NotFound { .. })));
    assert!(matches!(
        folder.rename("a", "b"),
        Err(DiskError::NotFound { .. })
    ));
}

#[test]
fn a_name_with_a_separator_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = RealFolder::open(place.path()).unwrap();
    for name in ["", ".", "..", "a/b", "/a"] {
        assert!(
            matches!(
                folder.create(name, ByteCount::ZERO),
                Err(DiskError::Failed { .. })
            ),
            "{name:?}"
        );
    }
}

#[test]
fn a_second_lock_is_refused_and_names_the_holder() {
    let place = tempfile::tempdir().unwrap();
    let held = lock(place.path()).unwrap();
    let refused = lock(place.path()).unwrap_err();
    let pid = std::process::id();
    assert!(matches!(&refused, LockError::Held { pid: p, .. } if *p == pid.to_string()));
    assert!(
        refused
            .to_string()
            .starts_with(&format!("another holm (pid {pid}) has this directory open")),
        "{refused}"
    );
    drop(held);
    drop(lock(place.path()).unwrap());
}

#[test]
fn folders_that_are_there_are_opened_again() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a/b");
    for _ in 0..2 {
        let folder = RealFolder::open(&path).unwrap();
        let inner = folder.folder("inner").unwrap();
        assert_eq!(inner.list().unwrap(), Vec::<String>::new());
    }
    assert!(path.join("inner").is_dir());
}
