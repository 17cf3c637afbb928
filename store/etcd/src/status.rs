//! How a call ends: gRPC's code and a text.

use std::borrow::Cow;
use std::fmt;

/// gRPC's status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// All went well.
    Ok,
    /// The client took the call back.
    Canceled,
    /// None of the others.
    Unknown,
    /// The request is wrong whatever the state.
    InvalidArgument,
    /// The client's time was up.
    DeadlineExceeded,
    /// What was asked for is not there.
    NotFound,
    /// What was to be made is there already.
    AlreadyExists,
    /// The caller may not do this.
    PermissionDenied,
    /// A limit was reached.
    ResourceExhausted,
    /// The state does not allow it.
    FailedPrecondition,
    /// The call lost a race.
    Aborted,
    /// The request points beyond what is there.
    OutOfRange,
    /// This server does not do that.
    Unimplemented,
    /// A broken invariant.
    Internal,
    /// Try again later.
    Unavailable,
    /// Data is damaged.
    DataLoss,
    /// Who calls is not known.
    Unauthenticated,
}

impl Code {
    /// gRPC's number for it.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Ok => 0,
            Self::Canceled => 1,
            Self::Unknown => 2,
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::PermissionDenied => 7,
            Self::ResourceExhausted => 8,
            Self::FailedPrecondition => 9,
            Self::Aborted => 10,
            Self::OutOfRange => 11,
            Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::DataLoss => 15,
            Self::Unauthenticated => 16,
        }
    }
}

/// How a call ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    code: Code,
    message: Cow<'static, str>,
}

impl Status {
    /// An end with a code and a text.
    #[must_use]
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self { code, message }
    }

    /// The end of a call that went well.
    #[must_use]
    pub const fn ok() -> Self {
        Self {
            code: Code::Ok,
            message: Cow::Borrowed(""),
        }
    }

    /// Its code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Its text; clients compare some of them letter by letter.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Its text as `grpc-message` says it: all but printable ASCII, and the percent sign itself,
    /// as `%XX`.
    #[must_use]
    pub fn wire_message(&self) -> String {
        let mut text = String::with_capacity(self.message.len());
        for byte in self.message.bytes() {
            if (0x20..=0x7e).contains(&byte) && byte != b'%' {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
        text
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        let said = |text: &'static str| Status::new(Code::Unknown, text).wire_message();
        assert_eq!(said("a%b\n\u{e9}"), "a%25b%0A%C3%A9");
        assert_eq!(
            said("etcdserver: key is not provided"),
            "etcdserver: key is not provided"
        );
    }
}
