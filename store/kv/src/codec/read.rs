//! The reading half: a cursor over bytes that nobody has vouched for.
//!
//! What would surprise: a list's count is never trusted with an allocation; it only says how
//! often to go on reading, and each element takes at least a byte.

use bytes::Bytes;
use holm_base::Term;

use super::{DEPTH_MAX, DecodeError};
use crate::command::{
    Access, AlarmKind, AuthChange, Command, Compare, CompareResult, CompareTarget, DeleteRange,
    Permission, Put, Range, SortOrder, SortTarget, Txn, TxnOp,
};

/// A cursor that only moves forward.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes that are left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let short = DecodeError::Short { at: self.at };
        let byte = *self.bytes.get(self.at).ok_or(short)?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn boolean(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        Ok(self.flags(what, 1)? == 1)
    }

    fn flags(&mut self, what: &'static str, count: u32) -> Result<u8, DecodeError> {
        let at = self.at;
        let byte = self.byte()?;
        if u32::from(byte) >> count == 0 {
            Ok(byte)
        } else {
            Err(DecodeError::Invalid { what, at })
        }
    }

    /// One of a table's values, by its index.
    fn choice<T: Copy>(&mut self, what: &'static str, table: &[T]) -> Result<T, DecodeError> {
        let at = self.at;
        let index = usize::from(self.byte()?);
        let found = table.get(index).copied();
        found.ok_or(DecodeError::Invalid { what, at })
    }

    pub(crate) fn number(&mut self) -> Result<u64, DecodeError> {
        let at = self.at;
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            let fits = shift < 63 || low <= 1;
            let minimal = byte != 0 || shift == 0;
            if !fits || !minimal {
                break;
            }
            value |= low << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Invalid { what: "number", at })
    }

    pub(crate) fn signed(&mut self) -> Result<i64, DecodeError> {
        Ok(self.number()?.cast_signed())
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let at = self.at;
        let len = usize::try_from(self.number()?);
        match len {
            Ok(len) if len <= self.left() => {
                let part = self.bytes.slice(self.at..self.at + len);
                self.at += len;
                Ok(part)
            }
            Ok(_) | Err(_) => Err(DecodeError::Short { at }),
        }
    }

    pub(crate) fn string(&mut self) -> Result<String, DecodeError> {
        let at = self.at;
        let invalid = |_cause| DecodeError::Invalid { what: "string", at };
        String::from_utf8(self.bytes()?.to_vec()).map_err(invalid)
    }

    pub(crate) fn list<T>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.number()?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(each(self)?);
        }
        Ok(list)
    }

    pub(super) fn command(&mut self) -> Result<Command, DecodeError> {
        let at = self.at;
        Ok(match self.byte()? {
            1 => Command::Put(self.put()?),
            2 => Command::DeleteRange(self.delete()?),
            3 => Command::Txn(self.txn(0)?),
            4 => Command::Compact {
                revision: self.signed()?,
            },
            5 => Command::LeaseGrant {
                id: self.signed()?,
                ttl: self.signed()?,
                ttl_min: self.signed()?,
            },
            6 => Command::LeaseRevoke { id: self.signed()? },
            7 => Command::LeaseCheckpoint {
                remaining: self.list(|it| Ok((it.signed()?, it.signed()?)))?,
            },
            8 => Command::LeaseExpire {
                term: Term::new(self.number()?),
                ids: self.list(Self::signed)?,
            },
            9 => self.alarm()?,
            10 => Command::Auth(self.auth()?),
            11 => self.cluster()?,
            12 => Command::ClusterSwap {
                name: self.string()?,
                expected: self.optional()?,
                value: self.bytes()?,
            },
            13 => self.island()?,
            _ => {
                return Err(DecodeError::Invalid {
                    what: "command tag",
                    at,
                });
            }
        })
    }

    /// The rest is the entry of an island.
    fn island(&mut self) -> Result<Command, DecodeError> {
        let at = self.at;
        let rest = self.bytes.slice(at..);
        self.at = self.bytes.len();
        let what = "an island's entry";
        let read = holm_local_first::Proposal::decode(&rest);
        let proposal = read.map_err(|_error| DecodeError::Invalid { what, at })?;
        Ok(Command::Island(proposal))
    }

    fn alarm(&mut self) -> Result<Command, DecodeError> {
        let flags = self.flags("alarm flags", 2)?;
        let member = self.number()?;
        let at = self.at;
        let kind = match self.byte()? {
            1 => AlarmKind::NoSpace,
            2 => AlarmKind::Corrupt,
            _ => {
                return Err(DecodeError::Invalid {
                    what: "alarm kind",
                    at,
                });
            }
        };
        Ok(Command::Alarm {
            raise: flags & 1 != 0,
            member,
            kind,
            by_node: flags & 2 != 0,
        })
    }

    fn cluster(&mut self) -> Result<Command, DecodeError> {
        Ok(Command::Cluster {
            name: self.string()?,
            value: self.optional()?,
        })
    }

    fn optional(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let is_there = self.boolean("value mark")?;
        is_there.then(|| self.bytes()).transpose()
    }

    fn put(&mut self) -> Result<Put, DecodeError> {
        let key = self.bytes()?;
        let value = self.bytes()?;
        let lease = self.signed()?;
        let flags = self.flags("put flags", 3)?;
        Ok(Put {
            key,
            value,
            lease,
            prev_kv: flags & 1 != 0,
            ignore_value: flags & 2 != 0,
            ignore_lease: flags & 4 != 0,
        })
    }

    fn delete(&mut self) -> Result<DeleteRange, DecodeError> {
        Ok(DeleteRange {
            key: self.bytes()?,
            range_end: self.bytes()?,
            prev_kv: self.boolean("delete flags")?,
        })
    }

    fn range(&mut self) -> Result<Range, DecodeError> {
        let key = self.bytes()?;
        let range_end = self.bytes()?;
        let limit = self.signed()?;
        let revision = self.signed()?;
        let sort_order = self.choice(
            "sort order",
            &[SortOrder::None, SortOrder::Ascend, SortOrder::Descend],
        )?;
        let targets = [
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ];
        let sort_target = self.choice("sort target", &targets)?;
        let flags = self.flags("range flags", 2)?;
        Ok(Range {
            key,
            range_end,
            limit,
            revision,
            sort_order,
            sort_target,
            keys_only: flags & 1 != 0,
            count_only: flags & 2 != 0,
            min_mod_revision: self.signed()?,
            max_mod_revision: self.signed()?,
            min_create_revision: self.signed()?,
            max_create_revision: self.signed()?,
        })
    }

    fn txn(&mut self, depth: u32) -> Result<Txn, DecodeError> {
        if depth == DEPTH_MAX {
            return Err(DecodeError::Depth { limit: DEPTH_MAX });
        }
        Ok(Txn {
            compare: self.list(Self::compare)?,
            success: self.list(|it| it.txn_op(depth))?,
            failure: self.list(|it| it.txn_op(depth))?,
        })
    }

    fn txn_op(&mut self, depth: u32) -> Result<TxnOp, DecodeError> {
        let at = self.at;
        Ok(match self.byte()? {
            1 => TxnOp::Range(self.range()?),
            2 => TxnOp::Put(self.put()?),
            3 => TxnOp::DeleteRange(self.delete()?),
            4 => TxnOp::Txn(self.txn(depth + 1)?),
            _ => {
                return Err(DecodeError::Invalid {
                    what: "operation tag",
                    at,
                });
            }
        })
    }

    fn compare(&mut self) -> Result<Compare, DecodeError> {
        let key = self.bytes()?;
        let range_end = self.bytes()?;
        let results = [
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ];
        let result = self.choice("compare result", &results)?;
        let at = self.at;
        let target = match self.byte()? {
            0 => CompareTarget::Version(self.signed()?),
            1 => CompareTarget::Create(self.signed()?),
            2 => CompareTarget::Mod(self.signed()?),
            3 => CompareTarget::Value(self.bytes()?),
            4 => CompareTarget::Lease(self.signed()?),
            _ => {
                return Err(DecodeError::Invalid {
                    what: "compare target",
                    at,
                });
            }
        };
        Ok(Compare {
            key,
            range_end,
            result,
            target,
        })
    }

    fn auth(&mut self) -> Result<AuthChange, DecodeError> {
        let at = self.at;
        Ok(match self.byte()? {
            1 => AuthChange::Enable,
            2 => AuthChange::Disable,
            3 => AuthChange::UserAdd {
                name: self.string()?,
                password_hash: self.string()?,
                no_password: self.boolean("password mark")?,
            },
            4 => AuthChange::UserDelete {
                name: self.string()?,
            },
            5 => AuthChange::UserChangePassword {
                name: self.string()?,
                password_hash: self.string()?,
            },
            6 => AuthChange::UserGrantRole {
                user: self.string()?,
                role: self.string()?,
            },
            7 => AuthChange::UserRevokeRole {
                name: self.string()?,
                role: self.string()?,
            },
            8 => AuthChange::RoleAdd {
                name: self.string()?,
            },
            9 => AuthChange::RoleDelete {
                role: self.string()?,
            },
            10 => AuthChange::RoleGrantPermission {
                name: self.string()?,
                permission: self.permission()?,
            },
            11 => AuthChange::RoleRevokePermission {
                role: self.string()?,
                key: self.bytes()?,
                range_end: self.bytes()?,
            },
            _ => {
                return Err(DecodeError::Invalid {
                    what: "auth change tag",
                    at,
                });
            }
        })
    }

    pub(crate) fn permission(&mut self) -> Result<Permission, DecodeError> {
        let accesses = [Access::Read, Access::Write, Access::ReadWrite];
        Ok(Permission {
            access: self.choice("access", &accesses)?,
            key: self.bytes()?,
            range_end: self.bytes()?,
        })
    }
}
