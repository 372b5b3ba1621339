//! Generates Rust from the proto files, in `OUT_DIR` and without `protoc`: the messages and the server, a client that only
//! the tests use, and the descriptors that reflection answers with.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message;
use tonic_prost_build::FileDescriptorSet;

/// The folders that the imports of the files start from. The second one holds files of others that ours import.
const ROOTS: [&str; 2] = ["api", "api/include"];

/// The beginning of the names of our packages.
const OURS: &str = "orders.";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=api");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let descriptors = protox::compile(["orders_api/orders.proto"], ROOTS)?;
    fs::write(out.join("orders.bin"), without_positions(descriptors.clone()).encode_to_vec())?;
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

/// Removes the positions of names in the text, which clients do not need.
fn without_positions(mut files: FileDescriptorSet) -> FileDescriptorSet {
    files.file.iter_mut().for_each(|file| file.source_code_info = None);
    files
}
