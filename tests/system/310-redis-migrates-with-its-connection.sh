#!/usr/bin/env bash
# The main thing: a redis under load moves, its client notices nothing but a wait.
. "$(dirname "$0")/lib.sh"
need_migration
plan 14

check "redis starts on host-a" redis host-a r310 200
check "a client holds one connection and writes 5,000 keys a second" load_start r310 --rate 5000 --pipeline 16 --keys 20000
digest_before=$(cli r310 debug digest-value k:30000 2>/dev/null)
check "it may move, says the check" "$TOP/bin/godwit" check r310 --to host-b
load_ctl r310 mark before >/dev/null
check "it moves to host-b" migrate r310 host-b
is "the result says where from and where to" "$(field "$T/migrate.json" from) $(field "$T/migrate.json" to) $(field "$T/migrate.json" phase)" "host-a host-b Done"
check "rounds, bytes, freeze and prediction are in the result" less 0 "$(field "$T/migrate.json" freeze_ms)"
diag <"$T/migrate.json"
is "runc knows it on host-b" "$(where r310)" host-b
is "runc knows it on host-a no more" "$(on host-a runc list -q | grep -c r310)" 0
is "no process of it is left on host-a" "$(on host-a pgrep -c redis-server)" 0
sleep 1
load_ctl r310 mark after >"$T/mark"
diag <"$T/mark"
# With several segments under way TCP probes the tail after some milliseconds, which
# counts as a retransmit; a lost packet would be a timeout.
is "the client's TCP lost no packet" "$(field "$T/mark" timeouts)" 0
check "every key is right, by the client's own books" load_stop r310
is "over the connection it began with" "$(field "$T/load-r310.end" same_port) $(field "$T/load-r310.end" lost)" "true 0"
check "a new client is served on host-b" cli r310 ping
is "keys that nobody wrote to are what they were" "$(cli r310 debug digest-value k:30000 2>/dev/null)" "$digest_before"
