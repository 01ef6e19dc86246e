#pragma once
#include <yyjson.h>

#include "cmdline.h"

/* confine: containers of this runtime make no io_uring, so that they can move.
 *
 * CRIU cannot save an io_uring. A seccomp profile that refuses what it does not
 * name is the way to forbid it (programs then use epoll), and Kubernetes'
 * RuntimeDefault is one; but that of containerd before 2.0 names io_uring. So
 * `create` strikes it from what such a profile of the container's config.json
 * allows. The annotation live.godwit.dev/io-uring: allow leaves it in. A
 * container without a profile, or with one that refuses otherwise than by an
 * error, is left alone: the check says what it holds. */

/* 0, also when there is nothing to do or the config cannot be read (runc says
 * it better); < 0 when it cannot be written. */
int confine(const struct cmdline *c, struct gw_err *e);

/* The same on a config that was read. true: something was struck. */
bool confine_config(yyjson_mut_doc *config);
