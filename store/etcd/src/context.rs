//! What a call's head says about it, whatever carried the call.

/// Who calls and how, as far as the call's head tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The token of an earlier login.
    pub token: Option<String>,
    /// The common name of the client's certificate, which names a user where certificates are
    /// asked for. Never set for calls through the gateway: it would lend its own to everybody.
    pub common_name: Option<String>,
    /// Whether the caller wants no answer from a node without a leader.
    pub is_leader_required: bool,
    /// Whether the call came through the gateway.
    pub is_gateway: bool,
}
