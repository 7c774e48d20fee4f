//! `/site/*` and `/user/*`: what a client may know before and about its user (→ api part 1 §2, §3.10).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::Ctx;
use crate::reply::{Failure, Outcome, Reply};

impl Ctx<'_> {
    pub(super) fn ping(&self) -> Outcome {
        Ok(Reply::data(&self.site.settings.version))
    }

    /// A ticket and a picture. Its text is the ticket's secret, told to tests only.
    pub(super) fn captcha(&mut self) -> Outcome {
        let (ticket, text) = (self.site.dice.text(20), self.site.dice.text(6));
        self.site.captchas.insert(ticket.clone(), text);
        let image = format!("data:image/png;base64,{}", STANDARD.encode(PIXEL));
        Ok(Reply::data(&json!({"image": image, "ticket": ticket})))
    }

    pub(super) fn site_config(&self) -> Outcome {
        let policy = "https://cloudreve.org/privacy-policy";
        let settings = &self.site.settings;
        Ok(Reply::data(&match self.asked.segment(2).as_str() {
            "login" => {
                let mut login = json!({"authn": true, "register_enabled": true});
                (login["tos_url"], login["privacy_policy_url"]) = (policy.into(), policy.into());
                if settings.captcha {
                    login["login_captcha"] = true.into();
                }
                login
            }
            "explorer" => json!({
                "icons": "[]", "map_provider": "openstreetmap", "google_map_tile_type": "regular",
                "file_viewers": [], "max_batch_size": settings.max_batch,
                "thumbnail_width": 400, "thumbnail_height": 300,
                "custom_props": [
                    {"id": "description", "name": "fileManager.description", "type": "text",
                     "icon": "fluent:slide-text-24-filled"},
                    {"id": "rating", "name": "fileManager.rating", "type": "rating", "max": 5,
                     "icon": "fluent:data-bar-vertical-star-24-filled"},
                ],
                "show_encryption_status": true,
            }),
            "thumb" => json!({"thumb_exts": ["jpg", "jpeg", "png", "gif"]}),
            "emojis" => json!({"emoji_preset": "{}"}),
            "app" => json!({"app_promotion": true}),
            _ => json!({
                "instance_id": self.site.instance_id, "title": "Cloudreve",
                "themes": "{}", "default_theme": "#1976d2",
                "user": self.site.user_view(self.caller.user),
                "logo": "/static/img/logo.svg", "logo_light": "/static/img/logo_light.svg",
                "custom_html": {}, "captcha_ReCaptchaKey": "defaultKey", "captcha_type": "normal",
                "captcha_cap_asset_server": "jsdelivr", "app_promotion": true,
            }),
        }))
    }

    pub(super) fn me(&self) -> Outcome {
        Ok(Reply::data(&self.site.user_view(self.caller.user)))
    }

    pub(super) fn capacity(&self) -> Outcome {
        let user = self.caller.user.unwrap_or_default();
        let total = self
            .site
            .accounts
            .get(&user)
            .map_or(0, |account| account.capacity);
        Ok(Reply::data(
            &json!({"total": total, "used": self.site.drive.used(user)}),
        ))
    }

    pub(super) fn user_setting(&mut self) -> Outcome {
        let user = self.caller.user.unwrap_or_default();
        if self.asked.method == hyper::Method::PATCH {
            return self.change_user_setting(user);
        }
        let account = self
            .site
            .accounts
            .get(&user)
            .ok_or_else(Failure::login_required)?;
        let mut view = json!({
            "version_retention_enabled": account.retention,
            "passwordless": false,
            "two_fa_enabled": account.two_factor.is_some(),
            "disable_view_sync": !account.view_sync,
            "share_links_in_profile": "",
        });
        // 0 is unlimited, and sent as absent (→ api part 2 §7).
        if account.retention_max > 0 {
            view["version_retention_max"] = account.retention_max.into();
        }
        Ok(Reply::data(&view))
    }

    fn change_user_setting(&mut self, user: u64) -> Outcome {
        #[derive(Deserialize)]
        struct Change {
            version_retention_enabled: Option<bool>,
            version_retention_max: Option<usize>,
            disable_view_sync: Option<bool>,
        }
        let change: Change = self.json()?;
        let account = self
            .site
            .accounts
            .get_mut(&user)
            .ok_or_else(Failure::login_required)?;
        account.retention = change
            .version_retention_enabled
            .unwrap_or(account.retention);
        account.retention_max = change
            .version_retention_max
            .unwrap_or(account.retention_max);
        account.view_sync = change
            .disable_view_sync
            .map_or(account.view_sync, |disabled| !disabled);
        Ok(Reply::done())
    }
}

/// A PNG of one white pixel: a captcha that a test reads by other means.
#[rustfmt::skip]
pub(super) const PIXEL: [u8; 67] = [
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52,
    0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0x3a, 0x7e, 0x9b,
    0x55, 0x00, 0x00, 0x00, 0x0a, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0xf8, 0x0f, 0x00, 0x01,
    0x01, 0x01, 0x00, 0x1c, 0xb0, 0x8c, 0x99, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae,
    0x42, 0x60, 0x82,
];
