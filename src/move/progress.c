#include "move/progress.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

const char *const gw_step_names[GW_STEPS] = {"stop",    "last_pages", "dump",  "files", "images",
                                             "restore", "commit",     "route", "resume"};

struct gw_progress {
	_Atomic int refs;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t version;
	struct gw_facts_of_run now;
};

struct gw_progress *gw_progress_new(const char *id, const char *container, const char *from, const char *to,
                                    bool incoming)
{
	struct gw_progress *p = calloc(1, sizeof(*p));
	assert(p);
	p->refs = 1;
	p->version = 1;
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_t a;
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &a);
	pthread_condattr_destroy(&a);
	struct gw_facts_of_run *r = &p->now;
	(void)snprintf(r->id, sizeof(r->id), "%s", id);
	(void)snprintf(r->container, sizeof(r->container), "%s", container);
	(void)snprintf(r->from, sizeof(r->from), "%s", from);
	(void)snprintf(r->to, sizeof(r->to), "%s", to);
	(void)snprintf(r->phase, sizeof(r->phase), "Preparing");
	r->incoming = incoming;
	r->cpu_percent = 100;
	r->started_ms = gw_now_ms();
	return p;
}

struct gw_progress *gw_progress_ref(struct gw_progress *p)
{
	atomic_fetch_add(&p->refs, 1);
	return p;
}

void gw_progress_unref(struct gw_progress *p)
{
	if (!p || atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

struct gw_facts_of_run *gw_progress_edit(struct gw_progress *p)
{
	pthread_mutex_lock(&p->lock);
	return &p->now;
}

void gw_progress_done(struct gw_progress *p)
{
	p->version++;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

void gw_progress_phase(struct gw_progress *p, const char *phase)
{
	struct gw_facts_of_run *r = gw_progress_edit(p);
	(void)snprintf(r->phase, sizeof(r->phase), "%s", phase);
	gw_progress_done(p);
}

void gw_progress_end(struct gw_progress *p, const char *phase, const struct gw_err *why)
{
	struct gw_facts_of_run *r = gw_progress_edit(p);
	(void)snprintf(r->phase, sizeof(r->phase), "%s", phase);
	if (why)
		r->err = *why;
	r->ended_ms = gw_now_ms();
	gw_progress_done(p);
}

void gw_progress_get(struct gw_progress *p, uint64_t *inout_version, int timeout_ms, struct gw_facts_of_run *out)
{
	struct timespec end;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += timeout_ms / 1000;
	end.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (end.tv_nsec >= 1000000000) {
		end.tv_sec++;
		end.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&p->lock);
	while (*inout_version == p->version && !p->now.ended_ms)
		if (pthread_cond_timedwait(&p->changed, &p->lock, &end) != 0)
			break;
	*inout_version = p->version;
	*out = p->now;
	pthread_mutex_unlock(&p->lock);
}

static double ms(uint64_t us)
{
	return (double)us / 1000.0;
}

static void steps_to_json(const struct gw_facts_of_run *r, yyjson_mut_doc *doc, yyjson_mut_val *o)
{
	yyjson_mut_val *s = yyjson_mut_obj(doc);
	for (int i = 0; i < GW_STEPS; i++)
		yyjson_mut_obj_add_real(doc, s, gw_step_names[i], ms(r->step_us[i]));
	yyjson_mut_obj_add_val(doc, o, "steps", s);
}

static void error_to_json(const struct gw_err *e, yyjson_mut_doc *doc, yyjson_mut_val *o)
{
	yyjson_mut_val *x = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_strcpy(doc, x, "code", e->code);
	yyjson_mut_obj_add_strcpy(doc, x, "class", gw_class_name(e->class));
	yyjson_mut_obj_add_strcpy(doc, x, "text", e->text);
	yyjson_mut_obj_add_val(doc, o, "error", x);
}

void gw_run_to_json(const struct gw_facts_of_run *r, yyjson_mut_doc *doc, yyjson_mut_val *o)
{
	yyjson_mut_obj_add_strcpy(doc, o, "id", r->id);
	yyjson_mut_obj_add_strcpy(doc, o, "container", r->container);
	yyjson_mut_obj_add_strcpy(doc, o, "from", r->from);
	yyjson_mut_obj_add_strcpy(doc, o, "to", r->to);
	yyjson_mut_obj_add_bool(doc, o, "incoming", r->incoming);
	yyjson_mut_obj_add_strcpy(doc, o, "phase", r->phase);
	yyjson_mut_obj_add_uint(doc, o, "rounds", r->rounds);
	yyjson_mut_obj_add_uint(doc, o, "processes", r->processes);
	yyjson_mut_obj_add_uint(doc, o, "threads", r->threads);
	yyjson_mut_obj_add_uint(doc, o, "total_pages", r->total_pages);
	yyjson_mut_obj_add_uint(doc, o, "sent_pages", r->sent_pages);
	yyjson_mut_obj_add_uint(doc, o, "zero_pages", r->zero_pages);
	yyjson_mut_obj_add_uint(doc, o, "bytes", r->bytes);
	yyjson_mut_obj_add_uint(doc, o, "wire_bytes", r->wire_bytes);
	yyjson_mut_obj_add_uint(doc, o, "files", r->files);
	yyjson_mut_obj_add_uint(doc, o, "file_bytes", r->file_bytes);
	yyjson_mut_obj_add_uint(doc, o, "image_bytes", r->image_bytes);
	yyjson_mut_obj_add_uint(doc, o, "dirty_rate_bps", r->dirty_rate_bps);
	yyjson_mut_obj_add_uint(doc, o, "send_rate_bps", r->send_rate_bps);
	yyjson_mut_obj_add_real(doc, o, "predicted_freeze_ms", ms(r->predicted_us));
	yyjson_mut_obj_add_real(doc, o, "freeze_ms", ms(r->freeze_us));
	yyjson_mut_obj_add_real(doc, o, "precopy_ms", ms(r->precopy_us));
	yyjson_mut_obj_add_real(doc, o, "precopy_mib_per_s", (double)r->precopy_bytes_per_s / 1048576.0);
	steps_to_json(r, doc, o);
	yyjson_mut_obj_add_uint(doc, o, "held_packets", r->held_packets);
	yyjson_mut_obj_add_uint(doc, o, "faults", r->faults);
	yyjson_mut_obj_add_uint(doc, o, "dest_left_bytes", r->dest_left_bytes);
	yyjson_mut_obj_add_uint(doc, o, "cpu_percent", r->cpu_percent);
	yyjson_mut_obj_add_strcpy(doc, o, "backend", r->backend);
	yyjson_mut_obj_add_uint(doc, o, "frozen_at_us", r->frozen_at_us);
	yyjson_mut_obj_add_uint(doc, o, "resumed_at_us", r->resumed_at_us);
	uint64_t end = r->ended_ms ?: gw_now_ms();
	yyjson_mut_obj_add_uint(doc, o, "elapsed_ms", end - r->started_ms);
	yyjson_mut_obj_add_bool(doc, o, "ended", r->ended_ms != 0);
	if (r->err.class != GW_OK)
		error_to_json(&r->err, doc, o);
}
