# PgBouncer, for scripts/servers: a pool in front of this folder's own PostgreSQL, which must be up before. It shares
# connections between transactions; `pool_mode` in data/pgbouncer.ini says so.
# shellcheck shell=bash

pgbouncer_install() {
  postgres_install
  [[ ! -x /usr/sbin/pgbouncer ]] || return 0
  # Debian's package would also start a service of its own on port 6432: this prevents it, for this installation.
  local no_service=/usr/sbin/policy-rc.d failed=0
  [[ -e $no_service ]] || as_root install -m 755 /dev/stdin "$no_service" <<<'#!/bin/sh
# orderstream: no service is started
exit 101'
  install_packages pgbouncer || failed=1
  ! grep -q '^# orderstream: ' "$no_service" || as_root rm -f "$no_service"
  ((failed == 0)) || die "could not install the package pgbouncer"
}

pgbouncer_create() (
  postgres=$(units postgres)
  [[ -n $postgres ]] || die "pgbouncer needs a postgres; run: scripts/servers up postgres pgbouncer"
  mkdir "$1/data"
  free_ports 1 >"$1/port"
  cat >"$1/data/pgbouncer.ini" <<INI
[databases]
orderstream = host=127.0.0.1 port=$(<"$(folder "$postgres")/port") user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $(<"$1/port")
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 200
INI
  ((EUID != 0)) || chown -R postgres: "$1"
)

pgbouncer_start() {
  launch "$1" "${as_postgres[@]}" /usr/sbin/pgbouncer "$(folder "$1")/data/pgbouncer.ini"
}

pgbouncer_ready() {
  "$(postgres_bin)/pg_isready" -q -h 127.0.0.1 -p "$(<"$(folder "$1")/port")"
}

pgbouncer_processes() {
  processes_in_data "$1" /usr/sbin/pgbouncer
}

pgbouncer_address() {
  echo "postgres://postgres@$1/orderstream"
}
