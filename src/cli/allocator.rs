//! The memory of glibc's allocator. A server allocates many blocks of about 1 MB on many threads. By default glibc
//! keeps the freed ones: it begins to take such blocks from its heaps instead of from the system, and has up to eight
//! heaps per processor. Measured with clients that mix large reads and writes and never read their answers: 250 MiB
//! resident, with a memory budget of 64 MiB. The values below halve that.
//!
//! glibc reads them from the environment when a process starts (`mallopt(3)`), so the program executes itself again
//! with them set: it keeps its process id, its arguments and its open files. A variable that an operator has set stays.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, thread};

/// glibc's variable for the number of heaps.
const ARENAS: &str = "MALLOC_ARENA_MAX";

/// Heaps for each processor, half of the default. With one, threads that allocate at the same time wait for each other:
/// 4 % fewer orders at 64 connections.
const ARENAS_PER_PROCESSOR: usize = 4;

/// A block of at least this many bytes comes from the system, and returns to it when it is freed.
const LARGE: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "262144");

/// A heap returns free memory at its end beyond this many bytes. With the default of 128 KiB it would return and take
/// memory for each batch.
const KEPT: (&str, &str) = ("MALLOC_TRIM_THRESHOLD_", "8388608");

/// glibc's other way to set the same values, in one variable.
const TUNABLES: &str = "GLIBC_TUNABLES";

/// Marks a process that has executed itself again. glibc's own variables cannot: glibc removes them from a program with
/// capabilities.
const RESTARTED: &str = "_ORDERSTREAM_BEGUN_ANEW";

/// Executes the program again with an allocator that returns memory to the system. Does nothing where the allocator is
/// not glibc's or has been configured, and where the program cannot be executed: the process then only keeps more
/// memory.
pub(super) fn limit() {
    let is_set = |name| env::var_os(name).is_some();
    let is_glibc = cfg!(all(target_os = "linux", target_env = "gnu"));
    if !is_glibc || [RESTARTED, ARENAS, LARGE.0, KEPT.0, TUNABLES].into_iter().any(is_set) {
        return;
    }
    // The path and not /proc/self/exe, which would become the name of the process.
    let Ok(program) = env::current_exe() else { return };
    // In a program that the dynamic loader was asked to run, this is the loader's path.
    let is_loader = |name: &OsStr| name.as_encoded_bytes().starts_with(b"ld");
    if program.file_name().is_none_or(is_loader) {
        return;
    }
    let arenas = ARENAS_PER_PROCESSOR * thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    let mut restart = Command::new(program);
    restart.arg0(name).args(arguments).env(ARENAS, arenas.to_string()).envs([(RESTARTED, "1"), LARGE, KEPT]);
    let _error = restart.exec();
}
