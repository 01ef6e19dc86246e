#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/gw_err.h"
#include "base/json.h"

/* progress: what anyone may ask of one migration while it runs and after.
 *
 * Written by the migration's thread, read by `godwit status` and watchers;
 * the lock is held for copies only, never over I/O. Reference-counted. */
enum gw_step {
	GW_STEP_STOP,       /* the freezer */
	GW_STEP_LAST_PAGES, /* scan, send, stored there; beside the dump */
	GW_STEP_DUMP,       /* CRIU */
	GW_STEP_FILES,      /* changed ones, beside the dump */
	GW_STEP_IMAGES,     /* CRIU's images on their way */
	GW_STEP_RESTORE,    /* there, until every task is rebuilt */
	GW_STEP_COMMIT,     /* commit to committed; the copy runs */
	GW_STEP_ROUTE,      /* this host's route turned */
	GW_STEP_RESUME,     /* there, part of commit: route and resume */
	GW_STEPS
};
extern const char *const gw_step_names[GW_STEPS];

struct gw_facts_of_run {
	char id[40], container[256], from[128], to[128];
	bool incoming;  /* seen from the destination */
	char phase[24]; /* Checking, Preparing, PreCopy, Freezing, Committing, InDoubt, Done, Failed, Cancelled */
	uint32_t rounds, processes, threads;
	uint64_t total_pages, sent_pages, zero_pages;
	uint64_t bytes, wire_bytes;
	uint64_t files, file_bytes; /* names of the container's trees; sent of them */
	uint64_t image_bytes;       /* of CRIU's images, memory that it keeps included: they travel in the freeze */
	uint64_t dirty_rate_bps, send_rate_bps;
	uint64_t predicted_us, freeze_us, precopy_us;
	uint64_t frozen_at_us, resumed_at_us; /* CLOCK_MONOTONIC of the source */
	uint64_t precopy_bytes_per_s;
	uint64_t step_us[GW_STEPS];
	uint64_t held_packets, faults, dest_left_bytes;
	uint32_t cpu_percent; /* left to the writer; 100 when not slowed */
	char backend[16];
	struct gw_err err;
	uint64_t started_ms, ended_ms; /* monotonic; ended 0 while it runs */
};

struct gw_progress;
struct gw_progress *gw_progress_new(const char *id, const char *container, const char *from, const char *to,
                                    bool incoming);
struct gw_progress *gw_progress_ref(struct gw_progress *p);
void gw_progress_unref(struct gw_progress *p);

/* The migration's thread: change under the lock, wake watchers. */
struct gw_facts_of_run *gw_progress_edit(struct gw_progress *p);
void gw_progress_done(struct gw_progress *p);
void gw_progress_phase(struct gw_progress *p, const char *phase);
void gw_progress_end(struct gw_progress *p, const char *phase, const struct gw_err *why); /* why NULL: success */

/* A copy of now. *inout_version: wait until it differs (0: do not wait), at most timeout_ms. */
void gw_progress_get(struct gw_progress *p, uint64_t *inout_version, int timeout_ms, struct gw_facts_of_run *out);
void gw_run_to_json(const struct gw_facts_of_run *r, yyjson_mut_doc *doc, yyjson_mut_val *o);
