//! The routes by name: what tests count and break, and what scope each needs.

use hyper::Method;

/// One route of the server, or of the store beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Route {
    /// `GET /site/ping`
    Ping,
    /// `GET /site/captcha`
    Captcha,
    /// `GET /site/config/{section}`
    SiteConfig,
    /// `GET /session/prepare`
    Prepare,
    /// `POST /session/token`: sign in with a password.
    SignIn,
    /// `POST /session/token/2fa`
    TwoFactor,
    /// `POST /session/token/refresh`
    Refresh,
    /// `DELETE /session/token`
    SignOut,
    /// `GET /session/oauth/app/{client}`
    OAuthApp,
    /// `POST /session/oauth/consent`
    OAuthConsent,
    /// `POST /session/oauth/token`
    OAuthToken,
    /// `GET /session/oauth/userinfo`
    OAuthUserInfo,
    /// `DELETE /session/oauth/grant/{client}`
    OAuthGrant,
    /// `GET /user/me`
    Me,
    /// `GET /user/capacity`
    Capacity,
    /// `GET` or `PATCH /user/setting`
    UserSetting,
    /// `GET /file`
    List,
    /// `GET /file/info`
    Info,
    /// `POST /file/url`
    Url,
    /// `GET /file/thumb`
    Thumb,
    /// `GET` or `HEAD /file/content/…`
    Content,
    /// `POST /file/create`
    Create,
    /// `POST /file/rename`
    Rename,
    /// `POST /file/move`
    Move,
    /// `DELETE /file`
    Delete,
    /// `POST /file/restore`
    Restore,
    /// `DELETE /file/trash`
    EmptyTrash,
    /// `PATCH /file/metadata`
    Metadata,
    /// `PATCH /file/view`
    FolderView,
    /// `DELETE /file/lock`
    Unlock,
    /// `PUT /file/content`
    PutContent,
    /// `PUT /file/upload`
    UploadCreate,
    /// `POST /file/upload/{session}/{index}`
    UploadChunk,
    /// `DELETE /file/upload`
    UploadCancel,
    /// `POST /file/version/current`
    VersionCurrent,
    /// `DELETE /file/version`
    VersionDelete,
    /// `GET /file/events`
    Events,
    /// `GET /share`
    ShareList,
    /// `PUT /share`
    ShareCreate,
    /// `DELETE /share/{id}`
    ShareDelete,
    /// `GET /share/info/{id}`
    ShareInfo,
    /// `GET /s/{id}`
    ShortLink,
    /// `GET` or `POST /callback/{type}/{session}/{secret}`
    Callback,
    /// A chunk, part, fragment or form that is sent to a store or to a storage node.
    StorePart,
    /// The request that puts the parts of an upload together at a store.
    StoreComplete,
    /// What a store is asked of an upload under way.
    StoreStatus,
    /// Anything else on the other origin, which holds the bytes.
    Store,
    /// Anything else.
    Unknown,
}

impl Route {
    /// The route of a request to the API's origin. A known path with another method is an unknown route.
    pub(crate) fn of(method: &Method, path: &str) -> Self {
        if path.starts_with("/s/") && *method == Method::GET {
            return Self::ShortLink;
        }
        let Some(path) = path.strip_prefix("/api/v4/") else {
            return Self::Unknown;
        };
        let segments: Vec<_> = path.split('/').collect();
        match (method.as_str(), &segments[..]) {
            ("GET", ["site", "ping"]) => Self::Ping,
            ("GET", ["site", "captcha"]) => Self::Captcha,
            ("GET", ["site", "config", _]) => Self::SiteConfig,
            (_, ["session", rest @ ..]) => Self::of_session(method.as_str(), rest),
            ("GET", ["user", "me"]) => Self::Me,
            ("GET", ["user", "capacity"]) => Self::Capacity,
            ("GET" | "PATCH", ["user", "setting"]) => Self::UserSetting,
            ("GET", ["callback", "s3" | "ks3" | "cos", _, _]) => Self::Callback,
            (
                "POST",
                [
                    "callback",
                    "remote" | "oss" | "obs" | "qiniu" | "upyun" | "onedrive",
                    _,
                    _,
                ],
            ) => Self::Callback,
            (_, ["file", rest @ ..]) => Self::of_file(method.as_str(), rest),
            ("GET", ["share"]) => Self::ShareList,
            ("PUT", ["share"]) => Self::ShareCreate,
            ("DELETE", ["share", _]) => Self::ShareDelete,
            ("GET", ["share", "info", _]) => Self::ShareInfo,
            _ => Self::Unknown,
        }
    }

    /// The route of a request to the origin of the stores.
    pub(crate) fn of_store(method: &Method, path: &str, query: &str) -> Self {
        let form = path.starts_with("/upyun-form/") || path.starts_with("/api/v4/slave/upload/");
        match method.as_str() {
            "PUT" => Self::StorePart,
            "POST" if form => Self::StorePart,
            "POST" if path.starts_with("/qiniu-up/") || query.contains("uploadId=") => {
                Self::StoreComplete
            }
            "GET" if path.starts_with("/onedrive/session/") => Self::StoreStatus,
            _ => Self::Store,
        }
    }

    fn of_session(method: &str, rest: &[&str]) -> Self {
        match (method, rest) {
            ("GET", ["prepare"]) => Self::Prepare,
            ("POST", ["token"]) => Self::SignIn,
            ("DELETE", ["token"]) => Self::SignOut,
            ("POST", ["token", "2fa"]) => Self::TwoFactor,
            ("POST", ["token", "refresh"]) => Self::Refresh,
            ("GET", ["oauth", "app", _]) => Self::OAuthApp,
            ("POST", ["oauth", "consent"]) => Self::OAuthConsent,
            ("POST", ["oauth", "token"]) => Self::OAuthToken,
            ("GET", ["oauth", "userinfo"]) => Self::OAuthUserInfo,
            ("DELETE", ["oauth", "grant", _]) => Self::OAuthGrant,
            _ => Self::Unknown,
        }
    }

    fn of_file(method: &str, rest: &[&str]) -> Self {
        match (method, rest) {
            ("GET", []) => Self::List,
            ("DELETE", []) => Self::Delete,
            ("GET", ["info"]) => Self::Info,
            ("POST", ["url"]) => Self::Url,
            ("GET", ["thumb"]) => Self::Thumb,
            ("PUT", ["content"]) => Self::PutContent,
            ("GET" | "HEAD", ["content", _, _, _]) => Self::Content,
            ("POST", ["create"]) => Self::Create,
            ("POST", ["rename"]) => Self::Rename,
            ("POST", ["move"]) => Self::Move,
            ("POST", ["restore"]) => Self::Restore,
            ("DELETE", ["trash"]) => Self::EmptyTrash,
            ("PATCH", ["metadata"]) => Self::Metadata,
            ("PATCH", ["view"]) => Self::FolderView,
            ("DELETE", ["lock"]) => Self::Unlock,
            ("PUT", ["upload"]) => Self::UploadCreate,
            ("POST", ["upload", _, _]) => Self::UploadChunk,
            ("DELETE", ["upload"]) => Self::UploadCancel,
            ("POST", ["version", "current"]) => Self::VersionCurrent,
            ("DELETE", ["version"]) => Self::VersionDelete,
            ("GET", ["events"]) => Self::Events,
            _ => Self::Unknown,
        }
    }

    /// The scope that an OAuth token needs (→ api part 1 §3.9); asked of no other token.
    pub(crate) fn scope(self) -> Option<&'static str> {
        match self {
            Self::Refresh => Some("offline_access"),
            Self::OAuthGrant => Some("UserSecurityInfo.Write"),
            Self::OAuthUserInfo => Some("openid"),
            Self::Me | Self::Capacity | Self::UserSetting => Some("UserInfo.Read"),
            Self::List | Self::Info | Self::Url | Self::Thumb | Self::Content | Self::Events => {
                Some("Files.Read")
            }
            Self::ShareList | Self::ShareInfo => Some("Shares.Read"),
            Self::ShareCreate | Self::ShareDelete => Some("Shares.Write"),
            _ if self.writes() => Some("Files.Write"),
            _ => None,
        }
    }

    /// Anonymous callers are refused before the handler: 401 at the top level.
    pub(crate) fn needs_login(self) -> bool {
        matches!(
            self,
            Self::Me
                | Self::Capacity
                | Self::UserSetting
                | Self::Events
                | Self::ShareList
                | Self::ShareCreate
                | Self::ShareDelete
                | Self::OAuthConsent
                | Self::OAuthUserInfo
                | Self::OAuthGrant
        )
    }

    /// Whether it changes files; these fail while writes are wedged.
    pub(crate) fn writes(self) -> bool {
        matches!(
            self,
            Self::Create
                | Self::Rename
                | Self::Move
                | Self::Delete
                | Self::Restore
                | Self::EmptyTrash
                | Self::Metadata
                | Self::FolderView
                | Self::Unlock
                | Self::PutContent
                | Self::UploadCreate
                | Self::UploadChunk
                | Self::UploadCancel
                | Self::VersionCurrent
                | Self::VersionDelete
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_path_with_another_method_and_a_trailing_slash_are_unknown_routes() {
        for (method, path, route) in [
            (Method::GET, "/api/v4/file", Route::List),
            (Method::GET, "/api/v4/file/", Route::Unknown),
            (Method::OPTIONS, "/api/v4/file", Route::Unknown),
            (Method::HEAD, "/api/v4/file/content/a/0/b", Route::Content),
            (
                Method::POST,
                "/api/v4/session/token/refresh",
                Route::Refresh,
            ),
            (Method::GET, "/", Route::Unknown),
        ] {
            assert_eq!(Route::of(&method, path), route, "{method} {path}");
        }
    }
}
