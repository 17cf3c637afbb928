//! Leases through the boundary: granting, renewing, ending, expiring, surviving.

use std::time::Duration;

use crate::dumb::site::Site;
use bytes::Bytes;
use holm_base::{Revision, Term};
use holm_kv::command::{Command, Put, Range};
use holm_kv::outcome::Outcome;
use holm_kv::record::Parts;
use holm_kv::{KeyRange, Refusal};

fn grant(id: i64, ttl: i64) -> Command {
    Command::LeaseGrant {
        id,
        ttl,
        ttl_min: 2,
    }
}

fn put(key: String, lease: i64) -> Command {
    Command::Put(Put {
        key: key.into(),
        lease,
        ..Put::default()
    })
}

fn granted(leases: &[(i64, i64)]) -> Site {
    let mut site = Site::new();
    for &(id, ttl) in leases {
        let given = site.apply(grant(id, ttl));
        assert_eq!(given, Ok(Outcome::LeaseGrant { id, ttl }));
    }
    site
}

fn pass(site: &mut Site, seconds: u64) {
    site.now = site.now + Duration::from_secs(seconds);
}

/// Applies what the keyspace proposes by itself; gives how many leases each entry ended.
fn expire(site: &mut Site) -> Vec<usize> {
    let mut ended = Vec::new();
    while let Some(command) = site.keyspace.due(site.now) {
        if let Command::LeaseExpire { ids, .. } = &command {
            ended.push(ids.len());
        }
        site.apply(command)
            .expect("the keyspace knows what it asks");
    }
    ended
}

fn count(site: &Site) -> u64 {
    let all = KeyRange::From(Bytes::new());
    site.keyspace.reader().view().root.count(&all)
}

#[test]
fn a_lease_ends_after_its_time_and_no_sooner() {
    let mut site = granted(&[(1, 10)]);
    for key in ["b", "c", "a"] {
        site.apply(put(key.to_owned(), 1))
            .expect("the lease is there");
    }
    pass(&mut site, 9);
    assert_eq!(expire(&mut site), []);
    assert_eq!(site.keyspace.time_to_live(site.now, 1, false).ttl, 1);
    pass(&mut site, 2);
    assert_eq!(expire(&mut site), [1]);
    let view = site.keyspace.reader().view();
    assert_eq!((count(&site), view.root.revision()), (0, Revision::new(5)));
    let mut order = Vec::new();
    view.root
        .changes(Revision::new(5), Revision::new(5), 1 << 20, &mut |it| {
            order.push(it.key);
        })
        .expect("it is readable");
    assert_eq!(order, ["a", "b", "c"], "sorted, in one revision");
    assert_eq!(site.keyspace.time_to_live(site.now, 1, true).ttl, -1);
}

#[test]
fn a_renewed_lease_lives_on_and_an_expiring_one_is_not_renewed() {
    let mut site = granted(&[(1, 10)]);
    pass(&mut site, 9);
    assert_eq!(site.keyspace.renew(site.now, 1), Ok(10));
    pass(&mut site, 9);
    assert_eq!(expire(&mut site), []);
    pass(&mut site, 2);
    let proposed = site.keyspace.due(site.now).expect("its time is up");
    let gone = Err(Refusal::LeaseNotFound);
    assert_eq!(
        site.keyspace.renew(site.now, 1),
        gone,
        "its end is on the way"
    );
    site.apply(proposed).expect("it expires");
    assert_eq!(site.keyspace.renew(site.now, 1), gone);
    assert!(site.keyspace.leases().is_empty());
}

#[test]
fn an_expiry_of_another_term_changes_nothing() {
    let mut site = granted(&[(1, 10)]);
    site.apply(put("a".to_owned(), 1))
        .expect("the lease is there");
    let foreign = Command::LeaseExpire {
        term: Term::new(site.term.value() + 1),
        ids: vec![1],
    };
    site.apply(foreign).expect("it is no error");
    assert_eq!((count(&site), site.keyspace.leases()), (1, vec![1]));
}

#[test]
fn a_put_without_a_lease_detaches_the_key() {
    let mut site = granted(&[(1, 10), (2, 10)]);
    for (key, lease) in [("a", 1), ("b", 1), ("c", 1), ("a", 0), ("b", 2)] {
        site.apply(put(key.to_owned(), lease))
            .expect("the lease is there");
    }
    assert_eq!(site.keyspace.time_to_live(site.now, 1, true).keys, ["c"]);
    site.apply(Command::LeaseRevoke { id: 1 })
        .expect("it is there");
    assert_eq!(count(&site), 2);
    let before = site.keyspace.reader().view().root.revision();
    site.apply(Command::LeaseRevoke { id: 1 })
        .expect_err("it is gone");
    site.apply(grant(3, 5)).expect("a new one");
    site.apply(Command::LeaseRevoke { id: 3 })
        .expect("it has no key");
    let after = site.keyspace.reader().view().root.revision();
    assert_eq!(before, after, "a lease without keys takes no revision");
}

#[test]
fn refusals_are_etcd_s() {
    let mut site = granted(&[(1, 10)]);
    assert_eq!(site.apply(grant(1, 10)), Err(Refusal::LeaseExists));
    assert_eq!(
        site.apply(grant(2, 9_000_000_001)),
        Err(Refusal::LeaseTtlTooLarge)
    );
    assert_eq!(
        site.apply(put("a".to_owned(), 9)),
        Err(Refusal::LeaseNotFound)
    );
    assert_eq!(
        site.apply(grant(2, 0)),
        Ok(Outcome::LeaseGrant { id: 2, ttl: 2 })
    );
    let gone = site.apply(Command::LeaseRevoke { id: 7 });
    assert_eq!(gone, Err(Refusal::LeaseNotFound));
}

#[test]
fn leases_and_their_keys_survive_a_restart_with_their_time_anew() {
    let mut site = granted(&[(1, 10), (2, 100)]);
    site.apply(put("a".to_owned(), 1))
        .expect("the lease is there");
    site.apply(put("b".to_owned(), 2))
        .expect("the lease is there");
    pass(&mut site, 8);
    site.work();
    site.restart();
    assert_eq!(site.keyspace.leases(), [1, 2]);
    assert_eq!(site.keyspace.time_to_live(site.now, 2, true).keys, ["b"]);
    pass(&mut site, 9);
    assert_eq!(
        expire(&mut site),
        [],
        "time to live begins again with the leader"
    );
    pass(&mut site, 4);
    assert_eq!(expire(&mut site), [1]);
    let range = Range {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..Range::default()
    };
    let read = site
        .keyspace
        .reader()
        .view()
        .read(&range)
        .expect("now is readable");
    let left = read.records.iter().filter_map(|it| it.decode());
    assert_eq!(left.map(|Parts { key, .. }| key).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn what_was_left_is_remembered_every_five_minutes() {
    let mut site = granted(&[(1, 1_000), (2, 10_000)]);
    pass(&mut site, 301);
    let mut remembered = Vec::new();
    while let Some(command) = site.keyspace.due(site.now) {
        if let Command::LeaseCheckpoint { remaining } = &command {
            remembered.extend(remaining.clone());
        }
        site.apply(command)
            .expect("the keyspace knows what it asks");
    }
    assert_eq!(remembered, [(1, 699), (2, 9_699)]);
    site.restart();
    let left = site.keyspace.time_to_live(site.now, 1, false);
    assert_eq!(
        (left.ttl, left.granted_ttl),
        (700, 1_000),
        "with the election timeout"
    );
}

#[test]
fn twenty_thousand_leases_end_in_bounded_entries_a_few_at_a_time() {
    let mut site = Site::new();
    for id in 1..=20_000 {
        drop(site.order(None, grant(id, 20)));
    }
    site.publish();
    pass(&mut site, 21);
    let mut flying = Vec::new();
    while let Some(command) = site.keyspace.due(site.now) {
        flying.push(command);
    }
    assert!(
        flying.len() <= 4 && !flying.is_empty(),
        "{} are under way",
        flying.len()
    );
    for command in flying {
        site.apply(command)
            .expect("the keyspace knows what it asks");
    }
    let ended = expire(&mut site);
    assert!(ended.iter().all(|&leases| leases <= 1_000), "{ended:?}");
    assert!(site.keyspace.leases().is_empty());
}

#[test]
fn an_entry_ends_at_most_ten_thousand_keys() {
    let mut site = granted(&[(1, 20), (2, 20)]);
    for at in 0..6_000 {
        for lease in [1, 2] {
            drop(site.order(None, put(format!("{lease}/{at}"), lease)));
        }
    }
    site.publish();
    pass(&mut site, 21);
    assert_eq!(expire(&mut site), [1, 1]);
    assert_eq!(count(&site), 0);
}
