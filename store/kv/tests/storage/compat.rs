//! Files of format 1, as they were written when it was made: they are read for ever.
//!
//! The same commands must still give the same bytes. If a change of the layout breaks that,
//! it needs a new format number, and these files stay as they are.

use holm_base::{ByteCount, Prng, Time};
use holm_kv::{Store, StoreConfig};
use holm_virtual::Storage;

use crate::twin::{Command, Twin, apply, command, compare_all, settle};

const FILES: [(&str, &[u8]); 6] = [
    ("head", include_bytes!("v1/head")),
    ("0000000006.seg", include_bytes!("v1/0000000006.seg")),
    ("0000000008.seg", include_bytes!("v1/0000000008.seg")),
    ("0000000009.ckp", include_bytes!("v1/0000000009.ckp")),
    ("0000000009.seg", include_bytes!("v1/0000000009.seg")),
    ("0000000010.ckp", include_bytes!("v1/0000000010.ckp")),
];

fn tiny() -> StoreConfig {
    StoreConfig {
        segment_bytes: ByteCount::new(8 << 10),
        checkpoint_bytes_min: ByteCount::new(3 << 10),
        ..StoreConfig::default()
    }
}

fn commands() -> Vec<Command> {
    let mut random = Prng::new(1);
    (0..80).map(|_| command(&mut random, 60)).collect()
}

fn write() -> Storage {
    let storage = Storage::new();
    let mut store = Store::open(storage.root(), tiny()).expect("it opens");
    let mut now = Time::ZERO;
    for (op, command) in (1..).zip(&commands()) {
        apply(&mut store, command, op);
        if op % 4 == 0 {
            settle(&mut store, &mut now).expect("the disk works");
        }
    }
    storage
}

#[test]
fn files_of_format_1_are_read() {
    let storage = Storage::new();
    for (name, bytes) in FILES {
        storage.put(name, bytes);
    }
    let mut store = Store::open(storage.root(), tiny()).expect("they are whole");
    compare_all(&mut store, &Twin::after(&commands()), 1000);
}

#[test]
fn format_1_is_still_written_byte_by_byte() {
    let storage = write();
    let names = storage.names();
    let kept: Vec<_> = names
        .iter()
        .filter(|name| !name.starts_with("spare"))
        .collect();
    assert_eq!(kept.len(), FILES.len(), "{kept:?}");
    for (name, bytes) in FILES {
        assert!(
            storage.bytes(name).as_deref() == Some(bytes),
            "{name} changed"
        );
    }
}
