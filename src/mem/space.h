#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* space: one thing that has pages and keeps them through a migration.
 *
 * A process's private anonymous memory (offset = virtual address), or a
 * shared anonymous object mapped by one or more processes (offset = offset in
 * the object). Ids are given by the tracker, count from 1, never reused. */
enum gw_space_kind { GW_SPACE_PROC = 1, GW_SPACE_SHMEM = 2 };

struct gw_space {
	uint32_t id;
	enum gw_space_kind kind;
	pid_t pid;           /* on the source, host pid namespace: whom to read it from (SHMEM: one that maps it) */
	pid_t vpid;          /* PROC: pid inside the container: how CRIU's restore names it */
	uint64_t shmid;      /* SHMEM: as CRIU's images name it: inode, or System V id */
	uint64_t size_bytes; /* SHMEM: of the object */
	bool sysv;           /* SHMEM: a System V segment */
	int fd;              /* SHMEM, on the source: the object itself, to read from; the tracker's */
	const char *name;    /* SHMEM: of the memfd it becomes */
};

/* A run of pages, in offsets of its space. Same layout as wire's gw_run. */
struct gw_span {
	uint64_t addr;
	uint32_t npages;
	uint32_t flags;
};
