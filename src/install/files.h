#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/gw_err.h"

/* files: putting files in place so that at every moment, also of a power cut,
 * there is the old one or the new one, whole. */

/* Create or replace. An existing file's owner and mode stay, mode is for a new one. */
int gw_fs_put(const char *path, const void *data, size_t len, mode_t mode, struct gw_err *e);
/* A symbolic link, in place of one that leads elsewhere. */
int gw_fs_link(const char *target, const char *path, struct gw_err *e);
bool gw_fs_leads_to(const char *path, const char *target);
/* Everything below the folder `from` (a descriptor) as the new folder `to`:
 * regular files, folders and links, with their modes. `to` is there whole or
 * not at all. */
int gw_fs_copy_tree(int from, const char *to, struct gw_err *e);
bool gw_fs_exists(const char *path);
/* Entries of a folder whose name does not begin with a dot; 0 when there is none. */
size_t gw_fs_count(const char *dir);
