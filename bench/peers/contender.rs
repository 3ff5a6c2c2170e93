//! Who is compared.

/// What answers requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Contender {
    Lighttpd,
    Nginx,
    Apache,
    EmbeddedWarm,
    EmbeddedCold,
    EmbeddedShared,
    DockerCold,
    DockerWarm,
    DockerShared,
    /// `docker run --rm` in a CGI script.
    DockerRun,
    /// What must be asked of Docker's API for a container, and nothing else.
    BareApi,
    /// `crun run`, without a server.
    Crun,
}

impl Contender {
    pub(crate) const ALL: [Self; 12] = [
        Self::Lighttpd,
        Self::Nginx,
        Self::Apache,
        Self::EmbeddedWarm,
        Self::EmbeddedCold,
        Self::EmbeddedShared,
        Self::DockerCold,
        Self::DockerWarm,
        Self::DockerShared,
        Self::DockerRun,
        Self::BareApi,
        Self::Crun,
    ];

    /// What `PEERS_ONLY` calls it.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Lighttpd => "lighttpd",
            Self::Nginx => "nginx",
            Self::Apache => "apache",
            Self::EmbeddedWarm => "embedded-warm",
            Self::EmbeddedCold => "embedded-cold",
            Self::EmbeddedShared => "embedded-shared",
            Self::DockerCold => "docker-cold",
            Self::DockerWarm => "docker-warm",
            Self::DockerShared => "docker-shared",
            Self::DockerRun => "docker-run",
            Self::BareApi => "bare-api",
            Self::Crun => "crun",
        }
    }

    /// What readers call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lighttpd => "lighttpd, mod_cgi",
            Self::Nginx => "nginx, fcgiwrap",
            Self::Apache => "Apache, mod_cgid",
            Self::EmbeddedWarm => "dcgi, embedded, fresh",
            Self::EmbeddedCold => "dcgi, embedded, fresh, cold",
            Self::EmbeddedShared => "dcgi, embedded, shared",
            Self::DockerCold => "dcgi, Docker, fresh, cold",
            Self::DockerWarm => "dcgi, Docker, fresh, warm",
            Self::DockerShared => "dcgi, Docker, shared",
            Self::DockerRun => "docker run, by lighttpd",
            Self::BareApi => "Docker's API, bare",
            Self::Crun => "crun run, no server",
        }
    }

    pub(crate) fn is_dcgi(self) -> bool {
        matches!(
            self,
            Self::EmbeddedWarm
                | Self::EmbeddedCold
                | Self::EmbeddedShared
                | Self::DockerCold
                | Self::DockerWarm
                | Self::DockerShared
        )
    }

    pub(crate) fn needs_docker(self) -> bool {
        matches!(
            self,
            Self::DockerCold | Self::DockerWarm | Self::DockerShared | Self::DockerRun | Self::BareApi
        )
    }

    /// Whether it makes something for each request that takes long.
    pub(crate) fn is_slow(self) -> bool {
        matches!(self, Self::DockerCold | Self::DockerWarm | Self::DockerRun | Self::BareApi | Self::Crun)
    }

    /// Whether somebody waits for its programs, so that their processor time can be read. fcgiwrap and mod_cgid ignore
    /// `SIGCHLD`; the engine's containers are nobody's children.
    pub(crate) fn accounts_for_programs(self) -> bool {
        !matches!(self, Self::Nginx | Self::Apache) && !self.needs_docker()
    }
}
