#pragma once
#include "ctrl/observe.h"

/* events: what kubectl describe shows of a migration, on the Migration and on
 * both of its pods (events.k8s.io/v1): Started, PreCopy, Committed, and how it
 * ended; on pods with "Migration" in front, where kubelet has a Started of its own.
 *
 * What is due follows from the status alone, and an Event's name from migration,
 * object and reason: one that a controller before this one has made is
 * AlreadyExists. An Event that cannot be made is left out; nothing waits for it.
 * One thread at a time. */
enum ctrl_event { CTRL_EVENT_STARTED, CTRL_EVENT_PRECOPY, CTRL_EVENT_COMMITTED, CTRL_EVENT_END };

/* The set (bit n: enum ctrl_event n) that this status is due. None of a mere check. */
unsigned ctrl_events_due(const struct gw_migration *m);
/* Makes those of `due` that are not in `told`. */
void ctrl_events_tell(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, const char *instance,
                      unsigned told, unsigned due);
/* An Event's name: unique, and the same every time. */
void ctrl_event_name(const struct gw_migration *m, const char *object, char role, const char *reason,
                     char out[GW_K8S_NAME]);
