//! Certificates of one test, made by the `openssl` command: an authority `ours`, which signed a server's certificate
//! for `localhost` and 127.0.0.1, and an authority `others`, which signed none. Dropping the handle deletes them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::clients::http::GUARD;
use crate::harness::binary::output_within;

/// The folder of the certificates.
pub(crate) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes the certificates.
    pub(crate) fn new() -> Certificates {
        let made = Certificates { folder: tempfile::tempdir().expect("a folder") };
        for name in ["ours", "others"] {
            made.openssl(&format!(
                "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -addext subjectAltName=DNS:{name}.example \
                 -keyout {name}.key -out {name}.pem"
            ));
        }
        let extensions = "basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n";
        fs::write(made.path("extensions"), extensions).expect("a file");
        made.openssl("req -new -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out request");
        made.openssl(
            "x509 -req -days 2 -in request -CA ours.pem -CAkey ours.key -CAcreateserial -extfile extensions \
             -out server.crt",
        );
        made
    }

    /// A client's certificate, which `ours` signed, its key, and the same key encrypted with that password.
    #[cfg(feature = "kafka-tls")]
    pub(crate) fn client(&self, password: &str) -> [PathBuf; 3] {
        self.openssl(
            "req -new -newkey rsa:2048 -nodes -subj /CN=orders -keyout client.key -out client.request",
        );
        self.openssl("x509 -req -days 2 -in client.request -CA ours.pem -CAkey ours.key -out client.crt");
        self.openssl(&format!("pkcs8 -topk8 -in client.key -out client.encrypted -passout pass:{password}"));
        ["client.crt", "client.key", "client.encrypted"].map(|name| self.path(name))
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(&self.folder);
        let output = output_within(GUARD, &mut command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {stderr}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The server's certificate and its key.
    pub(crate) fn server(&self) -> [PathBuf; 2] {
        [self.path("server.crt"), self.path("server.key")]
    }

    /// The certificate and the key of an authority, for a server that is its own authority: it is named NAME.example.
    pub(crate) fn own_authority(&self, name: &str) -> [PathBuf; 2] {
        [self.authority(name), self.path(name).with_extension("key")]
    }

    /// The certificate of an authority.
    pub(crate) fn authority(&self, name: &str) -> PathBuf {
        self.path(name).with_extension("pem")
    }

    /// The server's key and its certificate in one file, as Kafka takes them.
    #[cfg(feature = "kafka-tls")]
    pub(crate) fn keystore(&self) -> PathBuf {
        let [certificate, key] = self.server().map(|file| fs::read_to_string(file).expect("a file"));
        let file = self.path("keystore.pem");
        fs::write(&file, key + &certificate).expect("a file");
        file
    }
}
