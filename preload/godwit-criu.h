/* SPDX-License-Identifier: MIT */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* The parts of libgodwit-criu.so that have rules of their own to test. */

/* pid of a packed criu_resp holding a criu_notify (rpc.proto: resp.notify is
 * field 5, notify.pid field 2), or -1. */
int gwc_notify_pid(const void *buf, size_t len);

/* A packed criu_req for a restore whose log level (opts is field 2,
 * opts.log_level field 9) is above 2, warnings: made 2, in place. false: it is
 * no such thing. */
bool gwc_quiet(void *buf, size_t len);

/* Do what CRIU asks `tar` for, in this process, and exit; return when the
 * tree or the image needs the real tar. Standard input and output are where
 * CRIU put them (criu/filesystems.c: tmpfs_dump, tmpfs_restore). */
void gwc_tar(char *const argv[]);

/* Pack the directory dirfd into a gzip'ed (stored) ustar on out. -1: not a
 * simple tree (a hard link, a long name, a socket, an xattr, a big file). */
int gwc_pack(int dirfd, int out);
/* Unpack what gwc_pack made into dirfd. -1: not one of ours. */
int gwc_unpack(int in, int dirfd);

/* child.c: CRIU has opened a file (fd, or -1). A fork after a tmpfs' image is tar's. */
void gwc_child_opened(const char *path, int fd);

/* Text of /proc/PID/fdinfo/FD: a periodic timerfd that is due is said to be
 * due, in place. false: it is nothing of that kind. */
bool gwc_fdinfo_wind(char *text);
/* fd, or in its place (fd is closed) a file that says so. */
int gwc_fdinfo_open(int fd);

static inline bool gwc_mode_is(const char *want)
{
	const char *m = getenv("GODWIT_CRIU_MODE");
	return m && !strcmp(m, want);
}

/* A question to godwit ("WHAT PID ID\n"), which is found beside the images. The
 * answer: 'g', 's', 'n', or 0; the descriptor that came with it, or -1. */
char gwc_ask(int images, const char *what, unsigned long id, int *out_fd);

/* ipc.c: CRIU opens an image. *out_fd >= 0: this in its place. false: it must fail. */
bool gwc_ipc_open(int images, const char *path, int *out_fd);
/* What is in the IPC namespace is there already, made by another container's restore. */
bool gwc_ipc_made(void);
/* CRIU writes to a file; true: it is kept back. */
bool gwc_ipc_write(int fd, const void *buf, size_t len);

/* shmem.c: CRIU has made a memfd; CRIU opens an image (false: it must fail). */
void gwc_shmem_made(int fd, unsigned flags);
bool gwc_shmem_open(int images, const char *path);
