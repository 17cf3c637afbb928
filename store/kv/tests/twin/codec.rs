//! The layout of a proposal: what was written reads back, and nothing else reads at all.

use crate::dumb::generate;
use arbtest::arbtest;
use bytes::Bytes;
use holm_base::Term;
use holm_kv::command::{Access, AlarmKind, AuthChange, Caller, Command, Permission, Proposal, Put};

fn auth_samples() -> Vec<Command> {
    let name = || "n".to_owned();
    let permission = Permission {
        access: Access::ReadWrite,
        key: Bytes::from_static(b"k"),
        range_end: Bytes::from_static(b"\0"),
    };
    let auth = [
        AuthChange::Enable,
        AuthChange::Disable,
        AuthChange::UserAdd {
            name: name(),
            password_hash: "h".to_owned(),
            no_password: true,
        },
        AuthChange::UserDelete { name: name() },
        AuthChange::UserChangePassword {
            name: name(),
            password_hash: String::new(),
        },
        AuthChange::UserGrantRole {
            user: name(),
            role: "r".to_owned(),
        },
        AuthChange::UserRevokeRole {
            name: name(),
            role: "r".to_owned(),
        },
        AuthChange::RoleAdd { name: name() },
        AuthChange::RoleDelete { role: name() },
        AuthChange::RoleGrantPermission {
            name: name(),
            permission,
        },
        AuthChange::RoleRevokePermission {
            role: name(),
            key: Bytes::from_static(b"k"),
            range_end: Bytes::new(),
        },
    ];
    auth.into_iter().map(Command::Auth).collect()
}

fn samples() -> Vec<Command> {
    let name = || "n".to_owned();
    let mut all = auth_samples();
    all.extend([
        Command::Compact { revision: i64::MAX },
        Command::LeaseGrant {
            id: -1,
            ttl: i64::MIN,
            ttl_min: 2,
        },
        Command::LeaseRevoke { id: 7 },
        Command::LeaseCheckpoint {
            remaining: vec![(1, 2), (i64::MAX, 0)],
        },
        Command::LeaseExpire {
            term: Term::new(u64::MAX),
            ids: vec![1, 2, 3],
        },
        Command::Alarm {
            raise: true,
            member: 9,
            kind: AlarmKind::Corrupt,
            by_node: true,
        },
        Command::Cluster {
            name: name(),
            value: None,
        },
        Command::Cluster {
            name: name(),
            value: Some(Bytes::new()),
        },
        Command::ClusterSwap {
            name: name(),
            expected: None,
            value: Bytes::new(),
        },
        Command::ClusterSwap {
            name: name(),
            expected: Some(Bytes::new()),
            value: Bytes::from_static(b"new"),
        },
    ]);
    all
}

fn round(proposal: &Proposal) {
    let bytes = proposal.encode();
    assert_eq!(Proposal::decode(&bytes).as_ref(), Ok(proposal));
    for len in 0..bytes.len() {
        assert!(
            Proposal::decode(&bytes.slice(..len)).is_err(),
            "cut at {len}"
        );
    }
    let longer = [bytes.as_ref(), b"\0"].concat();
    assert!(Proposal::decode(&longer.into()).is_err(), "a byte follows");
}

#[test]
fn every_command_reads_back_whole_and_never_cut() {
    for command in samples() {
        round(&Proposal {
            caller: Some(Caller {
                user: "ann".to_owned(),
                auth_revision: 300,
            }),
            command,
        });
    }
}

#[test]
fn random_commands_read_back() {
    arbtest(|u| {
        let command = generate::command(u, 300)?;
        round(&Proposal {
            caller: None,
            command,
        });
        Ok(())
    });
}

#[test]
fn hostile_bytes_are_refused_or_encode_to_themselves() {
    arbtest(|u| {
        let mut bytes = Proposal {
            caller: None,
            command: generate::command(u, 300)?,
        }
        .encode()
        .to_vec();
        for _ in 0..u.int_in_range(1..=3)? {
            let at = u.choose_index(bytes.len())?;
            bytes[at] = u.arbitrary()?;
        }
        let bytes = Bytes::from(bytes);
        if let Ok(proposal) = Proposal::decode(&bytes) {
            assert_eq!(proposal.encode(), bytes, "{proposal:?}");
        }
        Ok(())
    });
}

#[test]
fn a_count_beyond_the_input_allocates_nothing_and_deep_nesting_ends() {
    let endless = Bytes::from_static(b"\x01\x00\x08\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f");
    assert!(Proposal::decode(&endless).is_err());
    let mut bytes = vec![1, 0, 3];
    for _ in 0..100_000 {
        bytes.extend([0, 1, 4]);
    }
    assert!(Proposal::decode(&bytes.into()).is_err());
}

#[test]
fn a_key_and_its_value_share_the_entry_s_memory() {
    let put = Put {
        key: Bytes::from_static(b"key"),
        value: Bytes::from(vec![7; 1000]),
        ..Put::default()
    };
    let bytes = Proposal {
        caller: None,
        command: Command::Put(put),
    }
    .encode();
    let Ok(Command::Put(put)) = Proposal::decode(&bytes).map(|it| it.command) else {
        panic!("it is a put");
    };
    assert!(bytes.as_ptr_range().contains(&put.value.as_ptr()));
}
