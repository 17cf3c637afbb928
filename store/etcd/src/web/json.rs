//! JSON in and out of the gateway's messages.
//!
//! The first value of a body is the request; what follows it is not looked at, as in etcd's
//! gateway. An empty body and `null` are the empty request. Nesting is bounded at 128, so that a
//! hostile body cannot exhaust the stack.

use std::borrow::Cow;

use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::status::{Code, Status};

/// A refusal as the gateway shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) Status);

impl Refused {
    /// A refusal with a code and a text.
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Status::new(code, message))
    }

    /// A request that makes no sense.
    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// A request that is too large, in etcd's words.
    pub(crate) fn too_large() -> Self {
        Self::invalid("etcdserver: request is too large")
    }

    /// The HTTP status that stands for the code.
    pub(crate) const fn status(&self) -> StatusCode {
        match self.0.code() {
            Code::Ok => StatusCode::OK,
            Code::Canceled => StatusCode::REQUEST_TIMEOUT,
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
                StatusCode::BAD_REQUEST
            }
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        }
    }

    /// The body of an answer that is nothing but this refusal.
    pub(crate) fn body(&self) -> String {
        let text = Value::from(self.0.message());
        format!(
            "{{\"error\":{text},\"message\":{text},\"code\":{}}}",
            self.0.code().number()
        )
    }

    /// The line that ends a stream by this refusal.
    pub(crate) fn line(&self) -> String {
        let text = Value::from(self.0.message());
        let status = self.status();
        let reason = Value::from(status.canonical_reason().unwrap_or_default());
        format!(
            "{{\"error\":{{\"grpc_code\":{code},\"http_code\":{http},\"message\":{text},\
             \"http_status\":{reason},\"code\":{code}}}}}\n",
            code = self.0.code().number(),
            http = status.as_u16(),
        )
    }
}

/// The request that a body holds. A field that is `null` is a field that is absent.
pub(crate) fn decode<M: DeserializeOwned + Default>(body: &[u8]) -> Result<M, Refused> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    let value = match values.next() {
        Some(Ok(Value::Null)) | None => return Ok(M::default()),
        Some(Ok(value)) => value,
        Some(Err(error)) => return Err(Refused::invalid(error.to_string())),
    };
    M::deserialize(without_nulls(value)).map_err(|error| {
        let mut from = serde_json::Deserializer::from_slice(body);
        Refused::invalid(unfit(&error, M::deserialize(&mut from).err().as_ref()))
    })
}

/// Why a value is no request, and where, if reading the body itself fails of the same.
fn unfit(error: &serde_json::Error, again: Option<&serde_json::Error>) -> String {
    let text = error.to_string();
    let reason = match text.as_str() {
        it if it.contains("untagged enum") => "a value is of the wrong type",
        it if BASE64_FAULTS.iter().any(|fault| it.starts_with(fault)) => {
            "bytes are text in base64, and this is none"
        }
        "invalid digit found in string" => "a number is expected, and this text is none",
        other => other,
    };
    match again {
        Some(again) if again.line() > 0 && again.to_string().starts_with(&text) => {
            format!(
                "{reason} at line {} column {}",
                again.line(),
                again.column()
            )
        }
        Some(_) | None => reason.to_owned(),
    }
}

/// How our library's texts about base64 begin.
const BASE64_FAULTS: [&str; 5] = [
    "Invalid symbol",
    "Invalid byte",
    "Invalid padding",
    "Invalid last symbol",
    "Invalid input length",
];

/// The value without its objects' null members. Nesting is bounded, for it was parsed.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().filter(|(_, member)| !member.is_null());
            Value::Object(
                members
                    .map(|(name, member)| (name, without_nulls(member)))
                    .collect(),
            )
        }
        Value::Array(values) => Value::Array(values.into_iter().map(without_nulls).collect()),
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => scalar,
    }
}

/// A message as an answer's body.
pub(crate) fn encode<M: Serialize>(message: &M) -> Result<String, Refused> {
    serde_json::to_string(message).map_err(|error| broken(&error))
}

/// A message as one line of a stream.
pub(crate) fn encode_line<M: Serialize>(message: &M) -> Result<String, Refused> {
    let text = encode(message)?;
    Ok(format!("{{\"result\":{text}}}\n"))
}

/// An answer that cannot be written as JSON is our own mistake.
fn broken(error: &serde_json::Error) -> Refused {
    tracing::error!(%error, "an answer is no json");
    Refused::new(
        Code::Internal,
        "etcdserver: answer cannot be written as json",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Message = BTreeMap<String, i64>;

    #[test]
    fn first_value_is_the_request_and_nothing_is_the_empty_one() {
        for (body, size) in [
            ("", 0),
            ("  \n", 0),
            ("null", 0),
            ("{}", 0),
            ("{\"a\":1} junk", 1),
            ("{\"a\":1,\"b\":null}", 1),
        ] {
            let message: Message = decode(body.as_bytes()).unwrap();
            assert_eq!(message.len(), size, "{body}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_as_invalid() {
        let deep = "{\"a\":".repeat(100_000);
        for body in ["{", "[]", "{\"a\":\"b\"}", "nul", "\"text\"", deep.as_str()] {
            let refused = decode::<Message>(body.as_bytes()).unwrap_err();
            assert_eq!(refused.0.code(), Code::InvalidArgument);
        }
        assert!(decode::<Message>(b"{\"\xff\":1}").is_err());
    }

    #[test]
    fn what_does_not_fit_is_told_in_our_words_and_with_its_place() {
        use crate::proto::etcdserverpb::RangeRequest;
        for (body, text) in [
            (
                "{\"key\":\"!!\"}",
                "bytes are text in base64, and this is none",
            ),
            ("{\"limit\":1.5}", "a value is of the wrong type"),
            (
                "{\"limit\":\"abc\"}",
                "a number is expected, and this text is none",
            ),
        ] {
            let refused = decode::<RangeRequest>(body.as_bytes()).unwrap_err();
            let told = refused.0.message();
            let place = told.strip_prefix(text).unwrap_or_else(|| panic!("{told}"));
            assert!(place.starts_with(" at line 1 column "), "{told}");
        }
        // A null before it hides the place.
        let refused = decode::<RangeRequest>(b"{\"limit\":null,\"key\":\"!!\"}").unwrap_err();
        assert!(refused.0.message().starts_with("bytes are text in base64"));
    }

    #[test]
    fn refusal_is_shown_with_every_key_that_clients_read() {
        let refused = Refused::new(Code::NotFound, "etcdserver: \"no\"");
        assert_eq!(
            refused.body(),
            "{\"error\":\"etcdserver: \\\"no\\\"\",\"message\":\"etcdserver: \\\"no\\\"\",\"code\":5}"
        );
        assert_eq!(
            refused.line(),
            "{\"error\":{\"grpc_code\":5,\"http_code\":404,\"message\":\"etcdserver: \\\"no\\\"\",\
             \"http_status\":\"Not Found\",\"code\":5}}\n"
        );
    }

    #[test]
    fn codes_have_the_statuses_of_etcds_gateway() {
        for (code, status) in [
            (Code::Unknown, 500),
            (Code::InvalidArgument, 400),
            (Code::NotFound, 404),
            (Code::PermissionDenied, 403),
            (Code::ResourceExhausted, 429),
            (Code::FailedPrecondition, 400),
            (Code::OutOfRange, 400),
            (Code::Unimplemented, 501),
            (Code::Unavailable, 503),
            (Code::DataLoss, 500),
            (Code::Unauthenticated, 401),
        ] {
            assert_eq!(Refused::new(code, "").status().as_u16(), status, "{code:?}");
        }
    }
}
