#pragma once
/* room: datagram sockets of a container that begins to run again get more room.
 *
 * What was held during the freeze comes at once then, and a socket of the usual
 * size (net.core.rmem_default) takes some ninety small datagrams that its program
 * has not read; the rest would be lost. So for the moment each takes 8 MiB, which
 * are used only when something comes. The program could see it by getsockopt.
 *
 * Sockets are got from its processes by pidfd_getfd(2) and not kept, or what the
 * program closes would not be closed. One thread. If godwitd ends before
 * gw_room_end the sockets keep the room, which harms nobody. */
struct gw_room;

/* Those that the processes in `cgroup_dir`, stopped or not, have open in the
 * network namespace of its first one that is in another than we. NULL: it has
 * none, or they cannot be had. Tens of microseconds without any, else that and
 * some for each open file, of at most 4096. */
struct gw_room *gw_room_make(const char *cgroup_dir);
/* As it was, for those that are still open, as soon as they have been read; those
 * that are not read within 2 s keep it. NULL is fine. */
void gw_room_end(struct gw_room *r);
/* Of a container that has ended. NULL is fine. */
void gw_room_free(struct gw_room *r);
