//! Answers of the hot calls, written by hand from record bytes: nothing is taken apart and
//! put together again.
//!
//! What would surprise: lengths come before bodies in this format, so each message is measured
//! before it is written; measuring reads no record.

use bytes::{BufMut as _, Bytes, BytesMut};
use holm_kv::Record;
use holm_kv::outcome::{Outcome, RangeOutcome};
use holm_kv::record::put_varint;
use holm_runtime::Identity;

use super::frame;

/// What a response's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) cluster: u64,
    pub(crate) node: u64,
    pub(crate) revision: i64,
    pub(crate) term: u64,
}

impl Header {
    pub(crate) fn new(identity: &Identity, revision: i64, term: u64) -> Self {
        Self {
            cluster: identity.cluster.value(),
            node: identity.node.value(),
            revision,
            term,
        }
    }

    fn body_len(&self) -> usize {
        number_len(self.cluster)
            + number_len(self.node)
            + number_len(self.revision.cast_unsigned())
            + number_len(self.term)
    }

    pub(crate) fn len(&self) -> usize {
        field_len(self.body_len())
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        put_head(out, 1, self.body_len());
        put_number(out, 1, self.cluster);
        put_number(out, 2, self.node);
        put_number(out, 3, self.revision.cast_unsigned());
        put_number(out, 4, self.term);
    }

    /// What a response within a transaction has: a revision alone.
    const fn inner(revision: i64) -> Self {
        Self {
            cluster: 0,
            node: 0,
            revision,
            term: 0,
        }
    }
}

/// A put's answer, framed.
pub(crate) fn put(header: Header, prev: Option<&Record>) -> Bytes {
    let body = put_len(&header, prev);
    let mut out = frame::begin(body);
    write_put(&mut out, &header, prev);
    out.freeze()
}

/// A delete's answer, framed.
pub(crate) fn delete_range(header: Header, deleted: i64, prev: &[Record]) -> Bytes {
    let mut out = frame::begin(delete_len(&header, deleted, prev));
    write_delete(&mut out, &header, deleted, prev);
    out.freeze()
}

/// A transaction's answer, framed.
pub(crate) fn txn(header: Header, succeeded: bool, responses: &[Outcome]) -> Bytes {
    let mut shown = Shown::new(header.revision, responses);
    let mut out = frame::begin(txn_len(&header, succeeded, responses, &mut shown.clone()));
    write_txn(&mut out, &header, succeeded, responses, &mut shown);
    out.freeze()
}

/// A read's answer, framed.
pub(crate) fn range(header: Header, found: &RangeOutcome) -> Bytes {
    let mut out = frame::begin(range_len(&header, found));
    write_range(&mut out, &header, found);
    out.freeze()
}

/// What precedes a record in a read's answer.
pub(crate) fn put_record_head(out: &mut BytesMut, record_bytes: usize) {
    put_head(out, 2, record_bytes);
}

/// How long a record of `record_bytes` is in a read's answer.
pub(crate) fn record_len(record_bytes: usize) -> usize {
    field_len(record_bytes)
}

/// How long the end of a read's answer is.
pub(crate) fn range_tail_len(more: bool, count: i64) -> usize {
    2 * usize::from(more) + number_len(count.cast_unsigned())
}

/// The end of a read's answer: whether there is more, and how many there are.
pub(crate) fn put_range_tail(out: &mut BytesMut, more: bool, count: i64) {
    if more {
        put_number(out, 3, 1);
    }
    put_number(out, 4, count.cast_unsigned());
}

fn put_len(header: &Header, prev: Option<&Record>) -> usize {
    header.len() + prev.map_or(0, |it| field_len(it.bytes().len()))
}

fn write_put(out: &mut BytesMut, header: &Header, prev: Option<&Record>) {
    header.put(out);
    if let Some(record) = prev {
        put_record(out, 2, record);
    }
}

fn delete_len(header: &Header, deleted: i64, prev: &[Record]) -> usize {
    header.len() + number_len(deleted.cast_unsigned()) + records_len(prev)
}

fn write_delete(out: &mut BytesMut, header: &Header, deleted: i64, prev: &[Record]) {
    header.put(out);
    put_number(out, 2, deleted.cast_unsigned());
    for record in prev {
        put_record(out, 3, record);
    }
}

fn range_len(header: &Header, found: &RangeOutcome) -> usize {
    header.len() + records_len(&found.records) + range_tail_len(found.more, found.count)
}

fn write_range(out: &mut BytesMut, header: &Header, found: &RangeOutcome) {
    header.put(out);
    for record in &found.records {
        put_record(out, 2, record);
    }
    put_range_tail(out, found.more, found.count);
}

/// The revision that responses within a transaction show: that before it, until one of its
/// operations has changed something, and its own from then on.
#[derive(Clone, Copy, Debug)]
struct Shown {
    before: i64,
    has_changed: bool,
}

impl Shown {
    fn new(revision: i64, responses: &[Outcome]) -> Self {
        let changes = i64::from(responses.iter().any(changes));
        Self {
            before: revision - changes,
            has_changed: false,
        }
    }

    /// The header of the next response; a nested transaction's is empty.
    fn next(&mut self, outcome: &Outcome) -> Header {
        if matches!(outcome, Outcome::Txn { .. }) {
            return Header::inner(0);
        }
        self.has_changed |= changes(outcome);
        Header::inner(self.before + i64::from(self.has_changed))
    }
}

/// Whether an operation changed anything.
fn changes(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Put { .. } => true,
        Outcome::DeleteRange { deleted, .. } => *deleted > 0,
        Outcome::Txn { responses, .. } => responses.iter().any(changes),
        Outcome::Range(_) => false,
        Outcome::LeaseGrant { .. } | Outcome::Alarms(_) | Outcome::Done => no_operation(outcome),
    }
}

fn txn_len(header: &Header, succeeded: bool, responses: &[Outcome], shown: &mut Shown) -> usize {
    let mut len = header.len() + 2 * usize::from(succeeded);
    for response in responses {
        len += field_len(field_len(outcome_len(response, shown)));
    }
    len
}

fn write_txn(
    out: &mut BytesMut,
    header: &Header,
    succeeded: bool,
    responses: &[Outcome],
    shown: &mut Shown,
) {
    header.put(out);
    if succeeded {
        put_number(out, 2, 1);
    }
    for response in responses {
        let body = outcome_len(response, &mut shown.clone());
        put_head(out, 3, field_len(body));
        write_outcome(out, response, body, shown);
    }
}

fn outcome_len(outcome: &Outcome, shown: &mut Shown) -> usize {
    let header = shown.next(outcome);
    match outcome {
        Outcome::Range(found) => range_len(&header, found),
        Outcome::Put { prev } => put_len(&header, prev.as_ref()),
        Outcome::DeleteRange { deleted, prev } => delete_len(&header, *deleted, prev),
        Outcome::Txn {
            succeeded,
            responses,
        } => txn_len(&header, *succeeded, responses, shown),
        Outcome::LeaseGrant { .. } | Outcome::Alarms(_) | Outcome::Done => no_operation(outcome),
    }
}

fn write_outcome(out: &mut BytesMut, outcome: &Outcome, body: usize, shown: &mut Shown) {
    let header = shown.next(outcome);
    match outcome {
        Outcome::Range(found) => {
            put_head(out, 1, body);
            write_range(out, &header, found);
        }
        Outcome::Put { prev } => {
            put_head(out, 2, body);
            write_put(out, &header, prev.as_ref());
        }
        Outcome::DeleteRange { deleted, prev } => {
            put_head(out, 3, body);
            write_delete(out, &header, *deleted, prev);
        }
        Outcome::Txn {
            succeeded,
            responses,
        } => {
            put_head(out, 4, body);
            write_txn(out, &header, *succeeded, responses, shown);
        }
        Outcome::LeaseGrant { .. } | Outcome::Alarms(_) | Outcome::Done => no_operation(outcome),
    }
}

fn no_operation<T>(outcome: &Outcome) -> T {
    unreachable!("a transaction holds reads, puts, deletes and transactions, not {outcome:?}")
}

fn records_len(records: &[Record]) -> usize {
    records.iter().map(|it| field_len(it.bytes().len())).sum()
}

fn put_record(out: &mut BytesMut, number: u8, record: &Record) {
    put_head(out, number, record.bytes().len());
    out.put_slice(record.bytes());
}

/// How long a field with a body of `body` bytes is, its head included (numbers up to 15).
pub(crate) fn field_len(body: usize) -> usize {
    1 + varint_len(body as u64) + body
}

/// The head of a field with a body.
pub(crate) fn put_head(out: &mut BytesMut, number: u8, body: usize) {
    out.put_u8(number << 3 | 2);
    put_varint(out, body as u64);
}

/// How long a number's field is; zero is left out.
pub(crate) fn number_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

/// A number's field; zero is left out.
pub(crate) fn put_number(out: &mut BytesMut, number: u8, value: u64) {
    if value != 0 {
        out.put_u8(number << 3);
        put_varint(out, value);
    }
}

fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).expect("at most ten")
}

#[cfg(test)]
mod tests {
    use holm_kv::record::Parts;
    use prost::Message as _;

    use super::*;
    use crate::proto::etcdserverpb::{
        PutResponse, RangeResponse, ResponseHeader, TxnResponse, response_op::Response,
    };

    const HEADER: Header = Header {
        cluster: u64::MAX,
        node: 7,
        revision: 300,
        term: 2,
    };

    fn record(key: &'static str) -> Record {
        Record::encode(&Parts {
            key: Bytes::from_static(key.as_bytes()),
            create: 2,
            modified: 200,
            version: 3,
            value: Bytes::from(vec![b'v'; 200]),
            lease: -5,
            mark: Bytes::new(),
        })
    }

    fn unframed(framed: &Bytes) -> Bytes {
        let length = u32::try_from(framed.len() - frame::PREFIX_BYTES).unwrap();
        assert_eq!(framed[0], 0);
        assert_eq!(
            framed[1..5]
                .iter()
                .fold(0_u32, |sum, &it| sum << 8 | u32::from(it)),
            length
        );
        framed.slice(frame::PREFIX_BYTES..)
    }

    #[test]
    fn a_put_reads_back() {
        let read = PutResponse::decode(unframed(&put(HEADER, Some(&record("k"))))).unwrap();
        let header = ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 7,
            revision: 300,
            raft_term: 2,
        };
        assert_eq!(read.header, Some(header));
        let prev = read.prev_kv.unwrap();
        assert_eq!((prev.lease, prev.value.len()), (-5, 200));
    }

    #[test]
    fn a_nested_transaction_reads_back() {
        let found = RangeOutcome {
            records: vec![record("a"), record("b")],
            more: true,
            count: 9,
        };
        let inner = Outcome::Txn {
            succeeded: false,
            responses: vec![Outcome::Range(found), Outcome::Put { prev: None }],
        };
        let deleted = Outcome::DeleteRange {
            deleted: 1,
            prev: vec![record("c")],
        };
        let framed = txn(HEADER, true, &[inner, deleted]);
        let read = TxnResponse::decode(unframed(&framed)).unwrap();
        assert!(read.succeeded);
        let Some(Response::ResponseTxn(inner)) = read.responses[0].response.clone() else {
            panic!("the first response is a transaction");
        };
        let Some(Response::ResponseRange(range)) = inner.responses[0].response.clone() else {
            panic!("its first response is a read");
        };
        assert_eq!((range.kvs.len(), range.more, range.count), (2, true, 9));
        let shown = range.header.unwrap();
        assert_eq!(
            (shown.cluster_id, shown.revision),
            (0, 299),
            "nothing was written before it"
        );
        let Some(Response::ResponseDeleteRange(deleted)) = read.responses[1].response.clone()
        else {
            panic!("the second response is a delete");
        };
        assert_eq!(deleted.header.unwrap().revision, 300);
    }

    #[test]
    fn an_empty_read_has_a_header_alone() {
        let framed = range(HEADER, &RangeOutcome::default());
        let read = RangeResponse::decode(unframed(&framed)).unwrap();
        assert_eq!((read.kvs.len(), read.more, read.count), (0, false, 0));
    }
}
