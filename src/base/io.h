#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/gw_err.h"

/* io: whole reads, whole writes, whole files, descriptors over sockets.
 *
 * All calls restart on EINTR. Blocking. Any thread, one at a time per fd. */

/* Read or write exactly len bytes. 0 on success; -ECONNRESET when the other
 * end closed early; -errno otherwise. Writes to a socket raise no SIGPIPE. */
int gw_read_full(int fd, void *buf, size_t len);
int gw_write_full(int fd, const void *buf, size_t len);

/* The whole file as a NUL-terminated string the caller frees. Files over
 * max_bytes are refused (-EFBIG). Works on /proc (size unknown). */
int gw_read_file(const char *path, size_t max_bytes, char **out_text, size_t *out_len, struct gw_err *e);

/* Create or replace path with text, mode 0600, atomically by rename. */
int gw_write_file(const char *path, const void *data, size_t len, struct gw_err *e);

/* One write(2) into an existing control file (cgroup, sysctl). -errno. */
int gw_write_knob(const char *path, const char *value);

/* mkdir -p, mode 0700 for what is made. */
int gw_mkdirs(const char *path, struct gw_err *e);

/* rm -rf, staying on one file system, never through symlinks. Missing is fine. */
int gw_remove_tree(const char *path, struct gw_err *e);

/* One datagram or stream message with up to 8 descriptors. The receiver owns
 * what it gets (O_CLOEXEC). recv returns the byte count, 0 at end of file. */
int gw_send_fds(int sock, const void *buf, size_t len, const int *fds, unsigned nfds);
ssize_t gw_recv_fds(int sock, void *buf, size_t len, int *out_fds, unsigned *inout_nfds);

/* A listening SOCK_STREAM unix socket at path (an old one is removed), mode 0600. */
int gw_unix_listen(const char *path, int *out_fd, struct gw_err *e);
int gw_unix_connect(const char *path, int *out_fd, struct gw_err *e);

/* snprintf into a fixed path; asserts that it fits. */
[[gnu::format(printf, 3, 4)]]
void gw_path(char *out, size_t size, const char *fmt, ...);
