//! user, role and auth: who may do what.

use clap::{Subcommand, ValueEnum};
use prost::Message;
use serde_json::{Value, json};

use super::Found;
use super::keys::KeyRange;
use crate::client::Client;
use crate::screen::{Screen, readable};
use crate::wire::authpb::permission::Type as PermissionType;
use crate::wire::authpb::{Permission, UserAddOptions};
use crate::wire::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse,
    AuthRoleAddRequest, AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse,
    AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleGrantPermissionRequest,
    AuthRoleGrantPermissionResponse, AuthRoleListRequest, AuthRoleListResponse,
    AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse, AuthStatusRequest,
    AuthStatusResponse, AuthUserAddRequest, AuthUserAddResponse, AuthUserChangePasswordRequest,
    AuthUserChangePasswordResponse, AuthUserDeleteRequest, AuthUserDeleteResponse,
    AuthUserGetRequest, AuthUserGetResponse, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse,
    AuthUserListRequest, AuthUserListResponse, AuthUserRevokeRoleRequest,
    AuthUserRevokeRoleResponse,
};

/// Commands about users.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum User {
    /// Make a user
    Add {
        /// The user's name
        name: String,
        /// The password; without it one line of standard input
        #[arg(long, conflicts_with = "no_password")]
        password: Option<String>,
        /// Only a certificate lets this user in
        #[arg(long)]
        no_password: bool,
    },
    /// Delete a user
    Del {
        /// The user's name
        name: String,
    },
    /// The roles of a user
    Get {
        /// The user's name
        name: String,
    },
    /// All users
    List,
    /// Change a password
    Passwd {
        /// The user's name
        name: String,
        /// The new password; without it one line of standard input
        #[arg(long)]
        password: Option<String>,
    },
    /// Give a user a role
    GrantRole {
        /// The user's name
        name: String,
        /// The role's name
        role: String,
    },
    /// Take a role from a user
    RevokeRole {
        /// The user's name
        name: String,
        /// The role's name
        role: String,
    },
}

/// Commands about roles.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Role {
    /// Make a role
    Add {
        /// The role's name
        name: String,
    },
    /// Delete a role
    Del {
        /// The role's name
        name: String,
    },
    /// What a role allows
    Get {
        /// The role's name
        name: String,
    },
    /// All roles
    List,
    /// Allow a role something
    Grant {
        /// The role's name
        name: String,
        /// What to allow
        #[arg(value_enum)]
        access: Access,
        #[command(flatten)]
        keys: KeyRange,
    },
    /// Take back what a role was allowed on exactly these keys
    Revoke {
        /// The role's name
        name: String,
        #[command(flatten)]
        keys: KeyRange,
    },
}

/// What a role may do with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Access {
    /// Get and watch
    Read,
    /// Put and delete
    Write,
    /// Both
    Readwrite,
}

/// Commands about authentication.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Auth {
    /// Demand a login; needs a user root that has the role root
    Enable,
    /// Let everybody in
    Disable,
    /// Whether a login is demanded
    Status,
    /// Log in (with --user) and print the token
    Token,
}

/// Where a method lives.
type Path = &'static str;

/// A call whose answer says no more than that it worked.
struct Change<'a> {
    client: &'a mut Client,
    screen: Screen,
}

impl Change<'_> {
    async fn make<A: Message + Default>(
        &mut self,
        path: Path,
        request: &impl Message,
        text: String,
    ) -> anyhow::Result<Found> {
        let _answer: A = self.client.call(path, request).await?;
        self.screen.show(&text, &json!({ "done": text }))?;
        Ok(Found::Yes)
    }
}

fn names(screen: Screen, what: &str, names: &[String]) -> anyhow::Result<Found> {
    let text = if names.is_empty() {
        format!("no {what}")
    } else {
        names.join("\n")
    };
    screen.show(&text, &json!({ what: names }))?;
    Ok(Found::Yes)
}

/// A password from the flag, or a line of standard input.
fn password(flag: Option<&String>) -> anyhow::Result<String> {
    if let Some(password) = flag {
        return Ok(password.clone());
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Runs a command about users.
#[expect(clippy::too_many_lines, reason = "one arm for each command")]
pub(super) async fn user(
    client: &mut Client,
    user: &User,
    screen: Screen,
) -> anyhow::Result<Found> {
    let mut change = Change { client, screen };
    match user.clone() {
        User::Add {
            name,
            password: flag,
            no_password,
        } => {
            let password = if no_password {
                String::new()
            } else {
                password(flag.as_ref())?
            };
            let request = AuthUserAddRequest {
                name: name.clone(),
                password,
                options: Some(UserAddOptions { no_password }),
                ..AuthUserAddRequest::default()
            };
            change
                .make::<AuthUserAddResponse>(
                    "/etcdserverpb.Auth/UserAdd",
                    &request,
                    format!("user {name} added"),
                )
                .await
        }
        User::Del { name } => {
            let request = AuthUserDeleteRequest { name: name.clone() };
            change
                .make::<AuthUserDeleteResponse>(
                    "/etcdserverpb.Auth/UserDelete",
                    &request,
                    format!("user {name} deleted"),
                )
                .await
        }
        User::Get { name } => {
            let answer: AuthUserGetResponse = change
                .client
                .call("/etcdserverpb.Auth/UserGet", &AuthUserGetRequest { name })
                .await?;
            names(screen, "roles", &answer.roles)
        }
        User::List => {
            let answer: AuthUserListResponse = change
                .client
                .call(
                    "/etcdserverpb.Auth/UserList",
                    &AuthUserListRequest::default(),
                )
                .await?;
            names(screen, "users", &answer.users)
        }
        User::Passwd {
            name,
            password: flag,
        } => {
            let password = password(flag.as_ref())?;
            let request = AuthUserChangePasswordRequest {
                name: name.clone(),
                password,
                ..AuthUserChangePasswordRequest::default()
            };
            change
                .make::<AuthUserChangePasswordResponse>(
                    "/etcdserverpb.Auth/UserChangePassword",
                    &request,
                    format!("password of {name} changed"),
                )
                .await
        }
        User::GrantRole { name, role } => {
            let request = AuthUserGrantRoleRequest {
                user: name.clone(),
                role: role.clone(),
            };
            change
                .make::<AuthUserGrantRoleResponse>(
                    "/etcdserverpb.Auth/UserGrantRole",
                    &request,
                    format!("user {name} has role {role}"),
                )
                .await
        }
        User::RevokeRole { name, role } => {
            let request = AuthUserRevokeRoleRequest {
                name: name.clone(),
                role: role.clone(),
            };
            change
                .make::<AuthUserRevokeRoleResponse>(
                    "/etcdserverpb.Auth/UserRevokeRole",
                    &request,
                    format!("user {name} no longer has role {role}"),
                )
                .await
        }
    }
}

/// Runs a command about roles.
#[expect(clippy::too_many_lines, reason = "one arm for each command")]
pub(super) async fn role(
    client: &mut Client,
    role: &Role,
    screen: Screen,
) -> anyhow::Result<Found> {
    let mut change = Change { client, screen };
    match role.clone() {
        Role::Add { name } => {
            let request = AuthRoleAddRequest { name: name.clone() };
            change
                .make::<AuthRoleAddResponse>(
                    "/etcdserverpb.Auth/RoleAdd",
                    &request,
                    format!("role {name} added"),
                )
                .await
        }
        Role::Del { name } => {
            let request = AuthRoleDeleteRequest { role: name.clone() };
            change
                .make::<AuthRoleDeleteResponse>(
                    "/etcdserverpb.Auth/RoleDelete",
                    &request,
                    format!("role {name} deleted"),
                )
                .await
        }
        Role::Get { name } => {
            let answer: AuthRoleGetResponse = change
                .client
                .call(
                    "/etcdserverpb.Auth/RoleGet",
                    &AuthRoleGetRequest { role: name },
                )
                .await?;
            let lines: Vec<String> = answer.perm.iter().map(permission_line).collect();
            let json: Vec<Value> = answer.perm.iter().map(permission_json).collect();
            let text = if lines.is_empty() {
                "no permissions".to_owned()
            } else {
                lines.join("\n")
            };
            screen.show(&text, &json!({ "permissions": json }))?;
            Ok(Found::Yes)
        }
        Role::List => {
            let answer: AuthRoleListResponse = change
                .client
                .call(
                    "/etcdserverpb.Auth/RoleList",
                    &AuthRoleListRequest::default(),
                )
                .await?;
            names(screen, "roles", &answer.roles)
        }
        Role::Grant { name, access, keys } => {
            let (key, range_end) = keys.ends();
            let perm_type = match access {
                Access::Read => PermissionType::Read,
                Access::Write => PermissionType::Write,
                Access::Readwrite => PermissionType::Readwrite,
            };
            let perm = Some(Permission {
                perm_type: perm_type.into(),
                key,
                range_end,
            });
            let request = AuthRoleGrantPermissionRequest {
                name: name.clone(),
                perm,
            };
            change
                .make::<AuthRoleGrantPermissionResponse>(
                    "/etcdserverpb.Auth/RoleGrantPermission",
                    &request,
                    format!("role {name} allows it"),
                )
                .await
        }
        Role::Revoke { name, keys } => {
            let (key, range_end) = keys.ends();
            let request = AuthRoleRevokePermissionRequest {
                role: name.clone(),
                key,
                range_end,
            };
            change
                .make::<AuthRoleRevokePermissionResponse>(
                    "/etcdserverpb.Auth/RoleRevokePermission",
                    &request,
                    format!("role {name} no longer allows it"),
                )
                .await
        }
    }
}

fn access_name(permission: &Permission) -> &'static str {
    match permission.perm_type() {
        PermissionType::Read => "read",
        PermissionType::Write => "write",
        PermissionType::Readwrite => "readwrite",
    }
}

fn permission_line(permission: &Permission) -> String {
    let key = readable(&permission.key);
    let keys = match permission.range_end.as_ref() {
        b"" => key,
        b"\0" => format!("from {key}"),
        end => format!("{key} to before {}", readable(end)),
    };
    format!("{:9}  {keys}", access_name(permission))
}

fn permission_json(permission: &Permission) -> Value {
    let mut object = serde_json::Map::new();
    object.insert("access".to_owned(), access_name(permission).into());
    crate::screen::put_bytes(&mut object, "key", &permission.key);
    crate::screen::put_bytes(&mut object, "range_end", &permission.range_end);
    object.into()
}

/// Runs a command about authentication.
pub(super) async fn auth(
    client: &mut Client,
    auth: &Auth,
    screen: Screen,
) -> anyhow::Result<Found> {
    let mut change = Change { client, screen };
    match auth {
        Auth::Enable => {
            change
                .make::<AuthEnableResponse>(
                    "/etcdserverpb.Auth/AuthEnable",
                    &AuthEnableRequest::default(),
                    "authentication enabled".to_owned(),
                )
                .await
        }
        Auth::Disable => {
            change
                .make::<AuthDisableResponse>(
                    "/etcdserverpb.Auth/AuthDisable",
                    &AuthDisableRequest::default(),
                    "authentication disabled".to_owned(),
                )
                .await
        }
        Auth::Status => {
            let answer: AuthStatusResponse = change
                .client
                .call(
                    "/etcdserverpb.Auth/AuthStatus",
                    &AuthStatusRequest::default(),
                )
                .await?;
            let state = if answer.enabled {
                "enabled"
            } else {
                "disabled"
            };
            let json = json!({ "enabled": answer.enabled, "auth_revision": answer.auth_revision });
            screen.show(
                &format!("{state}, auth revision {}", answer.auth_revision),
                &json,
            )?;
            Ok(Found::Yes)
        }
        Auth::Token => {
            let Some(token) = change.client.token() else {
                anyhow::bail!("whose token: --user NAME:PASSWORD");
            };
            screen.show(token, &json!({ "token": token }))?;
            Ok(Found::Yes)
        }
    }
}
