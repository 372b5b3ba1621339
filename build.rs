//! Makes Rust of the proto files, in `OUT_DIR` and with no compiler but Cargo's: the messages and the server, a client
//! for the tests alone, and the descriptors that reflection tells.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message;
use tonic_prost_build::FileDescriptorSet;

/// Where the files lie, by the paths that they name each other by; the second holds what they import from elsewhere.
const ROOTS: [&str; 2] = ["api", "api/include"];

/// What the packages begin with that are ours.
const OURS: &str = "orders.";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=api");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let descriptors = protox::compile(["orders_api/orders.proto"], ROOTS)?;
    fs::write(out.join("orders.bin"), without_places(descriptors.clone()).encode_to_vec())?;
    let mut ours = descriptors;
    ours.file.retain(|file| file.package().starts_with(OURS));
    generate(ours.clone(), Side::Server, &out.join("server"))?;
    generate(ours, Side::Client, &out.join("client"))
}

/// Which side of a connection the code is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Server,
    Client,
}

/// Writes a module for each package.
fn generate(files: FileDescriptorSet, side: Side, folder: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    tonic_prost_build::configure()
        .build_server(side == Side::Server)
        .build_client(side == Side::Client)
        .build_transport(false)
        .include_file("mod.rs")
        .out_dir(folder)
        .compile_fds(files)?;
    Ok(())
}

/// Where each name stood in its text is of no use to a client.
fn without_places(mut files: FileDescriptorSet) -> FileDescriptorSet {
    files.file.iter_mut().for_each(|file| file.source_code_info = None);
    files
}
