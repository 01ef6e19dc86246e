#pragma once
#include <stdint.h>

/* track_uffd: what others need of the userfaultfd backend. Any thread. */

/* Turn on what we need; -errno. */
int gw_uffd_api(int uffd);
/* Registering again what is registered by the same descriptor is fine.
 *   -EINVAL  nothing that can be tracked there (any more)
 *   -EPERM   the same, or nobody can write through this mapping
 *   -EBUSY   another userfaultfd has it
 *   -ENOMEM  no memory, or the process has another memory by now */
int gw_uffd_register(int uffd, uint64_t start, uint64_t end);
/* Protect, or take the protection away; -errno. */
int gw_uffd_protect(int uffd, uint64_t start, uint64_t end, bool on);
