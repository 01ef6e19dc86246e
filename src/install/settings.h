#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/gw_err.h"

/* settings: the runtime handler "godwit" in containerd's settings, as text.
 *
 * Added as a block of lines at the end of the main file, between two marks, so
 * that what is not ours stays letter for letter as it is. Not as a file that
 * the main one imports: containerd 1.x lets an imported file replace the whole
 * section of the CRI plugin instead of adding to it.
 *
 * Table names follow the file's version (1, 2 or 3); containerd 1.6 to 2.x read
 * all versions up to their own. How containers are made (cgroup driver,
 * snapshotter, ...) is taken from the default runtime, out of what
 * `containerd config dump` says. Pure; results are the caller's to free. */

/* text: the main file, "" when there is none; dump: of containerd with it. */
int gw_settings_with(const char *text, const char *dump, const char *runtime, char **out, struct gw_err *e);
/* Exactly what it was before gw_settings_with; a text without our block is copied. */
char *gw_settings_without(const char *text);
bool gw_settings_has(const char *text);
/* Has containerd understood it? dump: with the block. */
bool gw_settings_taken(const char *dump, const char *runtime);
/* Is ours what a pod gets that names none? */
bool gw_settings_is_default(const char *dump);
/* The value of a key of the dump's first level ("state"), or of the default
 * runtime's options ("options/Root"), without quotes; "" when it isn't there. */
void gw_settings_value(const char *dump, const char *key, char *out, size_t size);
