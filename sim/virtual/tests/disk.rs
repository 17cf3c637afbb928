//! The virtual disk keeps its own promises: what survives, what fails, what is full.

use holm_base::ByteCount;
use holm_machine::{Disk, DiskError, Folder};
use holm_virtual::{Fault, Storage, Survival};

const ZERO: ByteCount = ByteCount::ZERO;

fn survivals() -> Vec<Survival> {
    let mut all = vec![Survival::Keep, Survival::Drop];
    for seed in 0..20 {
        all.extend([Survival::Torn { seed }, Survival::Reordered { seed }]);
    }
    all
}

fn file(root: &dyn Folder, name: &str, bytes: &[u8]) -> Box<dyn Disk> {
    let mut file = root
        .create(name, ByteCount::new(2048))
        .expect("there is room");
    file.write(ZERO, bytes).expect("nothing fails here");
    file
}

#[test]
fn synced_bytes_and_names_survive_every_crash() {
    let storage = Storage::new();
    let root = storage.root();
    let mut kept = file(&*root, "a", &[1; 2048]);
    kept.sync().unwrap();
    root.sync().unwrap();
    kept.write(ZERO, &[2; 2048]).unwrap();
    drop(file(&*root, "b", &[3; 10]));
    for survival in survivals() {
        let after = storage.reopen(survival);
        let bytes = after.bytes("a").expect("its name was synced");
        assert_eq!(bytes.len(), 2048);
        let whole = bytes
            .chunks(512)
            .all(|sector| sector == [1; 512] || sector == [2; 512]);
        assert!(whole, "a sector was torn under {survival:?}");
    }
    let dropped = storage.reopen(Survival::Drop);
    assert_eq!(dropped.bytes("a"), Some(vec![1; 2048]));
    assert_eq!(dropped.names(), ["a"]);
    let all = storage.reopen(Survival::Keep);
    assert_eq!(all.bytes("a"), Some(vec![2; 2048]));
    assert_eq!(all.names(), ["a", "b"]);
}

#[test]
fn reordering_keeps_some_sectors_and_loses_others() {
    let storage = Storage::new();
    let root = storage.root();
    let mut kept = file(&*root, "a", &[1; 2048]);
    kept.sync().unwrap();
    root.sync().unwrap();
    kept.write(ZERO, &[2; 2048]).unwrap();
    let mixed = |survival| {
        let bytes = storage.reopen(survival).bytes("a").unwrap();
        bytes.contains(&1) && bytes.contains(&2)
    };
    assert!((0..20).any(|seed| mixed(Survival::Reordered { seed })));
    assert!((0..20).any(|seed| mixed(Survival::Torn { seed })));
}

#[test]
fn a_name_may_survive_without_its_length() {
    let storage = Storage::new();
    let root = storage.root();
    drop(file(&*root, "a", &[1; 10]));
    root.sync().unwrap();
    assert_eq!(storage.reopen(Survival::Drop).bytes("a"), Some(Vec::new()));
}

#[test]
fn a_renaming_is_there_or_not_but_never_half() {
    let storage = Storage::new();
    let root = storage.root();
    file(&*root, "a", b"new").sync().unwrap();
    file(&*root, "b", b"old").sync().unwrap();
    root.sync().unwrap();
    root.rename("a", "b").unwrap();
    for survival in survivals() {
        let after = storage.reopen(survival);
        let names = after.names();
        let b = after.bytes("b").expect("b was there and is replaced");
        if names.len() == 1 {
            assert_eq!(&b[..3], b"new");
        } else {
            assert_eq!(&b[..3], b"old");
        }
    }
}

#[test]
fn a_crash_stops_everything_at_its_step() {
    let storage = Storage::new();
    let root = storage.root();
    storage.crash_at(2);
    let mut made = root.create("a", ByteCount::new(512)).unwrap();
    made.write(ZERO, &[1; 512]).unwrap_err();
    assert!(storage.has_crashed());
    made.sync().unwrap_err();
    root.sync().unwrap_err();
    root.list().unwrap_err();
    assert_eq!(storage.steps(), 2);
    assert_eq!(storage.trace(), ["create a 512", "write a 0+512"]);
}

#[test]
fn a_crash_during_a_sync_promises_nothing() {
    let storage = Storage::new();
    let root = storage.root();
    let mut made = root.create("a", ByteCount::new(512)).unwrap();
    root.sync().unwrap();
    made.write(ZERO, &[1; 512]).unwrap();
    storage.crash_at(4);
    made.sync().unwrap_err();
    assert_eq!(storage.reopen(Survival::Drop).bytes("a"), Some(Vec::new()));
    assert_eq!(
        storage.reopen(Survival::Keep).bytes("a"),
        Some(vec![1; 512])
    );
}

#[test]
fn a_failed_write_poisons_its_handle_and_changes_nothing() {
    let storage = Storage::new();
    let root = storage.root();
    let mut made = file(&*root, "a", &[1; 512]);
    storage.fail_at(3, Fault::Io);
    assert!(matches!(
        made.write(ZERO, &[2; 512]),
        Err(DiskError::Failed { .. })
    ));
    assert!(matches!(made.sync(), Err(DiskError::Poisoned { .. })));
    assert!(matches!(
        made.read(ZERO, &mut [0]),
        Err(DiskError::Poisoned { .. })
    ));
    assert_eq!(&storage.bytes("a").unwrap()[..512], &[1; 512]);
    root.open("a").unwrap().sync().unwrap();
}

#[test]
fn a_full_disk_refuses_to_allocate_and_frees_what_is_removed() {
    let storage = Storage::new();
    storage.set_capacity(ByteCount::new(4096));
    let root = storage.root();
    let held = root.create("a", ByteCount::new(3000)).unwrap();
    assert!(matches!(
        root.create("b", ByteCount::new(2000)),
        Err(DiskError::Full { .. })
    ));
    assert_eq!(root.list().unwrap(), ["a"]);
    root.remove("a").unwrap();
    assert_eq!(
        storage.used(),
        ByteCount::new(3000),
        "an open file keeps its room"
    );
    drop(held);
    assert_eq!(root.free().unwrap(), ByteCount::new(4096));
    let mut grown = root.create("b", ByteCount::new(4000)).unwrap();
    assert!(matches!(
        grown.write(ByteCount::new(4000), &[1; 97]),
        Err(DiskError::Full { .. })
    ));
}

#[test]
fn folders_keep_their_names_apart() {
    let storage = Storage::new();
    let root = storage.root();
    let inner = root.folder("log").unwrap();
    drop(file(&*inner, "a", b"x"));
    assert_eq!(root.list().unwrap(), Vec::<String>::new());
    assert_eq!(inner.list().unwrap(), ["a"]);
    assert_eq!(storage.names(), ["log/a"]);
    root.sync().unwrap();
    assert_eq!(storage.reopen(Survival::Drop).names(), Vec::<String>::new());
    inner.sync().unwrap();
    assert_eq!(storage.reopen(Survival::Drop).names(), ["log/a"]);
}

#[test]
fn rot_is_durable_and_no_step() {
    let storage = Storage::new();
    storage.put("log/a", &[7; 1024]);
    storage.flip("log/a", ByteCount::new(3), 1);
    storage.blank("log/a", ByteCount::new(512), 512);
    storage.patch("log/a", ZERO, b"!");
    let bytes = storage.reopen(Survival::Drop).bytes("log/a").unwrap();
    assert_eq!((bytes[0], bytes[3], bytes[512]), (b'!', 6, 0));
    assert_eq!(storage.steps(), 0);
}

#[test]
fn what_others_append_is_durable_and_needs_room() {
    let storage = Storage::new();
    storage.put("source/rows", b"one\n");
    let reader = storage.root().open_read_only("source/rows").unwrap();
    storage.append("source/rows", b"two\n").unwrap();
    let mut read = [0; 8];
    reader.read(ZERO, &mut read).unwrap();
    assert_eq!(&read, b"one\ntwo\n");
    let after = storage.reopen(Survival::Drop);
    assert_eq!(after.bytes("source/rows"), Some(b"one\ntwo\n".to_vec()));
    assert_eq!(storage.steps(), 0);
    storage.set_capacity(storage.used());
    let refused = storage.append("source/rows", b"three\n");
    assert!(matches!(refused, Err(DiskError::Full { .. })));
    let missing = storage.append("source/other", b"");
    assert!(matches!(missing, Err(DiskError::NotFound { .. })));
}
