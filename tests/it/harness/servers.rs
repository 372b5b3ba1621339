//! The real servers that tests run against: those that the environment names, or those that `scripts/servers` starts
//! once for all tests; and servers of one test, which it can break.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::binary::{INSTALLATION, output_within};

/// The limit for a run of the script, or of a server's own tool. The script itself gives up waiting for a server before
/// that; the installation of a server takes long.
const LIMIT: Duration = INSTALLATION;

/// The DSN of a Postgres whose database the tests may fill.
pub(crate) fn postgres() -> &'static str {
    static DSN: OnceLock<String> = OnceLock::new();
    DSN.get_or_init(|| given_or_started(Server::Postgres))
}

/// The brokers of a Kafka.
pub(crate) fn kafka() -> &'static str {
    static BROKERS: OnceLock<String> = OnceLock::new();
    BROKERS.get_or_init(|| given_or_started(Server::Kafka))
}

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Postgres,
    Redis,
    Kafka,
    Pgbouncer,
}

impl Server {
    /// Its name, and the variable that names its address.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Server::Postgres => ("postgres", "POSTGRES_DSN"),
            Server::Redis => ("redis", "REDIS_ADDR"),
            Server::Kafka => ("kafka", "KAFKA_BROKERS"),
            Server::Pgbouncer => ("pgbouncer", "PGBOUNCER_DSN"),
        }
    }
}

fn given_or_started(server: Server) -> String {
    let (name, variable) = server.names();
    std::env::var(variable).unwrap_or_else(|_| value(&run(script(None), &["up", name]), variable))
}

/// Servers in a folder of their own; dropping the handle ends them and deletes the folder.
pub(crate) struct Private {
    folder: TempDir,
}

impl Private {
    /// A folder in which nothing runs yet.
    pub(crate) fn new() -> Private {
        let folder = tempfile::Builder::new().prefix("orderstream-test-").tempdir().expect("a folder");
        Private { folder }
    }

    /// Starts a server, or starts it again at the same address, and answers its address.
    pub(crate) fn up(&self, server: Server) -> String {
        let (name, variable) = server.names();
        value(&self.run(&["up", name]), variable)
    }

    /// The folder of Postgres's data, where one was started.
    pub(crate) fn postgres_data(&self) -> PathBuf {
        self.folder.path().join("servers/postgres/data")
    }

    /// Starts a Postgres as a standby of another one, whose commits appear here a moment later.
    pub(crate) fn standby_of(&self, primary: &str) -> String {
        self.up(Server::Postgres);
        self.kill("postgres");
        let data = self.postgres_data();
        let owner = fs::metadata(&data).expect("a folder");
        fs::remove_dir_all(&data).expect("a folder that can be removed");
        let mut copy = Command::new("pg_basebackup");
        copy.args(["-R", "-X", "stream", "-c", "fast", "-d", primary, "-D"]).arg(&data);
        let copied = output_within(LIMIT, &mut copy);
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        // The server may run as a user of its own.
        let to = format!("{}:{}", owner.uid(), owner.gid());
        let owned = Command::new("chown").args(["-R", &to]).arg(&data).status().expect("chown is installed");
        assert!(owned.success());
        self.up(Server::Postgres)
    }

    /// Starts a Kafka of three brokers.
    pub(crate) fn three_brokers(&self) -> String {
        value(&self.run(&["up", "kafka", "--brokers", "3"]), "KAFKA_BROKERS")
    }

    /// Starts a Kafka of one broker with further settings, or restarts it with them; they override the earlier ones.
    pub(crate) fn kafka_with(&self, settings: &str) -> String {
        let file = self.folder.path().join("servers/kafka/1/server.properties");
        if !file.exists() {
            let mut command = script(Some(&self.folder));
            command.env("KAFKA_PROPERTIES", settings);
            return value(&run(command, &["up", "kafka"]), "KAFKA_BROKERS");
        }
        self.kill("kafka");
        let mut file = OpenOptions::new().append(true).open(file).expect("a broker's settings");
        file.write_all(settings.as_bytes()).expect("a file that can be written");
        self.up(Server::Kafka)
    }

    /// Starts a pool in front of a Postgres that is up here, in a mode of its own: `transaction`, for instance.
    pub(crate) fn pool(&self, mode: &str) -> String {
        self.up(Server::Pgbouncer);
        self.kill("pgbouncer");
        let file = self.folder.path().join("servers/pgbouncer/data/pgbouncer.ini");
        let mut file = OpenOptions::new().append(true).open(file).expect("the settings of the pool");
        writeln!(file, "pool_mode = {mode}").expect("a file that can be written");
        self.up(Server::Pgbouncer)
    }

    /// Starts a Kafka of one broker with ACLs: a topic without an ACL allows all operations.
    pub(crate) fn kafka_with_acls(&self) -> String {
        let authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
        self.kafka_with(&format!("authorizer.class.name={authorizer}\nallow.everyone.if.no.acl.found=true\n"))
    }

    /// Allows or forbids an operation on a resource, as `["--topic", name]`.
    pub(crate) fn permit(&self, brokers: &str, resource: [&str; 2], operation: &str, is_allowed: bool) {
        let acl = |arguments: &[&str]| {
            let tool = ["org.apache.kafka.tools.AclCommand", "--bootstrap-server", brokers, "--force"];
            self.tool(&[&tool[..], &resource, arguments].concat());
        };
        if is_allowed {
            acl(&["--remove", "--deny-principal", "User:*", "--operation", operation]);
        } else {
            acl(&["--add", "--allow-principal", "User:*", "--operation", "All"]);
            acl(&["--add", "--deny-principal", "User:*", "--operation", operation]);
        }
    }

    /// Runs one of Kafka's own tools.
    pub(crate) fn tool(&self, arguments: &[&str]) {
        self.run(&[&["tool"], arguments].concat());
    }

    /// Ends a server, or one broker by its number as `kafka.2`, by SIGKILL.
    pub(crate) fn kill(&self, name: &str) {
        self.run(&["kill", name]);
    }

    /// Pauses a server by SIGSTOP.
    pub(crate) fn pause(&self, name: &str) {
        self.run(&["pause", name]);
    }

    /// Resumes a server.
    pub(crate) fn resume(&self, name: &str) {
        self.run(&["resume", name]);
    }

    /// Removes the second half of the first broker's log of a partition, as a crash of the only up-to-date replica
    /// would. The broker must not run.
    pub(crate) fn cut_log(&self, topic: &str, partition: i32) {
        let log = format!("servers/kafka/1/data/{topic}-{partition}/00000000000000000000.log");
        let log = OpenOptions::new().write(true).open(self.folder.path().join(log)).expect("a log");
        let length = log.metadata().expect("a length").len();
        log.set_len(length / 2).expect("a log that can be cut");
    }

    fn run(&self, arguments: &[&str]) -> String {
        run(script(Some(&self.folder)), arguments)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.run(&["down", "--purge"]);
    }
}

/// The script. Where a folder is given, the servers are in it, and those that the environment names are ignored.
fn script(folder: Option<&TempDir>) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/servers"));
    if let Some(folder) = folder {
        command.env("ORDERSTREAM_SERVERS", folder.path().join("servers"));
        // A broker of one test ends before the second compiler of the JVM would pay off.
        command.env("KAFKA_JVM_PERFORMANCE_OPTS", "-XX:+UseSerialGC -XX:TieredStopAtLevel=1");
        // A server of one test is durable, also where the shared one is not.
        let shared = ["POSTGRES_DSN", "REDIS_ADDR", "KAFKA_BROKERS", "PGBOUNCER_DSN", "SERVERS_FSYNC"];
        for name in shared {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the script, and answers what it printed.
fn run(mut command: Command, arguments: &[&str]) -> String {
    let output = output_within(LIMIT, command.args(arguments));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/servers {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("it prints text")
}

/// The value of a variable among lines of `NAME=value`.
fn value(lines: &str, variable: &str) -> String {
    let value = lines.lines().find_map(|line| line.strip_prefix(variable)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {variable} in: {lines}")).to_owned()
}

/// `host:port` in the DSN of a Postgres with one host.
pub(crate) fn host(dsn: &str) -> String {
    let rest = dsn.rsplit_once('@').map_or(dsn, |(_, rest)| rest);
    rest.split(['/', '?']).next().expect("a part before the first of them").to_owned()
}
