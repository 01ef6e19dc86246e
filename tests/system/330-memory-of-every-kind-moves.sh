#!/usr/bin/env bash
# Memory: written all the time, shared, sparse, locked, moving, protected.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/victims.sh"
need_migration
set -- pages shared passers kinds vmas
victims_plan "$@"
for v in "$@"; do there_and_back "$v"; done
