//! The memory of glibc's allocator. A process that serves for long answers with many blocks of about 1 MB, from many
//! threads. By default glibc keeps what they free: it begins to take such blocks from its heaps instead of from the
//! system, and has up to eight heaps per processor. Measured with clients that mix large reads and writes and never
//! read: 250 MiB resident, with a memory budget of 64 MiB. With the figures below it is half of that.
//!
//! glibc reads them from the environment as a process begins (`mallopt(3)`), so the process begins anew with them: it
//! keeps its number, its arguments and its open files. Setting one of the variables is a choice that stays.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, thread};

/// How many heaps there are.
const ARENAS: &str = "MALLOC_ARENA_MAX";

/// How many heaps there are for each processor, half of the default. With one, threads that allocate at the same time
/// wait for each other: 4 % fewer orders at 64 connections.
const ARENAS_PER_PROCESSOR: usize = 4;

/// A block of at least so many bytes is taken from the system, and given back when it is freed.
const LARGE: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "262144");

/// A heap gives back what is free at its end beyond so many bytes. The default of 128 KiB would be given back and taken
/// again for each batch.
const KEPT: (&str, &str) = ("MALLOC_TRIM_THRESHOLD_", "8388608");

/// Where the same is said to glibc in one variable.
const TUNABLES: &str = "GLIBC_TUNABLES";

/// Says that the process has begun anew. glibc takes its own variables away from a program with capabilities.
const BEGUN: &str = "_ORDERSTREAM_BEGUN_ANEW";

/// Begins the process anew with an allocator that gives memory back. It goes on as it is where the allocator is another
/// one or has been set, and where it cannot begin anew: it then only keeps more memory.
pub(super) fn limit() {
    let is_set = |name| env::var_os(name).is_some();
    let is_glibc = cfg!(all(target_os = "linux", target_env = "gnu"));
    if !is_glibc || [BEGUN, ARENAS, LARGE.0, KEPT.0, TUNABLES].into_iter().any(is_set) {
        return;
    }
    // By its path and not as /proc/self/exe, which would become the name of the process.
    let Ok(program) = env::current_exe() else { return };
    // Run by the dynamic loader, it is the loader's.
    let is_loader = |name: &OsStr| name.as_encoded_bytes().starts_with(b"ld");
    if program.file_name().is_none_or(is_loader) {
        return;
    }
    let arenas = ARENAS_PER_PROCESSOR * thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    let mut anew = Command::new(program);
    anew.arg0(name).args(arguments).env(ARENAS, arenas.to_string()).envs([(BEGUN, "1"), LARGE, KEPT]);
    let _error = anew.exec();
}
