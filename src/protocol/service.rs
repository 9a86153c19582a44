//! git's three services, and which of them a server offers.

/// A service that a client can request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Serves fetches and clones.
    UploadPack,
    /// Serves `git archive --remote`.
    UploadArchive,
    /// Takes pushes.
    ReceivePack,
}

impl Service {
    /// All of them, in the order of git's protocol manual.
    pub const ALL: [Service; 3] =
        [Service::UploadPack, Service::UploadArchive, Service::ReceivePack];

    /// The service that a request-command names: `git-upload-pack` and so on, case-sensitive.
    pub fn from_request_command(command: &[u8]) -> Option<Self> {
        Self::from_name(command.strip_prefix(b"git-")?)
    }

    /// The service with this name, without `git-`: what `--enable=` takes.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name().as_bytes() == name)
    }

    /// Its name in the log and as git's subcommand.
    pub fn name(self) -> &'static str {
        match self {
            Service::UploadPack => "upload-pack",
            Service::UploadArchive => "upload-archive",
            Service::ReceivePack => "receive-pack",
        }
    }

    /// The configuration variable by which a repository overrides the server (contract 52).
    pub fn config_key(self) -> &'static str {
        match self {
            Service::UploadPack => "daemon.uploadpack",
            Service::UploadArchive => "daemon.uploadarch",
            Service::ReceivePack => "daemon.receivepack",
        }
    }
}

/// A server's offer of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Whether it is offered if the repository does not configure it.
    pub enabled: bool,
    /// Whether the repository's `daemon.<service>` decides.
    pub overridable: bool,
}

/// A server's offer of each service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offers([Offer; 3]);

impl Default for Offers {
    /// Only upload-pack is enabled; a repository may override each (contract 52, 53).
    fn default() -> Self {
        Offers(
            Service::ALL.map(|service| Offer {
                enabled: service == Service::UploadPack,
                overridable: true,
            }),
        )
    }
}

impl std::ops::Index<Service> for Offers {
    type Output = Offer;

    fn index(&self, service: Service) -> &Offer {
        &self.0[service as usize]
    }
}

impl std::ops::IndexMut<Service> for Offers {
    fn index_mut(&mut self, service: Service) -> &mut Offer {
        &mut self.0[service as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for service in Service::ALL {
            assert_eq!(Service::from_name(service.name().as_bytes()), Some(service));
            let command = format!("git-{}", service.name());
            assert_eq!(Service::from_request_command(command.as_bytes()), Some(service));
        }
    }

    #[test]
    fn only_exact_commands_count() {
        for command in
            ["upload-pack", "git-Upload-pack", "git-upload-pack ", "git-", "", "git upload-pack"]
        {
            assert_eq!(Service::from_request_command(command.as_bytes()), None, "{command}");
        }
    }

    #[test]
    fn only_upload_pack_is_enabled_by_default() {
        let offers = Offers::default();
        assert!(offers[Service::UploadPack].enabled);
        assert!(!offers[Service::UploadArchive].enabled);
        assert!(!offers[Service::ReceivePack].enabled);
        assert!(Service::ALL.into_iter().all(|service| offers[service].overridable));
    }
}
