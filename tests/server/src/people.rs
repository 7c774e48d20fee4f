//! Seeding of people: users, their ways to sign in, and the OAuth clients they consent to.
//!
//! A user is named by its e-mail address. One that does not exist is a mistake of the test, which panics.

use crate::ids::Kind;
use crate::options::User;
use crate::reply::Failure;
use crate::routes::Consent;
use crate::server::Server;
use crate::site::{Group, OAuthClient, Status};

impl Server {
    #[track_caller]
    fn user_by_email(&self, email: &str) -> u64 {
        self.site()
            .account_by_email(email)
            .unwrap_or_else(|| panic!("there is no user {email}"))
    }

    /// Adds a user of the group User with an empty drive.
    pub fn add_user(&self, email: &str, password: &str) -> User {
        let now = self.now();
        let mut site = self.site();
        let id = site.add_account(email, password, Group::User, now);
        User {
            id: site.ids.encode(Kind::User, id),
            email: email.to_owned(),
            password: password.to_owned(),
        }
    }

    /// Changes a password: refresh tokens die, access tokens live on.
    #[track_caller]
    pub fn set_password(&self, email: &str, password: &str) {
        let user = self.user_by_email(email);
        self.site().accounts.entry(user).and_modify(|account| {
            account.password = password.to_owned();
            account.password_serial += 1;
        });
    }

    /// Bans a user, or lets him in again.
    #[track_caller]
    pub fn ban_user(&self, email: &str, banned: bool) {
        let user = self.user_by_email(email);
        let status = if banned {
            Status::Banned
        } else {
            Status::Active
        };
        self.site()
            .accounts
            .entry(user)
            .and_modify(|account| account.status = status);
    }

    /// An account that was registered but never activated.
    #[track_caller]
    pub fn deactivate_user(&self, email: &str) {
        let user = self.user_by_email(email);
        self.site()
            .accounts
            .entry(user)
            .and_modify(|account| account.status = Status::Inactive);
    }

    /// Turns on the second factor; answers with what the authenticator shows now.
    #[track_caller]
    pub fn enable_2fa(&self, email: &str) -> String {
        let user = self.user_by_email(email);
        let secret = self.site().dice.text(32);
        if let Some(account) = self.site().accounts.get_mut(&user) {
            account.two_factor = Some(secret);
        }
        self.otp(email)
    }

    /// What the authenticator of a user with a second factor shows now.
    #[track_caller]
    pub fn otp(&self, email: &str) -> String {
        let (user, now) = (self.user_by_email(email), self.now());
        let site = self.site();
        let secret = site.accounts[&user].two_factor.clone();
        let secret = secret.unwrap_or_else(|| panic!("{email} has no second factor"));
        site.two_factor_code(&secret, now)
    }

    /// The text that a human would read in the picture of a captcha; none if the ticket was used.
    pub fn captcha_answer(&self, ticket: &str) -> Option<String> {
        self.site().captchas.get(ticket).cloned()
    }

    /// Captchas handed out and not yet used: tickets, with their texts.
    pub fn open_captchas(&self) -> Vec<(String, String)> {
        let site = self.site();
        let open = site.captchas.iter();
        open.map(|(ticket, text)| (ticket.clone(), text.clone()))
            .collect()
    }

    /// A pair of access and refresh token for a user, as by signing in.
    #[track_caller]
    pub fn issue_tokens(&self, email: &str) -> (String, String) {
        let (user, now) = (self.user_by_email(email), self.now());
        let pair = self.site().sign_in(user, now);
        (pair.access, pair.refresh)
    }

    /// A refresh token for a user, as by signing in.
    #[track_caller]
    pub fn issue_refresh_token(&self, email: &str) -> String {
        self.issue_tokens(email).1
    }

    /// Registers an OAuth client as an administrator does; answers with its id and its secret.
    pub fn add_oauth_client(
        &self,
        name: &str,
        redirect_uris: &[&str],
        scopes: &str,
    ) -> (String, String) {
        let mut site = self.site();
        let (id, secret) = (site.dice.uuid(), site.dice.text(32));
        let client = OAuthClient {
            name: name.to_owned(),
            secret: secret.clone(),
            redirect_uris: redirect_uris.iter().map(|uri| (*uri).to_owned()).collect(),
            scopes: scopes.split_whitespace().map(str::to_owned).collect(),
            refresh_ttl: None,
        };
        site.oauth_clients.insert(id.clone(), client);
        (id, secret)
    }

    /// Consents as the first user, as its browser would on the authorize page: answers with the code, or with the
    /// code and message of the server's refusal.
    pub fn approve_oauth(
        &self,
        client_id: &str,
        redirect_uri: &str,
        scope: &str,
        code_challenge: &str,
    ) -> Result<String, (i32, String)> {
        let now = self.now();
        let consent = Consent {
            client_id: client_id.to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            scope: scope.to_owned(),
            code_challenge: code_challenge.to_owned(),
            ..Consent::default()
        };
        let refused = |failure: Failure| (failure.code, failure.msg);
        self.site()
            .consent(self.first_user(), &consent, now)
            .map_err(refused)
    }

    /// Withdraws the first user's consent to a client.
    pub fn revoke_oauth(&self, client_id: &str) {
        let user = self.first_user();
        self.site()
            .accounts
            .entry(user)
            .and_modify(|account| drop(account.grants.remove(client_id)));
    }
}
