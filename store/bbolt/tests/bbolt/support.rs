//! A file in memory, and the way from contents to a file and back.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use holm_base::ByteCount;
use holm_bbolt::{Closed, Database, Plan, ReadError, Sink, WriteError, Writer};
use holm_machine::{Disk, DiskError};

/// Buckets, and their keys and values.
pub(crate) type Contents = BTreeMap<Bytes, BTreeMap<Bytes, Bytes>>;

/// Bytes that read like a file.
#[derive(Debug)]
pub(crate) struct Memory(pub(crate) Vec<u8>);

impl Disk for Memory {
    fn read(&self, at: ByteCount, into: &mut [u8]) -> Result<(), DiskError> {
        let start = usize::try_from(at.value()).expect("tests are small");
        let end = start.saturating_add(into.len());
        let part = self.0.get(start..end).ok_or_else(|| DiskError::Short {
            name: "memory".to_owned(),
            at,
            missing: ByteCount::new(1),
        })?;
        into.copy_from_slice(part);
        Ok(())
    }

    fn write(&mut self, _at: ByteCount, _bytes: &[u8]) -> Result<(), DiskError> {
        Err(refused())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        Err(refused())
    }

    fn len(&self) -> Result<ByteCount, DiskError> {
        let len = u64::try_from(self.0.len()).expect("tests are small");
        Ok(ByteCount::new(len))
    }

    fn set_len(&mut self, _len: ByteCount) -> Result<(), DiskError> {
        Err(refused())
    }
}

fn refused() -> DiskError {
    DiskError::Poisoned {
        name: "memory".to_owned(),
    }
}

impl Sink for Memory {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Hands all contents to a writer.
pub(crate) fn fill(writer: &mut Writer<'_>, contents: &Contents) -> Result<(), WriteError> {
    for (name, keys) in contents {
        writer.bucket(name)?;
        for (key, value) in keys {
            writer.put(key.clone(), value.clone())?;
        }
    }
    Ok(())
}

/// The first pass.
pub(crate) fn plan(contents: &Contents) -> Plan {
    let mut measure = Writer::measure();
    fill(&mut measure, contents).expect("a map is in order");
    measure.plan().expect("a map is in order")
}

/// The file, with its checksum.
pub(crate) fn written(contents: &Contents) -> Memory {
    let plan = plan(contents);
    let mut file = Memory(Vec::new());
    let mut writer = Writer::write(plan, 7, &mut file).expect("memory takes all");
    fill(&mut writer, contents).expect("it is the same");
    let sum = writer.finish().expect("it is the same");
    let len = u64::try_from(file.0.len()).expect("tests are small");
    assert_eq!(len, plan.file_bytes(), "I1: as long as planned");
    file.0.extend_from_slice(&sum);
    file
}

/// Everything that the reader finds.
pub(crate) fn read(file: &Memory) -> Result<Contents, ReadError> {
    let database = Database::open(file)?;
    let mut contents: Contents = database
        .buckets()
        .map(|name| (name.clone(), BTreeMap::new()))
        .collect();
    database.read_all(&mut |entry| {
        let keys = contents.get_mut(&entry.bucket).expect("it was listed");
        keys.insert(entry.key, entry.value);
        ControlFlow::Continue(())
    })?;
    Ok(contents)
}
