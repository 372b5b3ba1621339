//! File descriptors: raises the soft limit to the hard one, and lowers `MAX_CONNECTIONS` to what that limit allows.
//! Connections must never use up all descriptors: the store, the broker and the health checks need some. A tenth of the
//! limit, at least 128 but at most half of it, stays free; the two ports share the rest. A limit that cannot be raised
//! is logged and is not an error. A worker accepts no callers, so its settings stay unchanged.

use std::num::NonZeroU32;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::Settings;

/// The fewest descriptors that stay free for the store, the broker and the log.
const RESERVE: u64 = 128;

/// The ports that accept connections: HTTP and gRPC.
const PORTS: u64 = 2;

/// Raises the limit of this process. Returns the settings with as many connections as the limit allows, where the
/// process accepts callers.
pub(super) fn prepare(settings: &Settings, takes_callers: bool) -> Settings {
    let limit = raise();
    let mut settings = settings.clone();
    if !takes_callers {
        return settings;
    }
    let wanted = settings.max_connections;
    settings.max_connections = connections(wanted, limit);
    let cap = settings.max_connections;
    tracing::info!(api_port = cap, grpc_port = cap, "the most connections at a time");
    if cap < wanted {
        tracing::warn!(
            "max_connections ({wanted}) is lowered to {cap} for each port: this process may open {} file descriptors, \
             and keeps some for the store, the broker and the log; raise the hard limit (ulimit -Hn, LimitNOFILE) to \
             {}, or set MAX_CONNECTIONS to {cap}",
            shown(limit),
            needed(wanted)
        );
    }
    settings
}

/// Raises the soft limit to the hard one, and returns the limit in force; `None` where there is none.
fn raise() -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    let mut wanted = before;
    wanted.current = before.maximum;
    let raised = setrlimit(Resource::Nofile, wanted);
    if let Err(error) = &raised {
        tracing::warn!(%error, "the soft limit of file descriptors cannot be raised to the hard one");
    }
    let limit = if raised.is_ok() { before.maximum } else { before.current };
    tracing::info!(
        soft_before = shown(before.current),
        soft = shown(limit),
        hard = shown(before.maximum),
        "the limit of file descriptors"
    );
    limit
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

/// How many connections each port may have.
fn connections(wanted: NonZeroU32, limit: Option<u64>) -> NonZeroU32 {
    let Some(limit) = limit else { return wanted };
    // Of a very small limit, half is reserved.
    let reserve = RESERVE.max(limit / 10).min(limit / 2);
    let allowed = u32::try_from((limit - reserve) / PORTS).unwrap_or(u32::MAX);
    wanted.min(NonZeroU32::new(allowed).unwrap_or(NonZeroU32::MIN))
}

/// The limit that allows this many connections for each port.
fn needed(wanted: NonZeroU32) -> u64 {
    let connections = u64::from(wanted.get()) * PORTS;
    (connections + RESERVE).max((connections * 10).div_ceil(9))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(wanted: u32, limit: u64) -> u32 {
        connections(NonZeroU32::new(wanted).unwrap(), Some(limit)).get()
    }

    #[test]
    fn the_ports_share_what_the_reserve_leaves() {
        assert_eq!(allowed(10_000, 1024), 448);
        assert_eq!(allowed(100, 1024), 100);
        assert_eq!(allowed(10_000, 4096), (4096 - 409) / 2);
        assert_eq!((allowed(10_000, 64), allowed(10_000, 1), allowed(10_000, 0)), (16, 1, 1));
        assert_eq!(connections(NonZeroU32::MAX, None), NonZeroU32::MAX);
    }

    #[test]
    fn the_limit_that_a_warning_names_is_enough() {
        for wanted in [1, 64, 575, 576, 577, 10_000, u32::MAX] {
            let limit = needed(NonZeroU32::new(wanted).unwrap());
            assert_eq!(allowed(wanted, limit), wanted);
        }
    }
}
