# Apache Kafka in KRaft mode, for scripts/servers: every broker is a controller too. Its jars come by Maven, as
# scripts/kafka/pom.xml lists them, into a cache folder of the user's.
#
# Durable as in production has Kafka's meaning: a producer with acks=all is answered when every in-sync replica, and at
# least two of three brokers, have the record in the page cache of their system; the system flushes it to disk, as by
# Kafka's default. So a crash of one broker, or of all three, loses nothing; a power failure of all three machines at
# once may.
# shellcheck shell=bash disable=SC2154 # `here`, `root`, START_SECONDS: of scripts/servers

kafka_pom=$here/kafka/pom.xml
kafka_cache=${XDG_CACHE_HOME:-~/.cache}/orderstream/kafka-$(sed -n 's:.*<kafka.version>\(.*\)</.*:\1:p' "$kafka_pom")
# A file of classes is that of one JVM: another Java, or an update of it, gets its own.
kafka_classes=$kafka_cache/classes-$(stat -Lc '%n %Y' "$(command -v java)" 2>/dev/null | cksum | cut -d' ' -f1).jsa

kafka_install() {
  command -v java >/dev/null || install_packages openjdk-17-jre-headless
  [[ -d $kafka_cache/libs ]] || kafka_download
}

# Maven's own folder is not changed: the files that it needs besides are deleted again.
kafka_download() (
  command -v mvn >/dev/null || install_packages maven
  mkdir -p "$kafka_cache"
  exec 8>"$kafka_cache/lock"
  flock 8
  [[ ! -d $kafka_cache/libs ]] || return 0
  say "downloading Kafka to $kafka_cache"
  cd "$kafka_cache" || exit
  rm -rf part
  mvn -q -B --strict-checksums -f "$kafka_pom" -Dmaven.repo.local="$PWD/part/maven" \
    dependency:copy-dependencies -DoutputDirectory="$PWD/part/libs" >&2 9>&- || die "could not download Kafka"
  mv part/libs libs
  rm -rf part
)

# Half of a broker's start is the loading of its classes. A first broker, which stops at once, leaves them in a file
# that the JVM of every later one maps into memory. Where that fails, brokers start without the file.
kafka_archive() (
  set +e
  exec 8>"$kafka_cache/lock" && flock 8 || return
  [[ ! -e $kafka_classes ]] || return
  say "preparing the classes of Kafka in $kafka_cache"
  unset KAFKA_BROKERS KAFKA_PROPERTIES KAFKA_JVM_PERFORMANCE_OPTS
  ORDERSTREAM_SERVERS=$(mktemp -d) || return
  export ORDERSTREAM_SERVERS KAFKA_ARCHIVE=$kafka_classes.part
  trap '"$here/servers" down --purge 8>&-' EXIT
  # The file is written when the broker stops in order; --purge alone kills it.
  "$here/servers" up kafka >/dev/null 8>&- && "$here/servers" down 8>&- && mv "$KAFKA_ARCHIVE" "$kafka_classes" ||
    say "brokers start without it"
)

kafka_java() {
  java -Dlog4j2.configurationFile="$here/kafka/log4j2.properties" -cp "$kafka_cache/libs/*" "$@"
}

kafka_create() {
  local count=$2 ports voters="" id
  [[ -e $kafka_classes || -n ${KAFKA_ARCHIVE:-} ]] || kafka_archive || true
  read -ra ports < <(free_ports $((2 * count)))
  for ((id = 1; id <= count; id++)); do
    voters+=,$id@127.0.0.1:${ports[2 * id - 1]}
  done
  for ((id = 1; id <= count; id++)); do
    mkdir -p "$1/$id/data"
    echo "${ports[2 * id - 2]}" >"$1/$id/port"
    kafka_properties "$id" "$count" "${ports[2 * id - 2]}" "${ports[2 * id - 1]}" "${voters#,}" \
      >"$1/$id/server.properties"
    printf '%s' "${KAFKA_PROPERTIES:-}" >>"$1/$id/server.properties"
  done
  # 16 random bytes, as Kafka writes them; a leading minus would look like an option.
  echo "k$(head -c 15 /dev/urandom | base64 | tr +/ _-)A" >"$1/cluster"
}

# A broker that does not find an active controller ends itself after a minute by default.
kafka_properties() {
  cat <<PROPERTIES
process.roles=broker,controller
node.id=$1
listeners=BROKER://127.0.0.1:$3,CONTROLLER://127.0.0.1:$4
advertised.listeners=BROKER://127.0.0.1:$3
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
controller.quorum.voters=$5
log.dirs=$root/kafka/$1/data
auto.create.topics.enable=false
default.replication.factor=$2
min.insync.replicas=$((($2 + 1) / 2))
offsets.topic.replication.factor=$2
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$2
transaction.state.log.min.isr=$((($2 + 1) / 2))
transaction.state.log.num.partitions=4
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
initial.broker.registration.timeout.ms=$((START_SECONDS * 1000))
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=8388608
PROPERTIES
}

# Its data folder is formatted at the first start, in the same process, because three brokers do that faster
# concurrently. It ends before the JIT compiler would pay off.
kafka_start() {
  local options classes=-XX:SharedArchiveFile=$kafka_classes
  [[ -z ${KAFKA_ARCHIVE:-} ]] || classes=-XX:ArchiveClassesAtExit=$KAFKA_ARCHIVE
  read -ra options <<<"${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseSerialGC}"
  # shellcheck disable=SC2016 # expanded by that bash
  launch "$1" bash -c '
    cluster=$(<../../cluster)
    [[ -e meta.properties ]] ||
      "$@" -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format -t "$cluster" -c ../server.properties || exit
    exec "$@" kafka.Kafka ../server.properties' kafka \
    java -Xmx384m "${options[@]}" "$classes" -Dlog4j2.configurationFile="$here/kafka/log4j2.properties" \
    -cp "$kafka_cache/libs/*"
}

# A port that answers is not enough: this line is logged when the broker has joined its cluster.
kafka_ready() {
  grep -q 'Kafka Server started' "$(folder "$1")/log"
}

# The broker, or the shell that becomes it; then processes that outlived it, as the formatting may: they work in the
# data folder, too, and would block the next start.
kafka_processes() {
  processes_in_data "$1" "$(command -v java)"
}

kafka_address() {
  echo "$1"
}
