# PostgreSQL, for scripts/servers. All settings but those below have their defaults; it listens on TCP alone.
# shellcheck shell=bash

# Postgres refuses to run as root: then its own user runs it.
as_postgres=()
((EUID != 0)) || as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups)

# The folder of the newest server programs, or nothing.
postgres_bin() {
  compgen -G '/usr/lib/postgresql/*/bin/postgres' | sort -V | tail -n 1 | xargs -r dirname
}

postgres_install() {
  [[ -z $(postgres_bin) ]] || return 0
  # Debian's package would also start a cluster of its own on port 5432: this prevents it, for this installation.
  local no_cluster=/etc/postgresql-common/createcluster.d/orderstream-none.conf failed=0
  as_root mkdir -p "${no_cluster%/*}"
  as_root tee "$no_cluster" <<<"create_main_cluster = false" >/dev/null
  install_packages postgresql || failed=1
  as_root rm -f "$no_cluster"
  ((failed == 0)) || die "could not install the package postgresql"
}

postgres_create() (
  bin=$(postgres_bin)
  mkdir "$1/data"
  free_ports 1 >"$1/port"
  ((EUID != 0)) || chown postgres: "$1" "$1/data"
  # Leaves a folder that its user may not enter.
  cd /
  "${as_postgres[@]}" "$bin/initdb" --pgdata="$1/data" --username=postgres --auth=trust --encoding=UTF8 \
    --locale=C.UTF-8 >/dev/null
  "${as_postgres[@]}" "$bin/postgres" --single -D "$1/data" -c log_checkpoints=off postgres \
    <<<"CREATE DATABASE orderstream" >/dev/null
)

postgres_start() {
  # Nothing runs in the folder now. Its last postmaster may still be a zombie, where init does not reap processes, and
  # would count as alive.
  rm -f "$(folder "$1")/data/postmaster.pid"
  # The two settings of durability are its defaults, written down for clarity. SERVERS_FSYNC=off is for
  # tests that never stop a server: commits that it confirmed would not survive a crash of the machine.
  launch "$1" "${as_postgres[@]}" "$(postgres_bin)/postgres" -D "$(folder "$1")/data" -h 127.0.0.1 \
    -p "$(<"$(folder "$1")/port")" -N 200 -c unix_socket_directories= \
    -c "fsync=${SERVERS_FSYNC:-on}" -c synchronous_commit=on
}

postgres_ready() {
  "$(postgres_bin)/pg_isready" -q -h 127.0.0.1 -p "$(<"$(folder "$1")/port")"
}

# The postmaster first, then its children, also those that outlived it: each works in the data folder.
postgres_processes() {
  processes_in_data "$1" "$(postgres_bin)/postgres"
}

postgres_address() {
  echo "postgres://postgres@$1/orderstream"
}
