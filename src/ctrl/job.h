#pragma once
#include "ctrl/observe.h"

/* job: how a Job's pod changes places without the Job noticing.
 *
 * A Job counts its pods (controllers/job): one that is deleted has failed, unless
 * the finalizer batch.kubernetes.io/job-tracking is off it; one too many, and the
 * newest goes, which would be the target; one too few, and another is made, unless
 * one that is terminating has to be waited for (podReplacementPolicy Failed). So,
 * after the commit:
 *
 *   1 the Job's policy and what the source has of it (labels, owner) are noted in
 *     the Migration, the policy becomes Failed;
 *   2 the source loses the finalizer, then it is deleted: it is terminating;
 *   3 the target gets labels, owner and finalizer: it is the one that is counted;
 *   4 the source's process may end; the policy becomes what it was.
 *
 * Until step 3 the target has none of the source's labels, or the Job would adopt it. */
#define CTRL_JOB_FINALIZER "batch.kubernetes.io/job-tracking"

/* The Job of the source, or the one noted, into v->seen. 0 although it is gone. */
int ctrl_job_look(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, struct gw_err *e);
int ctrl_job_note(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e);
int ctrl_job_policy(struct gw_kube *k, const struct gw_migration *m, const char *policy, struct gw_err *e);
int ctrl_job_leave(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e);
int ctrl_job_adopt(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e);
