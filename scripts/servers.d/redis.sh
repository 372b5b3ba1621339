# Redis, for scripts/servers. It is a cache: it writes nothing to disk, and is empty after a stop.
# shellcheck shell=bash

redis_install() {
  ! command -v redis-server redis-cli >/dev/null || return 0
  # Debian's package would also start a service on port 6379, now and at every boot: this prevents it.
  local policy=/usr/sbin/policy-rc.d ours=0 failed=0
  if [[ ! -e $policy ]]; then
    ours=1
    as_root install -m 755 /dev/stdin "$policy" <<<$'#!/bin/sh\nexit 101'
  fi
  install_packages redis-server || failed=1
  ((ours == 0)) || as_root rm -f "$policy"
  ((failed == 0)) || die "could not install the package redis-server"
  as_root update-rc.d redis-server disable >&2
}

redis_create() {
  mkdir "$1/data"
  free_ports 1 >"$1/port"
}

redis_start() {
  launch "$1" redis-server --bind 127.0.0.1 --port "$(<"$(folder "$1")/port")" --save '' --appendonly no
}

redis_ready() {
  [[ $(redis-cli -h 127.0.0.1 -p "$(<"$(folder "$1")/port")" ping 2>&1) == PONG ]]
}

redis_processes() {
  main_process "$1"
}

redis_address() {
  echo "$1"
}
