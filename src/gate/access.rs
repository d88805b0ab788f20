//! Paths that are not for everybody: by network, by password, or both.

use std::net::IpAddr;
use std::time::Duration;

use ::http::request::Parts;

use super::GateError;
use super::passwords::{Checked, Passwords};
use crate::config::AccessConfig;
use crate::config::values::{PathPattern, TrustedPeer};

/// One rule.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) path: PathPattern,
    allow: Vec<TrustedPeer>,
    deny: Vec<TrustedPeer>,
    realm: String,
    passwords: Option<Passwords>,
}

/// Why somebody stays outside.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The client's network is not one of those that may.
    Network,
    /// A password is missing, or wrong; for this realm.
    Password(String),
    /// Too many passwords are being checked.
    Busy,
}

impl Access {
    pub(super) fn new(config: &AccessConfig, checks: usize, patience: Duration) -> Result<Self, GateError> {
        let passwords = config.password_file.as_deref().map(|file| Passwords::read(file, checks, patience));
        Ok(Self {
            path: config.path.clone(),
            allow: config.allow.clone(),
            deny: config.deny.clone(),
            realm: config.realm.0.clone(),
            passwords: passwords.transpose()?,
        })
    }

    pub(super) fn has_passwords(&self) -> bool {
        self.passwords.is_some()
    }

    pub(super) async fn refuses(&self, head: &Parts, client: Option<IpAddr>) -> Option<Refused> {
        if !self.lets_in(client) {
            return Some(Refused::Network);
        }
        match self.passwords.as_ref()?.check(&head.headers, client).await {
            Checked::Known => None,
            Checked::Unknown => Some(Refused::Password(self.realm.clone())),
            Checked::Busy => Some(Refused::Busy),
        }
    }

    /// Who is denied stays outside; where some are allowed, all others do too.
    fn lets_in(&self, client: Option<IpAddr>) -> bool {
        let covers = |peers: &[TrustedPeer]| peers.iter().any(|peer| peer.covers(client));
        !covers(&self.deny) && (self.allow.is_empty() || covers(&self.allow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_network_is_let_in_unless_it_is_denied() {
        for (rule, client, expected) in [
            ("", Some("192.0.2.1"), true),
            ("allow = [\"10.0.0.0/8\"]", Some("10.1.2.3"), true),
            ("allow = [\"10.0.0.0/8\"]", Some("::ffff:10.1.2.3"), true),
            ("allow = [\"10.0.0.0/8\"]", Some("192.0.2.1"), false),
            ("allow = [\"10.0.0.0/8\"]", None, false),
            ("allow = [\"unix\"]", None, true),
            ("allow = [\"10.0.0.0/8\"]\ndeny = [\"10.1.2.3\"]", Some("10.1.2.3"), false),
            ("deny = [\"2001:db8::/32\"]", Some("2001:db8::1"), false),
            ("deny = [\"2001:db8::/32\"]", Some("192.0.2.1"), true),
        ] {
            let config: Config = toml::from_str(&format!("[[access]]\npath = \"/*\"\n{rule}")).expect("a rule");
            let access = Access::new(&config.access[0], 1, Duration::ZERO).expect("no passwords to read");
            let client = client.map(|address| address.parse().expect("an address"));
            assert_eq!(access.lets_in(client), expected, "for {rule}, {client:?}");
        }
    }
}
