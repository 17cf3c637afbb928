//! Users and roles, rule by rule.

use holm_kv::command::{
    Access, AuthChange, Caller, Command, Compare, CompareResult, CompareTarget, DeleteRange,
    Permission, Proposal, Put, Range, Txn, TxnOp,
};
use holm_kv::{Config, Refusal, Restore, RestoreError, RestoredAuth, StoreConfig};

use crate::world::{World, all, bytes, delete, leased, put};

fn change(world: &mut World, change: AuthChange) -> Result<(), Refusal> {
    let caller = world.view().auth.enabled().then(|| caller(world, "root"));
    let proposal = Proposal {
        caller,
        command: Command::Auth(change),
    };
    let applied = world.apply_only(&proposal);
    world.publish();
    applied.result.map(drop)
}

fn caller(world: &World, user: &str) -> Caller {
    Caller {
        user: user.to_owned(),
        auth_revision: world.view().auth.revision(),
    }
}

fn user(world: &mut World, name: &str, role: &str) {
    let name = name.to_owned();
    let add = AuthChange::UserAdd {
        name: name.clone(),
        password_hash: "hash".to_owned(),
        no_password: false,
    };
    change(world, add).unwrap();
    let role = role.to_owned();
    change(world, AuthChange::UserGrantRole { user: name, role }).unwrap();
}

/// Root, and a user who may read [a, c) and write a.
fn enforced() -> World {
    let mut world = World::new(Config::default());
    let name = "some".to_owned();
    change(&mut world, AuthChange::RoleAdd { name: name.clone() }).unwrap();
    for (access, key, end) in [(Access::Read, "a", "c"), (Access::Write, "a", "")] {
        let permission = Permission {
            access,
            key: bytes(key),
            range_end: bytes(end),
        };
        let name = name.clone();
        change(
            &mut world,
            AuthChange::RoleGrantPermission { name, permission },
        )
        .unwrap();
    }
    assert_eq!(
        change(&mut world, AuthChange::Enable),
        Err(Refusal::RootUserNotExist)
    );
    user(&mut world, "root", "root");
    user(&mut world, "ann", "some");
    change(&mut world, AuthChange::Enable).unwrap();
    world
}

fn attempt(world: &mut World, name: &str, command: Command) -> Result<(), Refusal> {
    let proposal = Proposal {
        caller: Some(caller(world, name)),
        command,
    };
    world.apply_only(&proposal).result.map(drop)
}

#[test]
fn apply_decides_who_may_what() {
    let mut world = enforced();
    let denied = Err(Refusal::PermissionDenied);
    assert_eq!(world.command(put("a", "")).result, Err(Refusal::UserEmpty));
    assert_eq!(attempt(&mut world, "ann", put("a", "1")), Ok(()));
    assert_eq!(attempt(&mut world, "ann", put("b", "1")), denied);
    assert_eq!(attempt(&mut world, "ann", delete("a", "b")), denied);
    assert_eq!(attempt(&mut world, "root", put("z", "1")), Ok(()));
    assert_eq!(attempt(&mut world, "nobody", put("a", "1")), denied);
    let admin = Command::Auth(AuthChange::Disable);
    assert_eq!(attempt(&mut world, "ann", admin), denied);
    let deletion = DeleteRange {
        key: bytes("a"),
        prev_kv: true,
        ..DeleteRange::default()
    };
    assert_eq!(
        attempt(&mut world, "ann", Command::DeleteRange(deletion)),
        Ok(())
    );
}

#[test]
fn nothing_within_a_transaction_escapes() {
    let mut world = enforced();
    let denied = Err(Refusal::PermissionDenied);
    let read = |key: &str| {
        TxnOp::Range(Range {
            key: bytes(key),
            ..Range::default()
        })
    };
    let nested = |op: TxnOp| {
        let inner = Txn {
            failure: vec![op],
            ..Txn::default()
        };
        Command::Txn(Txn {
            success: vec![TxnOp::Txn(inner)],
            ..Txn::default()
        })
    };
    assert_eq!(attempt(&mut world, "ann", nested(read("b"))), Ok(()));
    assert_eq!(attempt(&mut world, "ann", nested(read("c"))), denied);
    let write = TxnOp::Put(Put {
        key: bytes("b"),
        ..Put::default()
    });
    assert_eq!(attempt(&mut world, "ann", nested(write)), denied);
    let compare = Compare {
        key: bytes("c"),
        range_end: bytes(""),
        result: CompareResult::Equal,
        target: CompareTarget::Version(0),
    };
    let peek = Command::Txn(Txn {
        compare: vec![compare],
        ..Txn::default()
    });
    assert_eq!(attempt(&mut world, "ann", peek), denied);
}

#[test]
fn a_lease_with_foreign_keys_takes_no_key_and_is_not_revoked() {
    let mut world = enforced();
    world.done(Command::LeaseGrant {
        id: 5,
        ttl: 60,
        ttl_min: 2,
    });
    assert_eq!(attempt(&mut world, "ann", leased("a", 5)), Ok(()));
    assert_eq!(attempt(&mut world, "root", leased("secret", 5)), Ok(()));
    let denied = Err(Refusal::PermissionDenied);
    assert_eq!(attempt(&mut world, "ann", leased("a", 5)), denied);
    assert_eq!(
        attempt(&mut world, "ann", Command::LeaseRevoke { id: 5 }),
        denied
    );
}

#[test]
fn an_old_token_is_refused_after_any_change() {
    let mut world = enforced();
    let old = caller(&world, "ann");
    let name = "other".to_owned();
    change(&mut world, AuthChange::RoleAdd { name }).unwrap();
    let proposal = Proposal {
        caller: Some(old),
        command: put("a", "1"),
    };
    let refused = world.apply_only(&proposal).result;
    assert_eq!(refused, Err(Refusal::AuthOldRevision));
}

#[test]
fn root_cannot_be_lost_while_users_are_enforced() {
    let mut world = enforced();
    let root = || "root".to_owned();
    let refused = Err(Refusal::InvalidAuthManagement);
    assert_eq!(
        change(&mut world, AuthChange::UserDelete { name: root() }),
        refused
    );
    let revoke = AuthChange::UserRevokeRole {
        name: root(),
        role: root(),
    };
    assert_eq!(change(&mut world, revoke), refused);
    assert_eq!(
        change(&mut world, AuthChange::RoleDelete { role: root() }),
        refused
    );
}

#[test]
fn users_roles_and_their_revision_survive_a_restart() {
    let mut world = enforced();
    let before = std::sync::Arc::clone(&world.view().auth);
    world.pass(std::time::Duration::from_secs(5));
    world.reopen();
    assert_eq!(world.view().auth, before);
    let denied = Err(Refusal::PermissionDenied);
    assert_eq!(
        world
            .view()
            .auth
            .check_range(Some(&caller(&world, "ann")), &all()),
        denied
    );
}

/// A permission to read `bytes` bytes of keys.
fn grant_of(number: u32, bytes: usize) -> AuthChange {
    let key = format!("{number:08}{}", "k".repeat(bytes - 8));
    AuthChange::RoleGrantPermission {
        name: "some".to_owned(),
        permission: Permission {
            access: Access::Read,
            key: self::bytes(&key),
            range_end: self::bytes(""),
        },
    }
}

#[test]
fn a_role_holds_a_mebibyte_and_can_still_be_changed() {
    let mut world = World::new(Config::default());
    let name = "some".to_owned();
    change(&mut world, AuthChange::RoleAdd { name }).unwrap();
    for number in 0..8 {
        change(&mut world, grant_of(number, 128 << 10)).unwrap();
    }
    let before = std::sync::Arc::clone(&world.view().auth);
    let refused = change(&mut world, grant_of(8, 9));
    assert_eq!(refused, Err(Refusal::AuthTooLarge));
    assert_eq!(world.view().auth, before, "nothing was changed");
    change(&mut world, grant_of(7, 128 << 10)).unwrap();
    world.pass(std::time::Duration::from_secs(5));
    world.reopen();
    let role = world.view().auth.role("some").unwrap();
    assert_eq!(role.permissions.len(), 8);
}

#[test]
fn a_user_holds_a_mebibyte_of_roles() {
    let mut world = World::new(Config::default());
    let role = |number| format!("{number}{}", "r".repeat((512 << 10) - 1));
    for number in 0..3 {
        change(&mut world, AuthChange::RoleAdd { name: role(number) }).unwrap();
    }
    user(&mut world, "ann", &role(0));
    let grant = |number| AuthChange::UserGrantRole {
        user: "ann".to_owned(),
        role: role(number),
    };
    change(&mut world, grant(1)).unwrap();
    let refused = change(&mut world, grant(2));
    assert_eq!(refused, Err(Refusal::AuthTooLarge));
}

#[test]
fn what_comes_from_elsewhere_has_the_same_bound() {
    let storage = holm_virtual::Storage::new();
    let config = StoreConfig {
        segment_bytes: holm_base::ByteCount::new(1 << 20),
        ..StoreConfig::default()
    };
    let mut restore = Restore::new(storage.root(), config).unwrap();
    let permission = |bytes: usize| Permission {
        access: Access::Read,
        key: self::bytes(&"k".repeat(bytes)),
        range_end: self::bytes(""),
    };
    let auth = |bytes| RestoredAuth {
        roles: [("some".to_owned(), vec![permission(bytes)])].into(),
        ..RestoredAuth::default()
    };
    let refused = restore.auth(auth((1 << 20) + 1));
    assert!(matches!(refused, Err(RestoreError::AuthTooLarge { name }) if name == "some"));
    restore.auth(auth(1 << 20)).unwrap();
}
