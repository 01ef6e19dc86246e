#pragma once
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "files/apply.h"
#include "files/names.h"
#include "files/record.h"

/* apply_priv: shared by apply.c and apply_steps.c only. */
struct gw_apply_tree {
	int fd; /* -1: no root */
	enum gw_apply_kind kind;
	char dir[PATH_MAX];
};

struct gw_apply {
	struct gw_apply_tree trees[GW_REC_TREES_MAX];
	/* The directory and the file used last: mostly the next record's too. */
	int dir_fd, file_fd;
	uint32_t dir_tree, file_tree;
	char dir[PATH_MAX], file[PATH_MAX];
	struct gw_rec rec;
	/* Of a layer that waits: an overlay, where it may wait, allows neither. */
	struct gw_names whiteouts, opaque;
};

/* Forget the descriptors: names may lead elsewhere now. */
void gw_apply_forget(struct gw_apply *a);
/* The directory of r's path and its last component. -1 with errno. */
int gw_apply_parent(struct gw_apply *a, uint32_t tree, const char *path, const char **out_name);
int gw_apply_step(struct gw_apply *a, const struct gw_rec *r, struct gw_err *e);
