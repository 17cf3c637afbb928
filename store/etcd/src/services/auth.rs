//! Users, roles, and logging in.
//!
//! What would surprise: changes are decided where they are applied; here only passwords are
//! hashed, for that takes long. Reads come from the published state.

use holm_kv::command::{AuthChange, Caller, Command, Permission};
use holm_kv::{AuthState, Refusal};

use super::Services;
use crate::context::Context;
use crate::convert;
use crate::errors;
use crate::proto::authpb;
use crate::proto::etcdserverpb as pb;
use crate::status::{Code, Status};

/// A change whose answer is a header and nothing else.
macro_rules! changes {
    ($($(#[$doc:meta])* $name:ident($request:ident: $from:ident) -> $to:ident = $change:expr;)*) => {
        impl Services {$(
            $(#[$doc])*
            ///
            /// # Errors
            ///
            /// If the change makes no sense, or the caller is no administrator.
            pub async fn $name(
                &self,
                cx: &Context,
                $request: pb::$from,
            ) -> Result<pb::$to, Status> {
                let header = self.change(cx, $change).await?;
                Ok(pb::$to { header: Some(header) })
            }
        )*}
    };
}

changes! {
    /// Enforces users from now on.
    auth_enable(_request: AuthEnableRequest) -> AuthEnableResponse = AuthChange::Enable;
    /// Gives a user a role.
    user_grant_role(request: AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse =
        AuthChange::UserGrantRole { user: request.user, role: request.role };
    /// Takes a role from a user.
    user_revoke_role(request: AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse =
        AuthChange::UserRevokeRole { name: request.name, role: request.role };
    /// Creates a role.
    role_add(request: AuthRoleAddRequest) -> AuthRoleAddResponse =
        AuthChange::RoleAdd { name: request.name };
    /// Removes a role, from its users too.
    role_delete(request: AuthRoleDeleteRequest) -> AuthRoleDeleteResponse =
        AuthChange::RoleDelete { role: request.role };
    /// Gives a role a permission.
    role_grant_permission(request: AuthRoleGrantPermissionRequest)
        -> AuthRoleGrantPermissionResponse =
        AuthChange::RoleGrantPermission {
            name: request.name,
            permission: granted(request.perm)?,
        };
    /// Takes a permission from a role.
    role_revoke_permission(request: AuthRoleRevokePermissionRequest)
        -> AuthRoleRevokePermissionResponse =
        AuthChange::RoleRevokePermission {
            role: request.role,
            key: request.key,
            range_end: request.range_end,
        };
}

fn unknown_permission_type() -> Status {
    let text = "etcdserver: permission type does not exist";
    Status::new(Code::InvalidArgument, text)
}

fn granted(permission: Option<authpb::Permission>) -> Result<Permission, Status> {
    let permission = permission.ok_or_else(errors::permission_not_given)?;
    authpb::permission::Type::try_from(permission.perm_type)
        .map_err(|_unknown| unknown_permission_type())?;
    Ok(convert::permission(permission))
}

impl Services {
    /// Stops enforcing users; all logins end.
    ///
    /// # Errors
    ///
    /// If the caller is no administrator.
    pub async fn auth_disable(
        &self,
        cx: &Context,
        _request: pb::AuthDisableRequest,
    ) -> Result<pb::AuthDisableResponse, Status> {
        let header = self.change(cx, AuthChange::Disable).await?;
        self.shared.tokens.forget_all();
        Ok(pb::AuthDisableResponse {
            header: Some(header),
        })
    }

    /// Whether users are enforced, and how often that or they changed.
    ///
    /// # Errors
    ///
    /// If the caller is no administrator.
    pub async fn auth_status(
        &self,
        cx: &Context,
        _request: pb::AuthStatusRequest,
    ) -> Result<pb::AuthStatusResponse, Status> {
        self.catch_up().await?;
        self.check_admin(cx)?;
        let view = self.handle().view();
        Ok(pb::AuthStatusResponse {
            header: Some(self.header_of(&view)),
            enabled: view.auth.enabled(),
            auth_revision: view.auth.revision(),
        })
    }

    /// Logs a user in.
    ///
    /// Cost: a password hash, on a thread of its own.
    ///
    /// # Errors
    ///
    /// If users are not enforced, name or password is wrong, or too many log in at once.
    pub async fn authenticate(
        &self,
        _cx: &Context,
        request: pb::AuthenticateRequest,
    ) -> Result<pb::AuthenticateResponse, Status> {
        self.catch_up().await?;
        loop {
            let view = self.handle().view();
            self.check_password(&view.auth, &request).await?;
            let now = self.handle().view();
            if now.auth.revision() != view.auth.revision() {
                // Users changed meanwhile, perhaps this one's password.
                continue;
            }
            let caller = Caller {
                user: request.name,
                auth_revision: now.auth.revision(),
            };
            let time = self.handle().now();
            let token = self.shared.tokens.give(&caller, time, now.applied)?;
            return Ok(pb::AuthenticateResponse {
                header: Some(self.header_of(&now)),
                token,
            });
        }
    }

    async fn check_password(
        &self,
        auth: &AuthState,
        request: &pb::AuthenticateRequest,
    ) -> Result<(), Status> {
        if !auth.enabled() {
            return Err(errors::auth_not_enabled());
        }
        let user = auth.user(&request.name);
        let user = user.ok_or_else(errors::authentication_failed)?;
        if user.no_password {
            return Err(Status::new(
                Code::Unknown,
                "auth: authentication failed, password was given for no password user",
            ));
        }
        let (password, hash) = (request.password.clone(), user.password_hash.clone());
        if self.shared.passwords.matches(password, hash).await? {
            Ok(())
        } else {
            Err(errors::authentication_failed())
        }
    }

    /// Creates a user, with a password or for certificates only.
    ///
    /// # Errors
    ///
    /// If the name is empty or taken, or the caller is no administrator.
    pub async fn user_add(
        &self,
        cx: &Context,
        request: pb::AuthUserAddRequest,
    ) -> Result<pb::AuthUserAddResponse, Status> {
        // Before the hash, so that strangers cannot make the node compute.
        self.check_admin(cx)?;
        let no_password = request.options.is_some_and(|it| it.no_password);
        let password_hash = if no_password {
            String::new()
        } else {
            self.shared.passwords.hash(request.password).await?
        };
        let name = request.name;
        let change = AuthChange::UserAdd {
            name,
            password_hash,
            no_password,
        };
        let header = self.change(cx, change).await?;
        Ok(pb::AuthUserAddResponse {
            header: Some(header),
        })
    }

    /// Removes a user; the user's logins end.
    ///
    /// # Errors
    ///
    /// If there is none, it is root while users are enforced, or the caller is no
    /// administrator.
    pub async fn user_delete(
        &self,
        cx: &Context,
        request: pb::AuthUserDeleteRequest,
    ) -> Result<pb::AuthUserDeleteResponse, Status> {
        let name = request.name.clone();
        let header = self.change(cx, AuthChange::UserDelete { name }).await?;
        self.shared.tokens.forget_user(&request.name);
        Ok(pb::AuthUserDeleteResponse {
            header: Some(header),
        })
    }

    /// Gives a user another password; the user's logins end.
    ///
    /// # Errors
    ///
    /// If there is no such user, or the caller is no administrator.
    pub async fn user_change_password(
        &self,
        cx: &Context,
        request: pb::AuthUserChangePasswordRequest,
    ) -> Result<pb::AuthUserChangePasswordResponse, Status> {
        self.check_admin(cx)?;
        let password_hash = self.shared.passwords.hash(request.password).await?;
        let change = AuthChange::UserChangePassword {
            name: request.name.clone(),
            password_hash,
        };
        let header = self.change(cx, change).await?;
        self.shared.tokens.forget_user(&request.name);
        Ok(pb::AuthUserChangePasswordResponse {
            header: Some(header),
        })
    }

    /// A user's roles. Users may ask for their own.
    ///
    /// # Errors
    ///
    /// If there is no such user, or it is another one and the caller is no administrator.
    pub async fn user_get(
        &self,
        cx: &Context,
        request: pb::AuthUserGetRequest,
    ) -> Result<pb::AuthUserGetResponse, Status> {
        self.catch_up().await?;
        let caller = self.caller(cx)?;
        let view = self.handle().view();
        let is_self = caller.as_ref().is_some_and(|it| it.user == request.name);
        if !is_self {
            view.auth.check_admin(caller.as_ref())?;
        }
        let user = view.auth.user(&request.name);
        let user = user.ok_or(Refusal::UserNotFound)?;
        Ok(pb::AuthUserGetResponse {
            header: Some(self.header_of(&view)),
            roles: user.roles.clone(),
        })
    }

    /// All users' names.
    ///
    /// # Errors
    ///
    /// If the caller is no administrator.
    pub async fn user_list(
        &self,
        cx: &Context,
        _request: pb::AuthUserListRequest,
    ) -> Result<pb::AuthUserListResponse, Status> {
        self.catch_up().await?;
        self.check_admin(cx)?;
        let view = self.handle().view();
        Ok(pb::AuthUserListResponse {
            header: Some(self.header_of(&view)),
            users: view.auth.users().map(str::to_owned).collect(),
        })
    }

    /// A role's permissions. Users may ask for roles that they have.
    ///
    /// # Errors
    ///
    /// If there is no such role, or the caller does not have it and is no administrator.
    pub async fn role_get(
        &self,
        cx: &Context,
        request: pb::AuthRoleGetRequest,
    ) -> Result<pb::AuthRoleGetResponse, Status> {
        self.catch_up().await?;
        let caller = self.caller(cx)?;
        let view = self.handle().view();
        let user = caller.as_ref().and_then(|it| view.auth.user(&it.user));
        let has_role = user.is_some_and(|it| it.roles.contains(&request.role));
        if !has_role {
            view.auth.check_admin(caller.as_ref())?;
        }
        let role = view.auth.role(&request.role).ok_or(Refusal::RoleNotFound)?;
        let permissions = role.permissions.iter();
        Ok(pb::AuthRoleGetResponse {
            header: Some(self.header_of(&view)),
            perm: permissions.map(convert::shown_permission).collect(),
        })
    }

    /// All roles' names.
    ///
    /// # Errors
    ///
    /// If the caller is no administrator.
    pub async fn role_list(
        &self,
        cx: &Context,
        _request: pb::AuthRoleListRequest,
    ) -> Result<pb::AuthRoleListResponse, Status> {
        self.catch_up().await?;
        self.check_admin(cx)?;
        let view = self.handle().view();
        Ok(pb::AuthRoleListResponse {
            header: Some(self.header_of(&view)),
            roles: view.auth.roles().map(str::to_owned).collect(),
        })
    }

    async fn change(&self, cx: &Context, change: AuthChange) -> Result<pb::ResponseHeader, Status> {
        let (header, _) = self.propose(cx, Command::Auth(change)).await?;
        Ok(header)
    }
}
