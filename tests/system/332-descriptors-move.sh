#!/usr/bin/env bash
# Descriptors: pipes, sockets, files, epoll and what hangs on it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/victims.sh"
need_migration
set -- pipes sockets files events echo
victims_plan "$@"
for v in "$@"; do there_and_back "$v"; done
