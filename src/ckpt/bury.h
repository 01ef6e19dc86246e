#pragma once

/* bury: give back the memory of processes that are dead but for the letting go.
 *
 * A process that is killed frees its memory itself, at its own priority: a
 * gigabyte takes a core for a tenth of a second, in which whoever else is due on
 * that core waits. So the memory goes first, by a child of ours that gets a core
 * only when nobody else wants it; after PATIENCE_MS (bury.c) one like everybody.
 *
 * freezer_dir: a cgroup of which every process has SIGKILL pending and stands:
 * frozen (v1) or held by a tracer. On v2 they may end by themselves meanwhile.
 * Nothing depends on its success: what is not freed here, the end of the process
 * frees. Blocks for as long as it takes, seconds at most. Any thread. */
void gw_bury(const char *freezer_dir);
