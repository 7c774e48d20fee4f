//! Homes with accounts and files in them, and what is decided there.

use std::time::Duration;

use super::*;

/// A home with a config directory, in which accounts and a config.toml can be put.
struct Home {
    root: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Home {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
        let variables = ["CONFIG_DIR", "STATE_DIR", "CACHE_DIR", "CONTROL"]
            .map(|name| (format!("CLOUDREVE_{name}"), path(name)));
        Self {
            variables: variables.to_vec(),
            root,
        }
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn account(self, name: &str, address: &str) -> Self {
        let tokens = crate::tokens::Tokens {
            access: Secret::new("a"),
            access_expires: std::time::SystemTime::UNIX_EPOCH,
            refresh: Secret::new("r"),
            refresh_expires: std::time::SystemTime::UNIX_EPOCH,
        };
        let user = format!("{name}@example.com");
        let account = crate::accounts::Account {
            address: address.parse().unwrap(),
            user,
            tokens,
        };
        Accounts::new(&self.root.path().join("CONFIG_DIR"))
            .store(name, &account)
            .unwrap();
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = self.root.path().join("CONFIG_DIR").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        self
    }

    fn plan(&self, uri: &str, flags: &[(&'static str, &str)]) -> Result<MountPlan, Failure> {
        use std::os::unix::fs::MetadataExt;
        let uid = std::fs::metadata(self.root.path()).unwrap().uid();
        let environment = Environment::new(self.variables.clone(), uid, 77);
        let request = MountRequest {
            uri: uri.into(),
            dir: self.root.path().join("mnt"),
            flags: flags
                .iter()
                .map(|(name, text)| (*name, (*text).into()))
                .collect(),
            ..MountRequest::default()
        };
        plan(&request, &environment)
    }
}

/// As whom, and where, in a word.
fn who(plan: Result<MountPlan, Failure>) -> String {
    let plan = match plan {
        Ok(plan) => plan,
        Err(failure) => return format!("{:?}: {failure}", failure.kind),
    };
    let account = match plan.account {
        Account::Anonymous => "nobody".to_owned(),
        Account::Profile { name, .. } => format!("profile {name}"),
        Account::Password { email, .. } => format!("password of {email}"),
        Account::RefreshToken(_) => "refresh token".to_owned(),
        Account::AccessToken(_) => "access token".to_owned(),
    };
    format!("{account} at {}", plan.api.address)
}

#[test]
fn without_a_word_the_stored_account_is_used_that_is_meant() {
    let home = Home::new().account("home", "https://a");
    assert_eq!(
        who(home.plan("cloudreve://my/", &[])),
        "profile home at https://a"
    );
    let home = home.account("work", "https://b").account("b2", "https://b");
    assert_eq!(
        who(home.plan("https://a/home", &[])),
        "profile home at https://a"
    );
    assert_eq!(
        who(home.plan("cloudreve://my/", &[("profile", "work")])),
        "profile work at https://b"
    );
    let said = who(home.plan("https://b", &[]));
    assert!(
        said.contains("b2, work") && said.contains("--profile"),
        "{said}"
    );
    assert_eq!(
        who(home.plan("https://b", &[("username", "b2@example.com")])),
        "profile b2 at https://b"
    );
    let home = home.account("b", "https://b");
    assert_eq!(
        who(home.plan("https://b", &[])),
        "profile b at https://b",
        "by the host's name"
    );
}

#[test]
fn credentials_come_before_an_account_that_nobody_named_and_after_one_named_more_strongly() {
    let home = Home::new()
        .account("home", "https://a")
        .set("CLOUDREVE_REFRESH_TOKEN", "t");
    assert_eq!(
        who(home.plan("https://a", &[])),
        "refresh token at https://a"
    );
    assert_eq!(
        who(home.plan("https://a", &[("profile", "home")])),
        "profile home at https://a"
    );
    let home = home.set("CLOUDREVE_PASSWORD", "p");
    assert_eq!(
        who(home.plan("https://a", &[("username", "me")])),
        "password of me at https://a"
    );
    let home = home
        .file("cred", "access_token=x\n")
        .file("config.toml", "[defaults]\ncredentials = './cred'\n");
    assert_eq!(
        who(home.plan("https://a", &[])),
        "access token at https://a"
    );
}

#[test]
fn a_default_profile_is_not_meant_for_another_server() {
    let home = Home::new()
        .account("home", "https://a")
        .account("work", "https://b")
        .file("config.toml", "[defaults]\nprofile = 'home'\n");
    assert_eq!(
        who(home.plan("cloudreve://my/", &[])),
        "profile home at https://a"
    );
    assert_eq!(
        who(home.plan("https://b", &[])),
        "profile work at https://b"
    );
}

#[test]
fn a_profile_may_live_in_config_toml_alone() {
    let home = Home::new().file("cred", "username=me\npassword=p\n").file(
        "config.toml",
        "[profiles.x]\naddress = 'https://a'\ncredentials = './cred'\nmemory = '16M'\n",
    );
    assert_eq!(
        who(home.plan("cloudreve://my/", &[])),
        "password of me at https://a"
    );
    let plan = home.plan("cloudreve://my/", &[("profile", "x")]).unwrap();
    assert_eq!(plan.read.memory_bytes, 16 << 20);
}

#[test]
fn secrets_of_one_server_never_go_to_another() {
    let home = Home::new()
        .account("home", "https://a")
        .file("cred", "access_token=x\naddress=https://a\n");
    let cred = home.root.path().join("CONFIG_DIR/cred");
    let cred = cred.to_str().unwrap();
    for flags in [
        &[("profile", "home"), ("address", "https://b")][..],
        &[("credentials", cred), ("address", "https://b")],
    ] {
        let said = who(home.plan("cloudreve://my/", flags));
        assert!(
            said.starts_with("Failed") && said.contains("https://a") && said.contains("https://b"),
            "{said}"
        );
    }
    assert_eq!(
        who(home.plan("cloudreve://my/", &[("credentials", cred)])),
        "access token at https://a"
    );
    let said = who(home.plan("https://a", &[("address", "https://b")]));
    assert!(said.starts_with("Usage"), "{said}");
}

#[test]
fn who_is_nobody_hears_how_to_become_somebody() {
    let home = Home::new();
    for (uri, flags, words) in [
        ("cloudreve://my/", &[][..], &["--address", "login"][..]),
        ("https://a", &[], &["login https://a"]),
        (
            "https://a/s/AbCd",
            &[],
            &["login https://a", "--auth anonymous"],
        ),
        ("https://a", &[("auth", "anonymous")], &["login https://a"]),
        ("https://a", &[("username", "me")], &["CLOUDREVE_PASSWORD"]),
        (
            "https://a",
            &[("profile", "nobody")],
            &["nobody", "login https://a --profile nobody"],
        ),
    ] {
        let said = who(home.plan(uri, flags));
        assert!(said.starts_with("Failed"), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    assert_eq!(
        who(home.plan("https://a/s/AbCd", &[("auth", "anonymous")])),
        "nobody at https://a"
    );
}

#[test]
fn a_user_without_a_password_is_not_taken_for_the_profile_of_another() {
    let home = Home::new().account("home", "https://a");
    let plan = |user| home.plan("https://a", &[("username", user), ("profile", "home")]);
    let said = who(plan("me@example.com"));
    assert!(
        said.starts_with("Usage") && said.contains("'home' is home@example.com"),
        "{said}"
    );
    assert_eq!(who(plan("Home@example.com")), "profile home at https://a");
}

#[test]
fn a_shares_password_is_mounted_and_not_shown() {
    let home = Home::new();
    for uri in [
        "https://a/s/AbCd/hunter2",
        "https://a/home?path=cloudreve://AbCd:hunter2@share/",
    ] {
        let plan = home.plan(uri, &[("auth", "anonymous")]).unwrap();
        assert!(!plan.source.contains("hunter2"), "{}", plan.source);
        assert_eq!(plan.fs.root.to_wire(), "cloudreve://AbCd:hunter2@share/");
    }
    for uri in [
        "cloudreve://AbCd:hunter2@shrae/",
        "a.example/s/AbCd/hunter2",
        "https:/a.example/s/AbCd/hunter2",
        "AbCd:hunter2@share",
        "AbCd:hunter2@share://",
        "https://a.example/home?path=cloudreve%3A%2F%2FAbCd%3Ahunter2%40shrae",
    ] {
        let said = who(home.plan(uri, &[]));
        assert!(
            said.starts_with("Usage") && !said.contains("hunter2"),
            "{said}"
        );
    }
}

#[test]
fn defaults_are_those_of_the_table_and_the_mounting_user() {
    let plan = Home::new()
        .set("CLOUDREVE_ACCESS_TOKEN", "t")
        .plan("https://a", &[("umask", "027"), ("dir-mode", "700")])
        .unwrap();
    assert_eq!(
        (plan.fs.file_mode, plan.fs.dir_mode, plan.fs.gid),
        (0o640, 0o700, 77)
    );
    assert_eq!(
        (plan.fs.metadata_ttl, plan.api.timeout),
        (Duration::from_secs(15), Duration::from_secs(30))
    );
    assert_eq!(plan.read.memory_bytes, 128 << 20);
    assert_eq!(plan.read.download, read::Download::Direct);
    assert!(plan.api.user_agent.starts_with("cloudreve-fuse/"));
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
}

#[test]
fn clear_text_and_options_without_effect_are_warned_of() {
    let home = Home::new().set("CLOUDREVE_ACCESS_TOKEN", "t");
    let plan = home.plan("http://a", &[("metrics", "[::1]:1")]).unwrap();
    assert_eq!(plan.warnings.len(), 2, "{:?}", plan.warnings);
    assert!(plan.warnings[0].contains("https") && plan.warnings[1].contains("no effect yet"));
}

#[test]
fn thumbnails_go_where_the_desktop_of_who_mounts_looks_for_them() {
    let plan = |set: &[(&str, &str)], flags: &[(&'static str, &str)]| {
        let home = Home::new().set("CLOUDREVE_ACCESS_TOKEN", "t");
        let home = set
            .iter()
            .fold(home, |home, (name, value)| home.set(name, value));
        home.plan("https://a", flags).unwrap()
    };
    let cache = |plan: MountPlan| plan.thumbnails.map(|options| options.cache_dir);
    let on = [("thumbnails", "yes")];
    assert_eq!(cache(plan(&[("HOME", "/h")], &[])), None);
    let found = cache(plan(&[("HOME", "/h")], &on));
    assert_eq!(found, Some("/h/.cache/thumbnails".into()));
    let found = cache(plan(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")], &on));
    assert_eq!(found, Some("/c/thumbnails".into()));
    let homeless = plan(&[("XDG_CACHE_HOME", "relative")], &on);
    assert!(
        homeless.warnings[0].contains("HOME"),
        "{:?}",
        homeless.warnings
    );
    assert_eq!(cache(homeless), None);
}

#[test]
fn nothing_limits_a_download_unless_somebody_says_so() {
    let home = Home::new().set("CLOUDREVE_ACCESS_TOKEN", "t");
    let limit = |flags: &[(&'static str, &str)]| {
        home.plan("https://a", flags).unwrap().api.limit_down_bytes
    };
    assert_eq!(limit(&[]), 0);
    assert_eq!(limit(&[("limit-down", "0")]), 0);
    assert_eq!(limit(&[("limit-down", "2M")]), 2 << 20);
}

#[test]
fn the_cache_takes_a_tenth_of_its_disk_and_20g_at_most_unless_somebody_says_otherwise() {
    let home = Home::new().set("CLOUDREVE_ACCESS_TOKEN", "t");
    let disk = disk_of(home.root.path()).unwrap();
    let plan = |flags: &[(&'static str, &str)]| home.plan("https://a", flags).unwrap();
    let default = (disk.total_bytes / 10).min(20 << 30);
    assert_eq!(plan(&[]).cache_size_bytes, default);
    assert_eq!(plan(&[("cache-size", "3M")]).cache_size_bytes, 3 << 20);
    assert_eq!(plan(&[("cache-size", "0")]).cache_size_bytes, 0);
    let odd = plan(&[("cache-dir", "/proc/is/no/disk")]);
    assert_eq!(odd.cache_size_bytes, 0);
    assert!(
        odd.warnings[0].contains("--cache-size"),
        "{:?}",
        odd.warnings
    );
}

#[test]
fn nothing_is_kept_in_a_directory_that_the_mount_would_hide() {
    let home = Home::new().set("CLOUDREVE_ACCESS_TOKEN", "t");
    let within = home.root.path().join("mnt/cache");
    let flags = |size| {
        [
            ("cache-dir", within.to_str().unwrap()),
            ("cache-size", size),
        ]
    };
    let plan = home.plan("https://a", &flags("1G")).unwrap();
    assert_eq!(plan.cache_size_bytes, 0);
    assert!(
        plan.warnings[0].contains("--cache-dir"),
        "{:?}",
        plan.warnings
    );
    let plan = home.plan("https://a", &flags("0")).unwrap();
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    let beside = home.root.path().join("mnt2");
    let beside = [("cache-dir", beside.to_str().unwrap())];
    assert_ne!(home.plan("https://a", &beside).unwrap().cache_size_bytes, 0);
}

#[test]
fn nothing_is_mounted_over_what_the_mount_needs() {
    let home = Home::new().account("home", "https://a");
    let within = home.root.path().join("mnt/deep/within");
    let within = within.to_str().unwrap();
    for option in ["control", "state-dir"] {
        let said = who(home.plan("https://a", &[(option, within)]));
        assert!(
            said.starts_with("Failed") && said.contains(within) && said.contains(option),
            "{said}"
        );
    }
    // Tokens are renewed where they are stored, if they are.
    let mut at_home = Home::new();
    at_home
        .variables
        .retain(|(name, _)| name != "CLOUDREVE_CONFIG_DIR");
    let config = at_home.root.path().join("CONFIG_DIR");
    std::os::unix::fs::symlink(at_home.root.path().join("mnt"), &config).unwrap();
    std::fs::create_dir(at_home.root.path().join("mnt")).unwrap();
    let at_home = at_home.account("home", "https://a");
    let flags = [("config-dir", config.to_str().unwrap())];
    let said = who(at_home.plan("https://a", &flags));
    assert!(said.contains("--config-dir"), "{said}");
    let at_home = at_home.set("CLOUDREVE_ACCESS_TOKEN", "t");
    let said = who(at_home.plan("https://a", &flags));
    assert_eq!(said, "access token at https://a");
}

#[test]
fn the_kernel_may_read_the_cache_unless_it_is_forbidden() {
    let home = Home::new().set("CLOUDREVE_ACCESS_TOKEN", "t");
    let plan = |flags: &[(&'static str, &str)]| home.plan("https://a", flags).unwrap();
    assert!(plan(&[]).passthrough);
    assert!(plan(&[("passthrough", "auto")]).passthrough);
    assert!(!plan(&[("passthrough", "off")]).passthrough);
}

#[test]
fn writing_is_decided_by_the_table_unless_somebody_says_otherwise() {
    let home = Home::new().set("CLOUDREVE_ACCESS_TOKEN", "t");
    let plan = |flags: &[(&'static str, &str)]| home.plan("https://a", flags).unwrap();
    let default = plan(&[]);
    let (writing, upload) = (&default.writing, &default.writing.upload);
    assert!(!writing.read_only);
    assert_eq!(
        (
            writing.delete,
            writing.durability,
            default.api.limit_up_bytes
        ),
        (api::Delete::Trash, Durability::Local, 0)
    );
    assert_eq!(
        (upload.overwrite, upload.delay, upload.transfers),
        (upload::Overwrite::Replace, Duration::from_secs(1), 8)
    );
    assert!(!upload.host.is_empty() && !upload.host.contains(['.', '\n']));
    let other = plan(&[
        ("read-only", "yes"),
        ("delete", "permanent"),
        ("durability", "server"),
        ("overwrite", "delete"),
        ("upload-delay", "0"),
        ("transfers", "3"),
        ("limit-up", "1M"),
        ("names", "reject"),
    ]);
    let (writing, upload) = (&other.writing, &other.writing.upload);
    assert!(writing.read_only);
    assert_eq!(
        (writing.delete, writing.durability, other.api.limit_up_bytes),
        (api::Delete::Permanent, Durability::Server, 1 << 20)
    );
    assert_eq!(
        (upload.overwrite, upload.delay, upload.transfers),
        (upload::Overwrite::Delete, Duration::ZERO, 3)
    );
    assert_eq!(upload.names, crate::names::NamePolicy::Reject);
}

#[test]
fn patterns_of_what_stays_here_are_read_and_bad_ones_refused() {
    let home = Home::new().set("CLOUDREVE_ACCESS_TOKEN", "t");
    let plan = home.plan("https://a", &[("local-only", "*.tmp, .~lock.*")]);
    let kinds = plan.unwrap().writing.local_only;
    assert_eq!(format!("{:?}", kinds.globs), r#"["*.tmp", ".~lock.*"]"#);
    assert_eq!(kinds.root, Some(crate::uri::FileUri::my()));
    let said = who(home.plan("https://a", &[("local-only", "a/*.tmp")]));
    assert!(said.contains("a pattern is one name"), "{said}");
}
