#!/usr/bin/env bash
# Processes that fork, threads that come and go or sleep, ids, limits, signals, timers.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/victims.sh"
need_migration
set -- idle forks threads ipc signals timers sleepers
victims_plan "$@"
for v in "$@"; do there_and_back "$v"; done
